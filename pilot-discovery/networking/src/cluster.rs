//! Clusters (CDS).
//!
//! A service gets one cluster per port, and one more per port and subset of its DestinationRule.
//! [`crate::policy`] finds the settings that apply to such a cluster; each of the other modules
//! fills in one part.

use std::{collections::BTreeMap, time::Duration};

use istio_api::{
    any,
    envoy::{
        config::{
            cluster::v3::{
                CircuitBreakers, Cluster,
                circuit_breakers::Thresholds,
                cluster::{ClusterDiscoveryType, CommonLbConfig, DiscoveryType, LbPolicy},
            },
            core::v3::{HttpProtocolOptions as CommonOptions, Metadata},
        },
        extensions::upstreams::http::v3::HttpProtocolOptions,
    },
};
use pilot_model::{
    class::Client,
    mesh::Mesh,
    proxy::{IpMode, ProxyType},
    service::Service,
};
use prost_types::{ListValue, Struct, Value, value::Kind};

use crate::{name, resource::Resource, wire::duration};

mod balance;
mod bind;
pub mod inbound;
pub mod outbound;
mod outlier;
mod pool;
pub mod protocol;

/// Value of a circuit breaker that means "no limit".
const UNLIMITED: u32 = u32::MAX;
/// Idle timeout of connections to addresses outside the registry.
const PASSTHROUGH_IDLE: Duration = Duration::from_secs(300);

/// Clusters that every proxy of a type gets, whatever the mesh contains.
pub fn fixed(client: &Client<'_>) -> Vec<Resource> {
    let mesh = &*client.snapshot.mesh;
    let mut clusters = vec![black_hole(mesh)];
    if client.class.kind == ProxyType::Sidecar {
        clusters.push(passthrough(name::PASSTHROUGH_CLUSTER, mesh));
    }
    clusters
        .iter()
        .map(|cluster| Resource::new(cluster.name.as_str(), cluster, []))
        .collect()
}

/// A cluster without endpoints: its traffic is dropped.
fn black_hole(mesh: &Mesh) -> Cluster {
    Cluster {
        name: name::BLACK_HOLE_CLUSTER.to_owned(),
        alt_stat_name: name::stat(name::BLACK_HOLE_CLUSTER),
        connect_timeout: Some(duration(mesh.connect_timeout)),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        ..Default::default()
    }
}

/// Forwards to the address that was dialled, in the protocol of the client.
fn passthrough(name: &str, mesh: &Mesh) -> Cluster {
    let options = HttpProtocolOptions {
        common_http_protocol_options: Some(CommonOptions {
            idle_timeout: Some(duration(PASSTHROUGH_IDLE)),
            ..Default::default()
        }),
        upstream_protocol_options: Some(protocol::as_downstream(false)),
        ..Default::default()
    };
    let mut cluster = Cluster {
        name: name.to_owned(),
        alt_stat_name: name::stat(name),
        connect_timeout: Some(duration(mesh.connect_timeout)),
        circuit_breakers: Some(unlimited()),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(
            DiscoveryType::OriginalDst.into(),
        )),
        lb_policy: LbPolicy::ClusterProvided.into(),
        ..Default::default()
    };
    protocol::set(&mut cluster, Some(options));
    cluster
}

/// The common part of service clusters, before any policy.
fn base(name: String, stat_name: Option<String>, mesh: &Mesh) -> Cluster {
    Cluster {
        alt_stat_name: stat_name.unwrap_or_else(|| name::stat(&name)),
        name,
        connect_timeout: Some(duration(mesh.connect_timeout)),
        circuit_breakers: Some(unlimited()),
        common_lb_config: Some(CommonLbConfig::default()),
        ..Default::default()
    }
}

fn unlimited() -> CircuitBreakers {
    CircuitBreakers {
        thresholds: vec![Thresholds {
            max_connections: Some(UNLIMITED),
            max_pending_requests: Some(UNLIMITED),
            max_requests: Some(UNLIMITED),
            max_retries: Some(UNLIMITED),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Content of the `istio` metadata of a cluster.
#[derive(Debug, Default)]
struct Description<'a> {
    services: Vec<&'a Service>,
    external: bool,
    /// Path of the DestinationRule that applies.
    config: Option<String>,
    subset: &'a str,
    /// Connections use TLS towards a server outside the mesh.
    foreign_tls: bool,
}

impl Description<'_> {
    fn metadata(self) -> Metadata {
        let text = |value: &str| Value {
            kind: Some(Kind::StringValue(value.to_owned())),
        };
        let services = self
            .services
            .iter()
            .map(|service| {
                let fields = BTreeMap::from([
                    ("host".to_owned(), text(service.host().as_str())),
                    ("name".to_owned(), text(&service.name)),
                    ("namespace".to_owned(), text(service.namespace())),
                ]);
                Value {
                    kind: Some(Kind::StructValue(Struct { fields })),
                }
            })
            .collect();
        let list = Value {
            kind: Some(Kind::ListValue(ListValue { values: services })),
        };
        let mut fields = BTreeMap::from([("services".to_owned(), list)]);
        if self.external {
            fields.insert(
                "external".to_owned(),
                Value {
                    kind: Some(Kind::BoolValue(true)),
                },
            );
        }
        if self.foreign_tls {
            fields.insert("alpn_override".to_owned(), text("false"));
        }
        if let Some(config) = &self.config {
            fields.insert("config".to_owned(), text(config));
        }
        if !self.subset.is_empty() {
            fields.insert("subset".to_owned(), text(self.subset));
        }
        Metadata {
            filter_metadata: BTreeMap::from([("istio".to_owned(), Struct { fields })]),
            ..Default::default()
        }
    }
}

/// A whole number of seconds; fractions are cut off.
fn seconds(value: &prost_types::Duration) -> u32 {
    u32::try_from(value.seconds).unwrap_or_default()
}

/// A count, set only when it is above zero.
fn positive(value: i32) -> Option<u32> {
    u32::try_from(value).ok().filter(|value| *value > 0)
}

/// Whether the proxy has addresses of both families.
fn is_dual(mode: IpMode) -> bool {
    mode == IpMode::Dual
}

/// The options in the form of `typed_extension_protocol_options`.
fn extension_options(options: &HttpProtocolOptions) -> BTreeMap<String, prost_types::Any> {
    BTreeMap::from([(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
        any::pack(options),
    )])
}
