//! What a simulated sidecar understands of the resources that it is sent.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use anyhow::Context as _;
use istio_api::envoy::{
    config::{
        cluster::v3::{Cluster, cluster::ClusterDiscoveryType},
        core::v3::{address, socket_address::PortSpecifier},
        endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier},
        listener::v3::{Listener, filter::ConfigType},
        route::v3::{RouteConfiguration, VirtualHost},
    },
    extensions::filters::network::http_connection_manager::v3::{
        HttpConnectionManager, http_connection_manager::RouteSpecifier,
    },
};
use parking_lot::Mutex;
use prost::Message as _;

use super::kind::Kind;

/// A decoded resource, shared by all sidecars that were sent the same bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    pub name: Arc<str>,
    pub content: Content,
}

/// The parts that expectations look at.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    Cluster {
        /// Name of its assignment when endpoints come over EDS.
        assignment: Option<String>,
        /// Connection limit, 0 without one.
        max_connections: u32,
    },
    /// Addresses with ports.
    Assignment(BTreeSet<String>),
    /// Names of the route configurations that it asks for.
    Listener(BTreeSet<String>),
    /// Values of request headers that routes set, by domain.
    Route(BTreeMap<String, BTreeSet<String>>),
}

type Bodies = HashMap<u64, Vec<(Box<[u8]>, Arc<Resource>)>>;

/// Decodes every distinct body once: two hundred sidecars on the cores of the server must not
/// cost more than the server does.
#[derive(Debug, Default)]
pub struct Decoder {
    known: [Mutex<Bodies>; Kind::ALL.len()],
}

impl Decoder {
    /// Decodes `body`, or gives what the same bytes were decoded to before.
    ///
    /// # Errors
    /// When it is not a valid message of its type.
    pub fn decode(&self, kind: Kind, body: &[u8]) -> anyhow::Result<Arc<Resource>> {
        let shard = self
            .known
            .get(kind as usize)
            .context("a shard for every type")?;
        // Held while decoding, so that nobody decodes the same meanwhile.
        let mut known = shard.lock();
        let same = known.entry(sample(body)).or_default();
        if let Some((_, resource)) = same.iter().find(|(bytes, _)| **bytes == *body) {
            return Ok(resource.clone());
        }
        let resource = Arc::new(read(kind, body)?);
        same.push((body.into(), resource.clone()));
        Ok(resource)
    }
}

/// A hash of some of the bytes; equality is decided by all of them.
fn sample(body: &[u8]) -> u64 {
    const PART: usize = 64;
    const PARTS: usize = 16;
    let mut hasher = DefaultHasher::new();
    body.len().hash(&mut hasher);
    let step = (body.len() / PARTS).max(PART);
    for part in body.chunks(step) {
        hasher.write(part.get(..PART).unwrap_or(part));
    }
    hasher.finish()
}

fn read(kind: Kind, body: &[u8]) -> anyhow::Result<Resource> {
    Ok(match kind {
        Kind::Cluster => cluster(Cluster::decode(body)?),
        Kind::Endpoint => assignment(ClusterLoadAssignment::decode(body)?),
        Kind::Listener => listener(Listener::decode(body)?)?,
        Kind::Route => route(RouteConfiguration::decode(body)?),
    })
}

fn cluster(cluster: Cluster) -> Resource {
    use istio_api::envoy::config::cluster::v3::cluster::DiscoveryType;
    let eds = ClusterDiscoveryType::Type(DiscoveryType::Eds.into());
    let assignment = (cluster.cluster_discovery_type == Some(eds)).then(|| {
        cluster
            .eds_cluster_config
            .map(|eds| eds.service_name)
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| cluster.name.clone())
    });
    let thresholds = cluster.circuit_breakers.map(|limits| limits.thresholds);
    Resource {
        name: cluster.name.into(),
        content: Content::Cluster {
            assignment,
            max_connections: thresholds
                .iter()
                .flatten()
                .find_map(|threshold| threshold.max_connections)
                .unwrap_or(0),
        },
    }
}

fn assignment(assignment: ClusterLoadAssignment) -> Resource {
    let endpoints = assignment
        .endpoints
        .into_iter()
        .flat_map(|l| l.lb_endpoints);
    let addresses = endpoints.filter_map(|endpoint| {
        let Some(HostIdentifier::Endpoint(endpoint)) = endpoint.host_identifier else {
            return None;
        };
        match endpoint.address?.address? {
            address::Address::SocketAddress(socket) => {
                let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else {
                    return None;
                };
                Some(format!("{}:{port}", socket.address))
            }
            _ => None,
        }
    });
    Resource {
        content: Content::Assignment(addresses.collect()),
        name: assignment.cluster_name.into(),
    }
}

fn listener(listener: Listener) -> anyhow::Result<Resource> {
    const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.\
                           http_connection_manager.v3.HttpConnectionManager";
    let chains = listener
        .filter_chains
        .iter()
        .chain(&listener.default_filter_chain);
    let mut routes = BTreeSet::new();
    for filter in chains.flat_map(|chain| &chain.filters) {
        let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
            continue;
        };
        if any.type_url != MANAGER {
            continue;
        }
        let manager = HttpConnectionManager::decode(any.value.as_slice())
            .with_context(|| format!("listener {}", listener.name))?;
        if let Some(RouteSpecifier::Rds(rds)) = manager.route_specifier {
            routes.insert(rds.route_config_name);
        }
    }
    Ok(Resource {
        name: listener.name.into(),
        content: Content::Listener(routes),
    })
}

fn route(route: RouteConfiguration) -> Resource {
    let mut domains = BTreeMap::new();
    for host in route.virtual_hosts {
        let values = header_values(&host);
        for domain in host.domains {
            domains.insert(domain, values.clone());
        }
    }
    Resource {
        name: route.name.into(),
        content: Content::Route(domains),
    }
}

fn header_values(host: &VirtualHost) -> BTreeSet<String> {
    host.routes
        .iter()
        .flat_map(|route| &route.request_headers_to_add)
        .filter_map(|option| option.header.as_ref())
        .map(|header| header.value.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_are_decoded_once_and_others_apart() {
        let decoder = Decoder::default();
        let body = |name: &str| {
            Cluster {
                name: name.to_owned(),
                ..Cluster::default()
            }
            .encode_to_vec()
        };
        let one = decoder.decode(Kind::Cluster, &body("a")).unwrap();
        let same = decoder.decode(Kind::Cluster, &body("a")).unwrap();
        let other = decoder.decode(Kind::Cluster, &body("b")).unwrap();
        assert!(Arc::ptr_eq(&one, &same));
        assert_eq!((&*one.name, &*other.name), ("a", "b"));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let garbage = [0xff; 9];
        assert!(Decoder::default().decode(Kind::Route, &garbage).is_err());
    }
}
