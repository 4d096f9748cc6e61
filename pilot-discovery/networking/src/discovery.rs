//! How Envoy learns the endpoints of a cluster.

use istio_api::{
    any,
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{
                    ClusterDiscoveryType, CustomClusterType, DiscoveryType, EdsClusterConfig,
                },
            },
            core::v3::TypedExtensionConfig,
        },
        extensions::{
            clusters::{common::dns::v3::DnsLookupFamily, dns::v3::DnsCluster},
            network::dns_resolver::cares::v3::CaresDnsResolverConfig,
        },
    },
};
use pilot_model::{
    mesh::Mesh,
    proxy::{IpMode, ProxyType},
    service::{Resolution, Service},
};

use crate::{config_source, policy::Policy, wire::duration};

/// Number of queries after which the resolver opens a new socket.
const DNS_QUERIES_PER_SOCKET: u32 = 100;
/// Spreads the queries of many clusters over time.
const DNS_JITTER: std::time::Duration = std::time::Duration::from_millis(100);

/// Where endpoints come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Sent by pilot.
    Eds,
    /// DNS names in the cluster; all addresses of a name are endpoints.
    StrictDns,
    /// One DNS name in the cluster; each new connection uses one address.
    LogicalDns,
    /// The address that the client dialled.
    OriginalDst,
}

impl Discovery {
    /// The discovery type of clusters of `service` under `policy`; `None` if it has no clusters.
    pub fn of(service: &Service, policy: &Policy<'_>, kind: ProxyType) -> Option<Self> {
        if policy.is_passthrough() && service.resolution != Resolution::Alias {
            return Some(Self::OriginalDst);
        }
        Some(match (service.resolution, kind) {
            (Resolution::Alias, _) => return None,
            (Resolution::ClientSideLb, _) | (Resolution::Passthrough, ProxyType::Router) => {
                Self::Eds
            }
            (Resolution::DnsLb, _) => Self::StrictDns,
            (Resolution::DnsRoundRobinLb, _) => Self::LogicalDns,
            (Resolution::Passthrough, ProxyType::Sidecar) => Self::OriginalDst,
        })
    }

    /// Whether endpoints are names that Envoy resolves.
    pub fn is_dns(self) -> bool {
        matches!(self, Self::StrictDns | Self::LogicalDns)
    }

    /// Sets the discovery type of the cluster.
    pub(super) fn apply(self, cluster: &mut Cluster, mesh: &Mesh, ip_mode: IpMode) {
        let kind = match self {
            Self::Eds => {
                cluster.eds_cluster_config = Some(EdsClusterConfig {
                    eds_config: Some(config_source::ads()),
                    service_name: cluster.name.clone(),
                });
                ClusterDiscoveryType::Type(DiscoveryType::Eds.into())
            }
            Self::OriginalDst => ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into()),
            Self::StrictDns => dns(mesh, ip_mode, false),
            Self::LogicalDns => dns(mesh, ip_mode, true),
        };
        cluster.cluster_discovery_type = Some(kind);
    }
}

fn dns(mesh: &Mesh, ip_mode: IpMode, logical: bool) -> ClusterDiscoveryType {
    let family = match ip_mode {
        IpMode::V4 | IpMode::Dual => DnsLookupFamily::V4Only,
        IpMode::V6 => DnsLookupFamily::V6Only,
    };
    let resolver = CaresDnsResolverConfig {
        udp_max_queries: Some(DNS_QUERIES_PER_SOCKET),
        ..Default::default()
    };
    let config = DnsCluster {
        dns_refresh_rate: Some(duration(mesh.dns_refresh_rate)),
        dns_jitter: Some(duration(DNS_JITTER)),
        respect_dns_ttl: true,
        dns_lookup_family: family.into(),
        all_addresses_in_single_endpoint: logical,
        typed_dns_resolver_config: Some(TypedExtensionConfig {
            name: "envoy.network.dns_resolver.cares".to_owned(),
            typed_config: Some(any::pack(&resolver)),
        }),
        ..Default::default()
    };
    ClusterDiscoveryType::ClusterType(CustomClusterType {
        name: "envoy.clusters.dns".to_owned(),
        typed_config: Some(any::pack(&config)),
    })
}
