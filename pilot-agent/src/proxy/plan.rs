//! Decisions made before anything runs.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, bail};
use mesh_common::version;
use tokio::{net::lookup_host, time::Instant};

use super::Surroundings;
use crate::{
    address::{self, Families},
    args::{ProxyFlags, Role},
    bootstrap::{HostPort, San},
    env::Env,
    node, podinfo,
    proxy_config::{self, Effective, Layers, ProxyConfig},
    settings::{Paths, Settings},
};

/// How long to wait for addresses.
const ADDRESS_LIMIT: Duration = Duration::from_secs(120);
const ADDRESS_PERIOD: Duration = Duration::from_millis(100);
const EXCLUDE_INTERFACES: &str = "traffic.sidecar.istio.io/excludeInterfaces";

/// Decisions made before anything runs.
pub(super) struct Plan<'a> {
    pub(super) flags: &'a ProxyFlags,
    pub(super) settings: Settings,
    pub(super) surroundings: &'a Surroundings,
    pub(super) role: Role,
    pub(super) effective: Effective,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) families: Families,
    pub(super) node: node::Node,
    pub(super) discovery: HostPort,
    pub(super) discovery_name: String,
    pub(super) sans: Vec<San>,
    pub(super) statsd: Option<SocketAddr>,
}

impl<'a> Plan<'a> {
    pub(super) async fn read(
        flags: &'a ProxyFlags,
        env: &Env,
        surroundings: &'a Surroundings,
    ) -> anyhow::Result<Self> {
        tracing::info!(?flags, version = version::INFO.version, "starting");
        let settings = Settings::read(env, flags.trust_domain.as_deref())?;
        let labels = pod_info(&surroundings.paths, "labels");
        let annotations = pod_info(&surroundings.paths, "annotations");
        let mesh = match fs::read_to_string(&flags.mesh_config) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => bail!("cannot read {} (--meshConfig): {error}", flags.mesh_config),
        };
        let effective = proxy_config::effective(&Layers {
            mesh: mesh.as_deref(),
            environment: env.get("PROXY_CONFIG"),
            annotations: Some(&annotations),
            flags: Some(flags),
        })?;
        tracing::info!(
            "effective proxy configuration:\n{}",
            serde_yaml::to_string(&effective.json)?
        );
        let addresses = addresses(flags, &settings, &annotations).await?;
        let families = Families::of(&addresses, settings.dual_stack);
        let discovery =
            HostPort::parse(&effective.config.discovery_address).with_context(|| {
                format!(
                    "invalid discoveryAddress {:?}: want host:port",
                    effective.config.discovery_address
                )
            })?;
        let discovery_name = settings
            .pilot_san
            .clone()
            .unwrap_or_else(|| discovery.host.clone());
        let sans = pilot_names(&discovery_name, &settings.trust_domain);
        let pilot_san: Vec<String> = sans
            .iter()
            .map(|san| match san {
                San::Uri(name) | San::Dns(name) => name.clone(),
            })
            .collect();
        let role = flags.role.unwrap_or(Role::Sidecar);
        let node = node::build(&node::Inputs {
            role,
            id: flags.id.as_deref(),
            domain: flags.domain.as_deref(),
            service_cluster: flags.service_cluster.as_deref(),
            env,
            config: &effective.config,
            config_json: &effective.json,
            labels: &labels,
            annotations: &annotations,
            addresses: &addresses,
            pilot_san: &pilot_san,
            version: version::INFO.version,
            envoy_status_port: settings.envoy_status_port,
            envoy_prometheus_port: settings.envoy_prometheus_port,
        });
        for warning in &node.warnings {
            tracing::warn!("{warning}");
        }
        let statsd = resolve_statsd(&effective.config.statsd_udp_address).await;
        Ok(Self {
            flags,
            settings,
            surroundings,
            role,
            effective,
            annotations,
            addresses,
            families,
            node,
            discovery,
            discovery_name,
            sans,
            statsd,
        })
    }

    pub(super) const fn config(&self) -> &ProxyConfig {
        &self.effective.config
    }
}

/// Labels or annotations; empty without a usable file.
fn pod_info(paths: &Paths, file: &str) -> BTreeMap<String, String> {
    let path = paths.pod_info(file);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "no file with Pod information");
            return BTreeMap::new();
        }
    };
    podinfo::parse(&text)
        .inspect_err(|error| {
            tracing::warn!(path = %path.display(), %error, "ignoring invalid Pod information");
        })
        .unwrap_or_default()
}

async fn addresses(
    flags: &ProxyFlags,
    settings: &Settings,
    annotations: &BTreeMap<String, String>,
) -> anyhow::Result<Vec<IpAddr>> {
    let flag = match flags.ip.as_deref().filter(|ip| !ip.is_empty()) {
        None => None,
        Some(ip) => Some(
            ip.parse::<IpAddr>()
                .with_context(|| format!("invalid --ip {ip:?}: want an IP address"))?,
        ),
    };
    let given: Vec<IpAddr> = flag.or(settings.instance_ip).into_iter().collect();
    let excluded: Vec<String> = annotations
        .get(EXCLUDE_INTERFACES)
        .map(|names| {
            names
                .split(',')
                .map(|name| name.trim().to_owned())
                .collect()
        })
        .unwrap_or_default();
    let deadline = Instant::now() + ADDRESS_LIMIT;
    loop {
        let own = address::own(&excluded).context("cannot list the addresses of this Pod")?;
        let all = address::merge(&given, &own);
        if !all.is_empty() {
            return Ok(all);
        }
        if Instant::now() >= deadline {
            tracing::warn!("no address found, using the loopback address");
            return Ok(vec![IpAddr::from([127, 0, 0, 1])]);
        }
        tokio::time::sleep(ADDRESS_PERIOD).await;
    }
}

/// Accepted names in pilot's certificate: its identity in the namespace of its host name, or the
/// host name.
fn pilot_names(name: &str, trust_domain: &str) -> Vec<San> {
    let namespace = name
        .split('.')
        .nth(1)
        .filter(|_| name.parse::<IpAddr>().is_err())
        .unwrap_or("istio-system");
    vec![
        San::Uri(format!(
            "spiffe://{trust_domain}/ns/{namespace}/sa/istio-pilot-service-account"
        )),
        San::Dns(name.to_owned()),
    ]
}

async fn resolve_statsd(address: &str) -> Option<SocketAddr> {
    if address.is_empty() {
        return None;
    }
    let resolved = lookup_host(address).await.map(|mut found| found.next());
    match resolved {
        Ok(Some(found)) => Some(found),
        Ok(None) => {
            tracing::warn!(address, "statsd disabled: its host name has no address");
            None
        }
        Err(error) => {
            tracing::warn!(address, %error, "statsd disabled: cannot resolve its host name");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pilot_is_known_by_identity_or_name() {
        assert_eq!(
            pilot_names("istio-pilot.mesh.svc", "td"),
            [
                San::Uri("spiffe://td/ns/mesh/sa/istio-pilot-service-account".to_owned()),
                San::Dns("istio-pilot.mesh.svc".to_owned())
            ]
        );
        assert_eq!(
            pilot_names("10.0.0.1", "td")[0],
            San::Uri("spiffe://td/ns/istio-system/sa/istio-pilot-service-account".to_owned())
        );
    }
}
