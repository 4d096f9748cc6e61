//! Traffic capture: from flags to rules in the kernel, and away again.

use std::{fs, time::Duration};

use anyhow::{Context as _, bail};
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
use crate::{address, args::IptablesFlags, duration, env::Env, exit};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const DEFAULT_PROXY_USER: &str = "istio-proxy";

/// Runs the command `istio-iptables`.
///
/// # Errors
/// Bad flags, rules that the kernel refuses, or (exit status 126) a failed validation.
pub async fn run(flags: &IptablesFlags, env: &Env) -> anyhow::Result<()> {
    if flags.native_nftables {
        bail!("--native-nftables: this build writes its rules by iptables only");
    }
    if flags.cni_mode
        || flags
            .network_namespace
            .as_deref()
            .is_some_and(|path| !path.is_empty())
    {
        bail!(
            "--network-namespace, --cni-mode: enter the namespace first, for example by nsenter --net=PATH"
        );
    }
    if flags.cleanup_only {
        return clean(flags);
    }
    let host = host(env)?;
    let config = Config::new(flags, env, &host).map_err(exit::usage)?;
    warn(&config, flags, env);
    tracing::info!(?config, "capture rules wanted");
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
            .map_or(Some(Duration::from_secs(5)), duration::parse);
        let limit = limit.with_context(|| {
            format!(
                "--probe-timeout: {:?} is not a duration",
                flags.probe_timeout
            )
        })?;
        validate::run(&config, flags.iptables_probe_port, limit)
            .await
            .map_err(exit::validation)?;
        tracing::info!("a test connection was redirected: the rules work");
    }
    Ok(())
}

/// Facts of this machine that the rules depend on.
fn host(env: &Env) -> anyhow::Result<Host> {
    let name = env.text("ENVOY_USER", DEFAULT_PROXY_USER);
    let proxy_user = User::from_name(&name)
        .ok()
        .flatten()
        .map(|user| user.uid.as_raw());
    let resolv_conf = match fs::read_to_string(RESOLV_CONF) {
        Ok(text) => text,
        Err(error) => {
            tracing::debug!(%error, "no {RESOLV_CONF}");
            String::new()
        }
    };
    Ok(Host {
        addresses: address::own(&[]).context("the addresses of this machine cannot be listed")?,
        name_servers: config::name_servers(&resolv_conf),
        proxy_user,
    })
}

fn warn(config: &Config, flags: &IptablesFlags, env: &Env) {
    if config.proxy_uids.len() > 1 {
        tracing::warn!(
            "several --proxy-uid: only the first one gets calls to its own service through the inbound port"
        );
    }
    if matches!(config.inbound, Inbound::Ports(_))
        && flags
            .local_exclude_ports
            .as_deref()
            .is_some_and(|p| !p.is_empty())
    {
        tracing::warn!(
            "--istio-local-exclude-ports is only used together with --istio-inbound-ports '*'"
        );
    }
    let wants_dns =
        flags.redirect_dns || matches!(env.bool("ISTIO_META_DNS_CAPTURE", false), Ok(true));
    if wants_dns && config.dns.is_none() {
        tracing::warn!("{RESOLV_CONF} names no server: DNS is not captured");
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
                tracing::info!(program = binary.program(), "the rules are in force already");
                return Ok(());
            }
            Some(difference) if !flags.reconcile && !flags.force_apply => bail!(
                "{} holds other capture rules ({difference}): run with --reconcile to replace them, or with \
                 --cleanup-only first",
                binary.program()
            ),
            _ => wanted.render_replacing(&saved),
        }
    } else {
        wanted.render()
    };
    binary
        .restore(&text)
        .with_context(|| format!("these rules were not accepted:\n{text}"))?;
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
                "rule {} {} is missing in table {}",
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
            .context("the routing rule for marked packets was refused")?;
            netlink::local_route(Change::Add, family, config.tproxy_route_table)
                .context("the local route for marked packets was refused")?;
        }
        if family == Family::V6 {
            netlink::own_source_v6(Change::Add)
                .context("address ::6 cannot be given to the loopback interface")?;
        }
    }
    Ok(())
}

/// Removes all that is ours, judged by what is there, whatever flags it was made with.
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
                "no ip6tables: nothing to clean"
            ),
        }
        if !flags.dry_run {
            for result in [
                netlink::mark_rule(Change::Remove, family, mark, table),
                netlink::local_route(Change::Remove, family, table),
            ] {
                // A family that the kernel lacks has nothing to clean.
                if let Err(error) = result {
                    tracing::debug!(?family, %error, "routing was not changed");
                }
            }
        }
    }
    if !flags.dry_run
        && let Err(error) = netlink::own_source_v6(Change::Remove)
    {
        tracing::debug!(%error, "address ::6 was not removed");
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
        .with_context(|| format!("clean-up was not accepted:\n{text}"))
}
