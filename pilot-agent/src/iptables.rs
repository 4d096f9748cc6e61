//! Traffic capture: from flags to rules in the kernel, and their removal.

use std::{fs, time::Duration};

use anyhow::{Context as _, bail};
use mesh_core::duration;
use nix::unistd::User;

pub mod binary;
pub mod config;
pub mod generate;
pub mod netlink;
mod replace;
pub mod ruleset;
pub mod state;
pub mod validate;

use self::{
    binary::Binary,
    config::{Config, Family, Host, Inbound, Mode},
    netlink::Change,
    ruleset::Ruleset,
};
use crate::{address, args::IptablesFlags, env::Env, exit};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const DEFAULT_PROXY_USER: &str = "istio-proxy";

/// Runs the command `istio-iptables`.
///
/// # Errors
/// If flags are invalid, the kernel refuses the rules, or (exit status 126) the validation fails.
pub async fn run(flags: &IptablesFlags, env: &Env) -> anyhow::Result<()> {
    if flags.native_nftables {
        bail!("--native-nftables is not supported: rules are written with iptables");
    }
    if flags.cni_mode
        || flags
            .network_namespace
            .as_deref()
            .is_some_and(|path| !path.is_empty())
    {
        bail!(
            "--network-namespace and --cni-mode are not supported: enter the namespace first, for \
             example with nsenter --net=PATH"
        );
    }
    if flags.cleanup_only {
        return clean(flags);
    }
    let host = host(env)?;
    let config = Config::new(flags, env, &host).map_err(exit::usage)?;
    warn(&config, flags, env);
    tracing::info!(?config, "capture configuration");
    let sets: Vec<(Family, Ruleset)> = config
        .families()
        .into_iter()
        .map(|family| (family, generate::rules(&config, family)))
        .collect();
    if flags.dry_run {
        for (family, rules) in &sets {
            let program = match family {
                Family::V4 => "iptables",
                Family::V6 => "ip6tables",
            };
            println!("# {program}-restore --noflush\n{}", rules.render());
        }
        return Ok(());
    }
    if !flags.skip_rule_apply {
        for (family, rules) in &sets {
            apply(flags, *family, rules)?;
        }
        routes(&config)?;
    }
    if flags.run_validation {
        let limit = flags
            .probe_timeout
            .as_deref()
            .map_or(Some(Duration::from_secs(5)), |text| {
                duration::parse(text.trim()).ok()
            });
        let limit = limit.with_context(|| {
            format!(
                "invalid --probe-timeout {:?}: want a number with a unit, such as 5s",
                flags.probe_timeout
            )
        })?;
        validate::run(&config, flags.iptables_probe_port, limit)
            .await
            .map_err(exit::validation)?;
        tracing::info!("the test connection was redirected: the rules work");
    }
    Ok(())
}

/// Properties of this machine that the rules depend on.
fn host(env: &Env) -> anyhow::Result<Host> {
    let name = env.text("ENVOY_USER", DEFAULT_PROXY_USER);
    let proxy_user = User::from_name(&name)
        .ok()
        .flatten()
        .map(|user| user.uid.as_raw());
    let resolv_conf = match fs::read_to_string(RESOLV_CONF) {
        Ok(text) => text,
        Err(error) => {
            tracing::debug!(%error, file = RESOLV_CONF, "cannot read the name servers");
            String::new()
        }
    };
    Ok(Host {
        addresses: address::own(&[]).context("cannot list the addresses of this machine")?,
        name_servers: config::name_servers(&resolv_conf),
        proxy_user,
    })
}

fn warn(config: &Config, flags: &IptablesFlags, env: &Env) {
    if config.proxy_uids.len() > 1 {
        tracing::warn!(
            "several values of --proxy-uid: only for the first one, calls of the proxy to its own \
             service are redirected to the inbound port"
        );
    }
    if matches!(config.inbound, Inbound::Ports(_))
        && flags
            .local_exclude_ports
            .as_deref()
            .is_some_and(|p| !p.is_empty())
    {
        tracing::warn!(
            "--istio-local-exclude-ports has no effect without --istio-inbound-ports '*'"
        );
    }
    let wants_dns =
        flags.redirect_dns || matches!(env.bool("ISTIO_META_DNS_CAPTURE", false), Ok(true));
    if wants_dns && config.dns.is_none() {
        tracing::warn!(
            file = RESOLV_CONF,
            "no name server found: DNS is not captured"
        );
    }
}

