//! A connected proxy, as its xDS node describes it.

use std::{net::IpAddr, sync::Arc};

use istio_api::envoy::config::core::v3::Node;
use prost_types::{Struct, Value, value::Kind};

use crate::{config::Labels, credential::Account, service::Locality};

/// Role of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyType {
    /// A proxy next to an application.
    Sidecar,
    /// A gateway.
    Router,
}

/// How a sidecar captures traffic (`INTERCEPTION_MODE`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interception {
    /// `REDIRECT` rules of iptables.
    #[default]
    Redirect,
    /// `TPROXY` rules of iptables; keeps the client's address.
    Tproxy,
    /// No capture.
    None,
}

/// Address families of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpMode {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// IPv4 and IPv6.
    Dual,
}

impl IpMode {
    fn of(ips: &[IpAddr]) -> Self {
        match (
            ips.iter().any(IpAddr::is_ipv4),
            ips.iter().any(IpAddr::is_ipv6),
        ) {
            (true, true) => Self::Dual,
            (false, true) => Self::V6,
            _ => Self::V4,
        }
    }

    /// The unspecified addresses, that of the first family first.
    pub fn wildcards(self) -> &'static [&'static str] {
        match self {
            Self::V4 => &["0.0.0.0"],
            Self::V6 => &["::"],
            Self::Dual => &["0.0.0.0", "::"],
        }
    }

    /// The unspecified address of the first family.
    pub fn wildcard(self) -> &'static str {
        if self == Self::V6 { "::" } else { "0.0.0.0" }
    }

    /// The loopback address of the first family.
    pub fn loopback(self) -> &'static str {
        if self == Self::V6 { "::1" } else { "127.0.0.1" }
    }

    /// Source address of connections from the proxy to its application.
    pub fn inbound_source(self) -> &'static str {
        if self == Self::V6 { "::6" } else { "127.0.0.6" }
    }
}

/// Why the first request of a proxy was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The first request has no node.
    #[error("missing node information")]
    Missing,
    /// The node ID does not have four parts.
    #[error("node id {0:?} needs four parts <type>~<ip>~<name>.<namespace>~<dns domain>")]
    Parts(String),
    /// The type is not supported.
    #[error("node type {0:?} is not supported: want sidecar or router")]
    Type(String),
    /// There is no valid address.
    #[error("node {0:?} has no valid IP address in INSTANCE_IPS or its id")]
    NoIp(String),
}

/// A proxy as described by its node.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Sidecar or gateway.
    pub kind: ProxyType,
    /// `<pod>.<namespace>`.
    pub id: Arc<str>,
    /// Namespace of the Pod.
    pub namespace: Arc<str>,
    /// `<namespace>.svc.<suffix>`.
    pub dns_domain: Arc<str>,
    /// Addresses; the first identifies it; never empty.
    pub ips: Vec<IpAddr>,
    /// Address families that it can use.
    pub ip_mode: IpMode,
    /// Labels of the Pod (`LABELS`).
    pub labels: Arc<Labels>,
    /// Kubernetes cluster of the proxy (`CLUSTER_ID`); empty when it names none.
    pub cluster_id: Arc<str>,
    /// Network of the proxy (`NETWORK`); empty when it names none.
    pub network: Arc<str>,
    /// Region, zone and sub-zone.
    pub locality: Locality,
    /// How traffic is captured (`INTERCEPTION_MODE`).
    pub interception: Interception,
    /// Name of the service account according to the node; empty if not given.
    pub service_account: Arc<str>,
    /// The account proved by its certificate, in its namespace. Never from the node: the code that
    /// verifies the certificate sets it.
    pub verified: Option<Account>,
    /// Node of the Pod (`NODE_NAME`).
    pub node_name: Arc<str>,
    /// Version of the proxy (`ISTIO_VERSION`).
    pub version: Arc<str>,
    /// Cannot bind ports below 1024.
    pub unprivileged: bool,
    /// Accepts HTTP/1.0 (`HTTP10`).
    pub http10: bool,
    /// Port of readiness checks, reserved on the proxy.
    pub status_port: u32,
    /// Port of Envoy's statistics, reserved on the proxy.
    pub prometheus_port: u32,
}

