//! TCP and TLS routes of a VirtualService as filter chains, for sidecars and gateways.

use istio_api::{
    envoy::{
        config::{
            core::v3::{CidrRange, Metadata},
            listener::v3::{Filter, FilterChain, FilterChainMatch},
        },
        extensions::filters::network::{
            mongo_proxy::v3::MongoProxy,
            tcp_proxy::v3::{
                TcpProxy,
                tcp_proxy::{
                    ClusterSpecifier, TunnelingConfig, WeightedCluster,
                    weighted_cluster::ClusterWeight,
                },
            },
        },
        r#type::v3::{HashPolicy, hash_policy},
    },
    networking::v1alpha3::{self as api, load_balancer_settings::consistent_hash_lb::HashKey},
};
use pilot_model::{
    config::Labels, mesh::Mesh, protocol::Protocol, virtual_service::VirtualService,
};
use prost_types::Duration;

use super::{access_log, filter};
use crate::{
    resource::Skipped,
    route::{
        destination::{Destinations, Resolved},
        http::config_metadata,
        source::Source,
    },
};

/// Maximum time for the handshake of a connection.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration {
    seconds: 15,
    nanos: 0,
};

/// Everything that the routes of one VirtualService depend on.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The VirtualService.
    pub vs: &'a VirtualService,
    /// The gateway that the routes are for: `mesh` or `<namespace>/<name>`.
    pub gateway: &'a str,
    /// Port on which connections arrive.
    pub port: u32,
    /// Protocol of the connections.
    pub protocol: Protocol,
    /// The properties of the client that the routes match on.
    pub source: Source<'a>,
    /// The services that routes refer to.
    pub destinations: &'a Destinations<'a>,
    /// The mesh settings.
    pub mesh: &'a Mesh,
}

/// A filter chain without its transport socket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    /// Sorted; none = any.
    pub server_names: Vec<String>,
    /// Destination ranges; none = any.
    pub destinations: Vec<CidrRange>,
    /// Source ranges; none = any.
    pub sources: Vec<CidrRange>,
    /// Network filters, in order.
    pub filters: Vec<Filter>,
    /// Refers to the configuration object that it was built from.
    pub metadata: Option<Metadata>,
}

impl Chain {
    /// Whether it matches every connection.
    pub fn matches_all(&self) -> bool {
        self.server_names.is_empty() && self.destinations.is_empty() && self.sources.is_empty()
    }

    /// Whether both match the same connections.
    pub fn matches_like(&self, other: &Self) -> bool {
        self.server_names == other.server_names
            && self.destinations == other.destinations
            && self.sources == other.sources
    }

    /// The Envoy form; without a match if it matches everything.
    pub fn into_filter_chain(self) -> FilterChain {
        FilterChain {
            filter_chain_match: (!self.matches_all()).then(|| FilterChainMatch {
                server_names: self.server_names,
                prefix_ranges: self.destinations,
                source_prefix_ranges: self.sources,
                ..Default::default()
            }),
            filters: self.filters,
            metadata: self.metadata,
            transport_socket_connect_timeout: Some(HANDSHAKE_TIMEOUT),
            ..Default::default()
        }
    }
}

/// The chains of the matching `tls` routes, in order: one per match.
pub fn tls_chains(context: &Context<'_>, skipped: &mut Vec<Skipped>) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    for (index, route) in context.vs.config.spec.tls.iter().enumerate() {
        for matched in &route.r#match {
            let applies = context.applies(
                &matched.gateways,
                matched.port,
                &matched.source_labels,
                &matched.source_namespace,
            );
            if !applies {
                continue;
            }
            let names = match server_names(&matched.sni_hosts) {
                Ok(names) => names,
                Err(reason) => {
                    skipped.push(context.skip("tls", index, &reason));
                    continue;
                }
            };
            let chain = context.chain(
                "tls",
                index,
                (&matched.destination_subnets, &matched.source_subnet),
                &route.route,
                skipped,
            );
            let Some(mut chain) = chain else { continue };
            chain.server_names = names;
            if !chains.iter().any(|known| known.matches_like(&chain)) {
                chains.push(chain);
            }
        }
    }
    chains
}