fn apply(flags: &IptablesFlags, family: Family, wanted: &Ruleset) -> anyhow::Result<()> {
    let binary = Binary::detect(family, flags.force_iptables_binary.as_deref())?;
    let saved = binary.save()?;
    let text = if saved.has_residue() {
        let difference = match saved.difference(wanted) {
            Some(difference) => Some(difference),
            None => missing_rule(&binary, wanted)?,
        };
        match difference {
            None if !flags.force_apply => {
                tracing::info!(program = binary.program(), "the rules are already in place");
                return Ok(());
            }
            Some(difference) if !flags.reconcile && !flags.force_apply => bail!(
                "{} has different capture rules ({difference}): use --reconcile to replace them, \
                 or remove them first with --cleanup-only",
                binary.program()
            ),
            _ => wanted.render_replacing(&saved),
        }
    } else {
        wanted.render()
    };
    binary
        .restore(&text)
        .with_context(|| format!("cannot apply these rules:\n{text}"))?;
    tracing::info!(
        program = binary.program(),
        "capture rules are in force:\n{}",
        binary.save_text()?
    );
    Ok(())
}

fn missing_rule(binary: &Binary, wanted: &Ruleset) -> anyhow::Result<Option<String>> {
    for rule in wanted.rules() {
        if !binary.has(rule)? {
            return Ok(Some(format!(
                "rule {} {} is missing from table {}",
                rule.chain,
                rule.spec,
                rule.table.name()
            )));
        }
    }
    Ok(None)
}

fn routes(config: &Config) -> anyhow::Result<()> {
    for family in config.families() {
        if config.mode == Mode::Tproxy {
            netlink::mark_rule(
                Change::Add,
                family,
                config.tproxy_mark,
                config.tproxy_route_table,
            )
            .context("cannot add the routing rule for marked packets")?;
            netlink::local_route(Change::Add, family, config.tproxy_route_table)
                .context("cannot add the local route for marked packets")?;
        }
        if family == Family::V6 {
            netlink::own_source_v6(Change::Add)
                .context("cannot add the address ::6 to the loopback interface")?;
        }
    }
    Ok(())
}

/// Removes all rules of this program, as found in the kernel, whatever flags they were created
/// with.
fn clean(flags: &IptablesFlags) -> anyhow::Result<()> {
    let mark = flags
        .tproxy_mark
        .as_deref()
        .and_then(|mark| mark.parse().ok())
        .unwrap_or(1337);
    let table = flags
        .tproxy_route_table
        .as_deref()
        .and_then(|table| table.parse().ok())
        .unwrap_or(133);
    let mut failures = Vec::new();
    for family in [Family::V4, Family::V6] {
        match Binary::detect(family, flags.force_iptables_binary.as_deref()) {
            Ok(binary) => {
                if let Err(error) = clean_rules(&binary, flags.dry_run) {
                    failures.push(format!("{error:#}"));
                }
            }
            Err(error) if family == Family::V4 => failures.push(format!("{error:#}")),
            Err(error) => tracing::debug!(
                error = format!("{error:#}"),
                "no usable ip6tables: nothing to clean up"
            ),
        }
        if !flags.dry_run {
            for result in [
                netlink::mark_rule(Change::Remove, family, mark, table),
                netlink::local_route(Change::Remove, family, table),
            ] {
                // A family that the kernel lacks has nothing to clean up.
                if let Err(error) = result {
                    tracing::debug!(?family, %error, "cannot remove the routing rules");
                }
            }
        }
    }
    if !flags.dry_run
        && let Err(error) = netlink::own_source_v6(Change::Remove)
    {
        tracing::debug!(%error, "cannot remove the address ::6");
    }
    if failures.is_empty() {
        Ok(())
    } else {
        bail!("{}", failures.join("; "))
    }
}

fn clean_rules(binary: &Binary, dry_run: bool) -> anyhow::Result<()> {
    let text = binary.save()?.render_cleanup();
    if text.is_empty() {
        return Ok(());
    }
    if dry_run {
        println!("# {}-restore --noflush\n{text}", binary.program());
        return Ok(());
    }
    binary
        .restore(&text)
        .with_context(|| format!("cannot apply the clean-up:\n{text}"))
}