impl Proxy {
    /// Parses the node of a first request.
    ///
    /// # Errors
    /// If there is no node, its ID is malformed, its type is not supported or no address is valid.
    pub fn parse(node: Option<&Node>) -> Result<Self, NodeError> {
        let node = node
            .filter(|node| !node.id.is_empty())
            .ok_or(NodeError::Missing)?;
        let parts: Vec<&str> = node.id.split('~').collect();
        let [kind, ip, id, dns_domain] = *parts.as_slice() else {
            return Err(NodeError::Parts(node.id.clone()));
        };
        let kind = match kind {
            "sidecar" => ProxyType::Sidecar,
            "router" | "ingress" => ProxyType::Router,
            other => return Err(NodeError::Type(other.to_owned())),
        };
        let empty = Struct::default();
        let meta = Metadata(node.metadata.as_ref().unwrap_or(&empty));
        let ips = addresses(meta.text("INSTANCE_IPS").unwrap_or_default(), ip)
            .ok_or_else(|| NodeError::NoIp(node.id.clone()))?;
        let namespace = meta
            .text("NAMESPACE")
            .or_else(|| meta.text("CONFIG_NAMESPACE"))
            .or_else(|| dns_domain.split_once('.').map(|(namespace, _)| namespace))
            .unwrap_or_default();
        let locality = node
            .locality
            .as_ref()
            .map_or_else(Locality::default, |l| Locality {
                region: l.region.as_str().into(),
                zone: l.zone.as_str().into(),
                subzone: l.sub_zone.as_str().into(),
            });
        let labels = meta.labels("LABELS");
        let locality = labels
            .get("topology.istio.io/locality")
            .or_else(|| labels.get("istio-locality"))
            .map_or(locality, |text| Locality::parse(&text.replace('.', "/")));
        Ok(Self {
            kind,
            id: id.into(),
            namespace: namespace.into(),
            dns_domain: dns_domain.into(),
            ip_mode: IpMode::of(&ips),
            ips,
            labels: Arc::new(labels),
            cluster_id: meta.arc("CLUSTER_ID"),
            network: meta.arc("NETWORK"),
            locality,
            interception: match meta.text("INTERCEPTION_MODE") {
                Some("TPROXY") => Interception::Tproxy,
                Some("NONE") => Interception::None,
                _ => Interception::Redirect,
            },
            service_account: meta.arc("SERVICE_ACCOUNT"),
            verified: None,
            node_name: meta.arc("NODE_NAME"),
            version: meta
                .text("ISTIO_VERSION")
                .or_else(|| meta.text("ISTIO_PROXY_VERSION"))
                .unwrap_or_default()
                .into(),
            unprivileged: meta.text("UNPRIVILEGED_POD") == Some("true"),
            http10: meta.text("HTTP10") == Some("1"),
            status_port: meta.port("ENVOY_STATUS_PORT", 15021),
            prometheus_port: meta.port("ENVOY_PROMETHEUS_PORT", 15090),
        })
    }
}

/// `INSTANCE_IPS` if all its entries are valid, else the address in the node ID.
fn addresses(instance_ips: &str, ip: &str) -> Option<Vec<IpAddr>> {
    let listed: Result<Vec<IpAddr>, _> = instance_ips
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(str::parse)
        .collect();
    match listed {
        Ok(ips) if !ips.is_empty() => Some(ips),
        _ => ip.parse().ok().map(|ip| vec![ip]),
    }
}

struct Metadata<'a>(&'a Struct);

impl<'a> Metadata<'a> {
    fn kind(&self, key: &str) -> Option<&'a Kind> {
        self.0
            .fields
            .get(key)
            .and_then(|value: &Value| value.kind.as_ref())
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        match self.kind(key) {
            Some(Kind::StringValue(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    fn arc(&self, key: &str) -> Arc<str> {
        self.text(key).unwrap_or_default().into()
    }

    fn port(&self, key: &str, default: u32) -> u32 {
        match self.kind(key) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the range is checked"
            )]
            Some(Kind::NumberValue(number)) if (1.0..=65535.0).contains(number) => *number as u32,
            Some(Kind::StringValue(text)) => text.parse().unwrap_or(default),
            _ => default,
        }
    }

    fn labels(&self, key: &str) -> Labels {
        match self.kind(key) {
            Some(Kind::StructValue(map)) => map
                .fields
                .iter()
                .filter_map(|(key, value)| match &value.kind {
                    Some(Kind::StringValue(text)) => Some((key.clone(), text.clone())),
                    _ => None,
                })
                .collect(),
            _ => Labels::new(),
        }
    }
}