/// The chains of the matching `tcp` routes, in order, up to the first that matches every
/// connection; and whether there was one.
pub fn tcp_chains(context: &Context<'_>, skipped: &mut Vec<Skipped>) -> (Vec<Chain>, bool) {
    let mut chains: Vec<Chain> = Vec::new();
    for (index, route) in context.vs.config.spec.tcp.iter().enumerate() {
        let any = api::L4MatchAttributes::default();
        let matches: Vec<&api::L4MatchAttributes> = if route.r#match.is_empty() {
            vec![&any]
        } else {
            route
                .r#match
                .iter()
                .filter(|matched| {
                    context.applies(
                        &matched.gateways,
                        matched.port,
                        &matched.source_labels,
                        &matched.source_namespace,
                    )
                })
                .collect()
        };
        for matched in matches {
            let chain = context.chain(
                "tcp",
                index,
                (&matched.destination_subnets, &matched.source_subnet),
                &route.route,
                skipped,
            );
            let Some(chain) = chain else { continue };
            let ends = chain.matches_all();
            if !chains.iter().any(|known| known.matches_like(&chain)) {
                chains.push(chain);
            }
            if ends {
                return (chains, true);
            }
        }
    }
    (chains, false)
}

impl Context<'_> {
    fn applies(
        &self,
        gateways: &[String],
        port: u32,
        source_labels: &Labels,
        source_namespace: &str,
    ) -> bool {
        if port != 0 && port != self.port {
            return false;
        }
        if !gateways.is_empty() {
            return gateways.iter().any(|gateway| gateway == self.gateway);
        }
        self.source.fits(source_labels, source_namespace)
    }

    fn skip(&self, kind: &str, index: usize, reason: &str) -> Skipped {
        Skipped {
            metric: "pilot_total_rejected_configs",
            reason: format!("{kind}[{index}]: {reason}; the route is left out"),
            source: Some(self.vs.config.reference.clone()),
        }
    }

    fn chain(
        &self,
        kind: &str,
        index: usize,
        (subnets, source): (&[String], &str),
        routes: &[api::RouteDestination],
        skipped: &mut Vec<Skipped>,
    ) -> Option<Chain> {
        let filters = match self.forward(routes) {
            Ok(filters) => filters,
            Err(reason) => {
                skipped.push(self.skip(kind, index, &reason));
                return None;
            }
        };
        let mut destinations: Vec<CidrRange> = subnets
            .iter()
            .filter_map(|subnet| filter::cidr(subnet))
            .collect();
        destinations.sort_by(|a, b| {
            (&a.address_prefix, a.prefix_len).cmp(&(&b.address_prefix, b.prefix_len))
        });
        destinations.dedup();
        Some(Chain {
            server_names: Vec::new(),
            destinations,
            sources: filter::cidr(source).into_iter().collect(),
            filters,
            metadata: Some(config_metadata(&self.vs.config.reference)),
        })
    }

    /// Forwards connections to one destination, or to several by weight.
    ///
    /// # Errors
    /// If no destination has a weight above 0.
    fn forward(&self, routes: &[api::RouteDestination]) -> Result<Vec<Filter>, String> {
        if let [only] = routes {
            let destination = only
                .destination
                .as_ref()
                .ok_or("route[0] has no destination")?;
            let resolved = self.destinations.resolve(destination, self.port);
            let prefix = resolved.cluster.clone();
            return Ok(to_destination(&resolved, prefix, self.protocol, self.mesh));
        }
        let clusters: Vec<ClusterWeight> = routes
            .iter()
            .filter_map(|route| {
                let weight = u32::try_from(route.weight)
                    .ok()
                    .filter(|weight| *weight > 0)?;
                let destination = route.destination.as_ref()?;
                let resolved = self.destinations.resolve(destination, self.port);
                Some(ClusterWeight {
                    name: resolved.cluster,
                    weight,
                    ..Default::default()
                })
            })
            .collect();
        if clusters.is_empty() {
            return Err("none of its destinations has a weight above 0".to_owned());
        }
        let config = &self.vs.config;
        let proxy = TcpProxy {
            stat_prefix: format!("{}.{}", config.name(), config.namespace()),
            cluster_specifier: Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
                clusters,
            })),
            access_log: access_log::of_connections(self.mesh),
            ..Default::default()
        };
        Ok(filters(proxy, self.protocol))
    }
}

