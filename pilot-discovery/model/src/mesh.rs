//! Mesh-wide settings with their defaults filled in.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use istio_api::{
    mesh::v1alpha1::{
        MeshConfig,
        mesh_config::{inbound_traffic_policy, outbound_traffic_policy},
    },
    networking::v1alpha3::{HttpRetry, LocalityLoadBalancerSetting},
};

use crate::{
    hashed::{Spec, hash_of},
    lookup::{Lookup, failover_labels},
};

/// What happens to traffic for unknown hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutboundPolicy {
    /// It is forwarded as it is.
    AllowAny,
    /// It is blocked.
    RegistryOnly,
}

/// The mesh config for generators: `MeshConfig` with defaults filled in.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// DNS suffix of the cluster, e.g. `cluster.local`.
    pub domain: Arc<str>,
    /// Trust domain of identities (`trustDomain`); `cluster.local` by default.
    pub trust_domain: Arc<str>,
    /// Further trust domains that servers may present (`trustDomainAliases`).
    pub trust_domain_aliases: Vec<String>,
    /// Namespace whose policies hold for the whole mesh (`rootNamespace`).
    pub root_namespace: Arc<str>,
    /// Time to establish a TCP connection (`connectTimeout`); 10 s by default.
    pub connect_timeout: Duration,
    /// Port of outbound capture (`proxyListenPort`), 15001 by default; 0 if disabled.
    pub outbound_port: u32,
    /// Port of inbound capture (`proxyInboundListenPort`), 15006 by default.
    pub inbound_port: u32,
    /// Port of the explicit HTTP proxy (`proxyHttpPort`); 0 = none.
    pub http_proxy_port: u32,
    /// What happens to traffic for unknown hosts.
    pub outbound_policy: OutboundPolicy,
    /// Inbound traffic goes to 127.0.0.1 instead of the Pod's address.
    pub inbound_localhost: bool,
    /// Clients use mutual TLS where servers support it (`enableAutoMtls`).
    pub auto_mtls: bool,
    /// Interval at which proxies resolve names again (`dnsRefreshRate`); 60 s by default.
    pub dns_refresh_rate: Duration,
    /// How long detection waits for the first bytes (`protocolDetectionTimeout`); 0 = without limit.
    pub protocol_detection_timeout: Duration,
    /// File of access logs (`accessLogFile`); empty = no access log.
    pub access_log_file: String,
    /// Access log lines are JSON (`accessLogEncoding`).
    pub access_log_json: bool,
    /// Format of access log lines; empty = the default (`accessLogFormat`).
    pub access_log_format: String,
    /// Locality load balancing (`localityLbSetting`); `None` if disabled.
    pub locality_lb: Option<LocalityLoadBalancerSetting>,
    /// Retries of routes without a retry policy (`defaultHttpRetryPolicy`).
    pub default_retry: Option<HttpRetry>,
    /// `exportTo` of services that have none (`defaultServiceExportTo`).
    pub service_export_to: Vec<String>,
    /// `exportTo` of VirtualServices that have none (`defaultVirtualServiceExportTo`).
    pub virtual_service_export_to: Vec<String>,
    /// `exportTo` of DestinationRules that have none (`defaultDestinationRuleExportTo`).
    pub destination_rule_export_to: Vec<String>,
    /// The whole message, for fields that have no counterpart here.
    pub config: Arc<MeshConfig>,
    version: u128,
}

impl Mesh {
    /// Fills in the defaults. `domain` is the DNS suffix of the cluster.
    pub fn new(config: MeshConfig, domain: &str) -> Self {
        let port = |value: i32, default: u32| match u32::try_from(value) {
            Ok(0) => default,
            Ok(port) => port,
            Err(_) => 0,
        };
        let outbound_policy = match config.outbound_traffic_policy.as_ref() {
            Some(policy) if policy.mode() == outbound_traffic_policy::Mode::RegistryOnly => {
                OutboundPolicy::RegistryOnly
            }
            _ => OutboundPolicy::AllowAny,
        };
        let locality_lb = match &config.locality_lb_setting {
            Some(setting) if setting.enabled == Some(false) => None,
            Some(setting) => Some(setting.clone()),
            None => Some(LocalityLoadBalancerSetting::default()),
        };
        Self {
            domain: domain.into(),
            trust_domain: or(&config.trust_domain, "cluster.local").into(),
            trust_domain_aliases: config.trust_domain_aliases.clone(),
            root_namespace: or(&config.root_namespace, "istio-system").into(),
            connect_timeout: duration(config.connect_timeout.as_ref(), Duration::from_secs(10)),
            outbound_port: port(config.proxy_listen_port, 15001),
            inbound_port: port(config.proxy_inbound_listen_port, 15006),
            http_proxy_port: port(config.proxy_http_port, 0),
            outbound_policy,
            inbound_localhost: config
                .inbound_traffic_policy
                .as_ref()
                .is_some_and(|policy| policy.mode() == inbound_traffic_policy::Mode::Localhost),
            auto_mtls: config.enable_auto_mtls.unwrap_or(true),
            dns_refresh_rate: duration(config.dns_refresh_rate.as_ref(), Duration::from_secs(60)),
            protocol_detection_timeout: duration(
                config.protocol_detection_timeout.as_ref(),
                Duration::ZERO,
            ),
            access_log_file: config.access_log_file.clone(),
            access_log_json: config.access_log_encoding() as i32 == 1,
            access_log_format: config.access_log_format.clone(),
            locality_lb,
            default_retry: config.default_http_retry_policy.clone(),
            service_export_to: config.default_service_export_to.clone(),
            virtual_service_export_to: config.default_virtual_service_export_to.clone(),
            destination_rule_export_to: config.default_destination_rule_export_to.clone(),
            version: hash_of(&(Spec(config.clone()), domain)),
            config: Arc::new(config),
        }
    }

    /// The properties of proxies that the mesh settings use.
    pub(crate) fn lookup(&self) -> Lookup {
        let setting = self.locality_lb.as_ref();
        Lookup {
            clients: setting.into_iter().flat_map(failover_labels).collect(),
            locality: setting.is_some_and(|setting| !setting.distribute.is_empty()),
            ..Lookup::default()
        }
    }

    /// Hash of the whole mesh config.
    pub fn version(&self) -> u128 {
        self.version
    }
}

/// Only the version: all fields follow from the message and the domain, which it covers.
impl Hash for Mesh {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.version.hash(state);
    }
}

impl Default for Mesh {
    fn default() -> Self {
        Self::new(MeshConfig::default(), "cluster.local")
    }
}

/// A protobuf duration, or `default` when it is absent or negative.
pub fn duration(value: Option<&prost_types::Duration>, default: Duration) -> Duration {
    value
        .and_then(|value| Duration::try_from(*value).ok())
        .unwrap_or(default)
}

fn or<'a>(value: &'a str, default: &'a str) -> &'a str {
    if value.is_empty() { default } else { value }
}