/// Forwards to `cluster`, without any settings of a DestinationRule.
pub fn to_cluster(cluster: &str, mesh: &Mesh) -> Vec<Filter> {
    let proxy = TcpProxy {
        access_log: access_log::of_connections(mesh),
        ..plain(cluster.to_owned(), cluster.to_owned())
    };
    vec![filter::network(filter::TCP_PROXY, &proxy)]
}

/// Forwards to a cluster of the workload itself.
pub(crate) fn to_workload(
    cluster: &str,
    stat_prefix: String,
    protocol: Protocol,
    mesh: &Mesh,
) -> Vec<Filter> {
    let proxy = TcpProxy {
        access_log: access_log::of_connections(mesh),
        ..plain(stat_prefix, cluster.to_owned())
    };
    filters(proxy, protocol)
}

/// Forwards to `cluster` without access logs, for traffic that is rejected or never seen.
pub fn to_cluster_unlogged(cluster: &str) -> Vec<Filter> {
    vec![filter::network(
        filter::TCP_PROXY,
        &plain(cluster.to_owned(), cluster.to_owned()),
    )]
}

/// Forwards to the cluster of a service with the settings of its DestinationRule.
pub fn to_destination(
    resolved: &Resolved<'_>,
    stat_prefix: String,
    protocol: Protocol,
    mesh: &Mesh,
) -> Vec<Filter> {
    let tcp = resolved.pool().and_then(|pool| pool.tcp.as_ref());
    let by_source = resolved
        .hash()
        .is_some_and(|hash| hash.hash_key == Some(HashKey::UseSourceIp(true)));
    let proxy = TcpProxy {
        idle_timeout: tcp.and_then(|tcp| tcp.idle_timeout),
        max_downstream_connection_duration: tcp.and_then(|tcp| tcp.max_connection_duration),
        hash_policy: by_source
            .then_some(HashPolicy {
                policy_specifier: Some(hash_policy::PolicySpecifier::SourceIp(
                    hash_policy::SourceIp {},
                )),
            })
            .into_iter()
            .collect(),
        tunneling_config: resolved.tunnel().map(|tunnel| TunnelingConfig {
            hostname: format!("{}:{}", tunnel.target_host, tunnel.target_port),
            use_post: tunnel.protocol.eq_ignore_ascii_case("POST"),
            ..Default::default()
        }),
        access_log: access_log::of_connections(mesh),
        ..plain(stat_prefix, resolved.cluster.clone())
    };
    filters(proxy, protocol)
}

fn plain(stat_prefix: String, cluster: String) -> TcpProxy {
    TcpProxy {
        stat_prefix,
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
        ..Default::default()
    }
}

fn filters(proxy: TcpProxy, protocol: Protocol) -> Vec<Filter> {
    let mongo = (protocol == Protocol::Mongo).then(|| {
        filter::network(
            "envoy.filters.network.mongo_proxy",
            &MongoProxy {
                stat_prefix: proxy.stat_prefix.clone(),
                ..Default::default()
            },
        )
    });
    mongo
        .into_iter()
        .chain([filter::network(filter::TCP_PROXY, &proxy)])
        .collect()
}

/// Server names in Envoy's form; `*` means any, so that the list is empty.
///
/// # Errors
/// If a wildcard is not the first label.
pub fn server_names(hosts: &[String]) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::with_capacity(hosts.len());
    for host in hosts {
        let bare = host.strip_prefix("*.").unwrap_or(host);
        if host == "*" {
            return Ok(Vec::new());
        }
        if bare.contains('*') || bare.is_empty() {
            return Err(format!(
                "server name {host:?} is invalid: * may only be the whole first label"
            ));
        }
        names.push(host.to_ascii_lowercase());
    }
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_are_sorted_and_a_star_takes_the_condition_away() {
        let names =
            |hosts: &[&str]| server_names(&hosts.iter().map(|&h| h.to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&["b.c", "*.A.b"]).unwrap(), ["*.a.b", "b.c"]);
        assert!(names(&["a.b", "*"]).unwrap().is_empty());
        assert!(names(&["www.*"]).is_err());
    }
}
