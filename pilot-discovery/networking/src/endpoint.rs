//! Endpoints (EDS).
//!
//! One assignment per EDS cluster. The client's location is part of the input only where a
//! locality policy uses it, so that clients elsewhere share the encoded bytes.

use pilot_model::hashed::Hashed;
use std::{collections::BTreeMap, sync::Arc};

use istio_api::{
    envoy::config::{
        core::v3::{
            Address, HealthStatus, Locality as WireLocality, Metadata, Pipe, SocketAddress,
            address, socket_address::PortSpecifier,
        },
        endpoint::v3::{
            ClusterLoadAssignment, Endpoint as WireEndpoint, LbEndpoint, LocalityLbEndpoints,
            lb_endpoint::HostIdentifier,
        },
    },
    networking::v1alpha3::client_tls_settings::TlSmode as ClientMode,
    well_known::labels as label,
};
use pilot_model::{
    authn::MtlsMode,
    class::Client,
    config::{ConfigRef, Labels, selects},
    destination_rule::Rule,
    host::Host,
    mesh::Mesh,
    protocol::Protocol,
    proxy::ProxyType,
    service::{Endpoint, Endpoints, Health, Locality, Resolution, Service, ServicePort},
};
use prost_types::{Struct, Value, value::Kind};

use crate::{
    discovery::Discovery,
    name::Outbound,
    policy::Policy,
    resource::{Built, Resource, sources},
};

pub mod locality;

use locality::Group;

/// Everything that the endpoints of one service may depend on; the whole struct is the cache key.
#[derive(Clone, Debug, Hash)]
pub struct Inputs<'a> {
    uses: Uses,
    service: &'a Arc<Hashed<Service>>,
    endpoints: Option<&'a Arc<Hashed<Endpoints>>>,
    rule: Option<&'a Arc<Hashed<Rule>>>,
    mesh: &'a Hashed<Mesh>,
    kind: ProxyType,
    /// Positions in `endpoints` of those whose workload has mutual TLS disabled; ascending.
    refusing: Vec<usize>,
    /// Only endpoints on this node.
    node: Option<&'a str>,
    /// Only endpoints of this cluster.
    cluster: Option<&'a str>,
    /// Set when some cluster of the service orders its endpoints by locality.
    location: Option<ClientLocation<'a>>,
}

/// In which ways the proxies of a class send traffic to a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Uses {
    /// Requests and connections are routed to its clusters.
    pub routed: bool,
    /// A gateway forwards mesh connections to it without terminating TLS.
    pub passed_through: bool,
}

impl Uses {
    /// Whether there is any use.
    pub fn any(self) -> bool {
        self.routed || self.passed_through
    }
}

/// Where the client is.
#[derive(Clone, Copy, Debug, Hash)]
pub struct ClientLocation<'a> {
    /// Region, zone and sub-zone.
    pub locality: &'a Locality,
    /// Network of the client.
    pub network: &'a str,
    /// Kubernetes cluster of the client.
    pub cluster_id: &'a str,
    /// Only labels that some configuration refers to.
    pub labels: &'a Labels,
}

/// Collects what the endpoints of `service` depend on for `client`.
pub fn gather<'a>(
    client: &Client<'a>,
    service: &'a Arc<Hashed<Service>>,
    uses: Uses,
) -> Inputs<'a> {
    let snapshot = client.snapshot;
    let mesh: &Hashed<Mesh> = &snapshot.mesh;
    let endpoints = client.endpoints(service);
    let rule = client.destination_rule(service);
    Inputs {
        uses,
        refusing: endpoints.map(|e| refusing(client, e)).unwrap_or_default(),
        node: service.node_local.then_some(&*client.class.node_name),
        cluster: is_cluster_local(service.host(), mesh).then_some(&*client.class.cluster_id),
        location: depends_on_location(service, rule, mesh).then_some(ClientLocation {
            locality: &client.class.locality,
            network: &client.class.network,
            cluster_id: &client.class.cluster_id,
            labels: &client.class.labels,
        }),
        kind: client.class.kind,
        service,
        endpoints,
        rule,
        mesh,
    }
}

impl Inputs<'_> {
    fn sources(&self) -> Arc<[ConfigRef]> {
        let rule = self.rule.iter().flat_map(|rule| rule.sources.iter());
        sources(self.service.sources.iter().chain(rule).cloned())
    }

    /// The assignment that is part of a cluster whose endpoints are DNS names.
    pub(crate) fn inline(
        &self,
        cluster: &str,
        port: &ServicePort,
        labels: Option<&Labels>,
        policy: &Policy<'_>,
        discovery: Discovery,
    ) -> ClusterLoadAssignment {
        let mut assignment = self.assignment(cluster, port, labels, policy, discovery);
        if discovery == Discovery::LogicalDns {
            // Envoy accepts exactly one name here.
            assignment.endpoints.truncate(1);
            if let Some(first) = assignment.endpoints.first_mut() {
                first.lb_endpoints.truncate(1);
                first.priority = 0;
                first.load_balancing_weight = first
                    .lb_endpoints
                    .first()
                    .and_then(|one| one.load_balancing_weight);
            }
        }
        assignment
    }

    fn assignment(
        &self,
        cluster: &str,
        port: &ServicePort,
        labels: Option<&Labels>,
        policy: &Policy<'_>,
        discovery: Discovery,
    ) -> ClusterLoadAssignment {
        let mut groups: BTreeMap<&Locality, Vec<(&Endpoint, LbEndpoint)>> = BTreeMap::new();
        let list = self
            .endpoints
            .map(|endpoints| endpoints.list.as_slice())
            .unwrap_or_default();
        let mut refusing = self.refusing.iter().copied().peekable();
        for (at, endpoint) in list.iter().enumerate() {
            let refuses = refusing.next_if_eq(&at).is_some();
            let wanted = endpoint.port_name == port.name
                && labels.is_none_or(|labels| selects(labels, &endpoint.labels))
                && self.serves(endpoint);
            if !wanted || (discovery == Discovery::Eds && !is_address(endpoint)) {
                continue;
            }
            let mutual = match policy.tls_mode() {
                Some(mode) => mode == ClientMode::IstioMutual,
                None => endpoint.mtls && !refuses,
            };
            let wire = wire(endpoint, mutual, discovery == Discovery::Eds);
            groups
                .entry(&endpoint.locality)
                .or_default()
                .push((endpoint, wire));
        }
        let mut groups: Vec<Group<'_>> = groups
            .into_iter()
            .map(|(location, members)| Group::new(location, members))
            .collect();
        if let (Some(location), Some(setting)) = (&self.location, policy.locality(self.mesh)) {
            groups = locality::apply(groups, location, setting, policy.fails_over());
        }
        ClusterLoadAssignment {
            cluster_name: cluster.to_owned(),
            endpoints: groups.into_iter().map(localized).collect(),
            ..Default::default()
        }
    }

    fn serves(&self, endpoint: &Endpoint) -> bool {
        let healthy = match endpoint.health {
            Health::Healthy => true,
            Health::Unhealthy => self.service.publish_not_ready,
            Health::Draining | Health::Terminating => false,
        };
        healthy
            && self.node.is_none_or(|node| *endpoint.node == *node)
            && self.cluster.is_none_or(|cluster| {
                endpoint.cluster_id.is_empty() || *endpoint.cluster_id == *cluster
            })
    }
}

/// Builds the assignment of each EDS cluster of the service.
pub fn build(inputs: &Inputs<'_>) -> Built {
    let mut built = Built::default();
    if inputs.uses.routed {
        built.resources = build_routed(inputs);
    }
    if inputs.uses.passed_through {
        built.resources.extend(build_sni_dnat(inputs));
    }
    built
}

fn build_routed(inputs: &Inputs<'_>) -> Vec<Resource> {
    let sources = inputs.sources();
    clusters(inputs)
        .map(|(port, subset, labels, policy)| {
            let host = inputs.service.host().as_str();
            let name = Outbound {
                port: port.number,
                subset,
                host,
            }
            .to_string();
            let assignment = inputs.assignment(&name, port, labels, &policy, Discovery::Eds);
            Resource::new(name, &assignment, sources.clone())
        })
        .collect()
}

/// Builds the assignments of a gateway's SNI-DNAT clusters: only endpoints that accept mutual TLS,
/// since the gateway does not terminate it.
fn build_sni_dnat(inputs: &Inputs<'_>) -> Vec<Resource> {
    let sources = inputs.sources();
    clusters(inputs)
        .map(|(port, subset, labels, policy)| {
            let host = inputs.service.host().as_str();
            let name = Outbound {
                port: port.number,
                subset,
                host,
            }
            .sni();
            let policy = Policy {
                tls: None,
                ..policy
            };
            let mut assignment = inputs.assignment(&name, port, labels, &policy, Discovery::Eds);
            for locality in &mut assignment.endpoints {
                locality.lb_endpoints.retain(takes_mutual_tls);
                locality.load_balancing_weight = Some(weight_of(&locality.lb_endpoints));
            }
            assignment
                .endpoints
                .retain(|locality| !locality.lb_endpoints.is_empty());
            Resource::new(name, &assignment, sources.clone())
        })
        .collect()
}

/// An assignment without endpoints, for an unknown cluster.
pub fn empty(cluster_name: &str) -> Resource {
    let assignment = ClusterLoadAssignment {
        cluster_name: cluster_name.to_owned(),
        ..Default::default()
    };
    Resource::new(cluster_name, &assignment, [])
}

type OneCluster<'a> = (&'a ServicePort, &'a str, Option<&'a Labels>, Policy<'a>);

/// The EDS clusters of the service, in order.
fn clusters<'a>(inputs: &Inputs<'a>) -> impl Iterator<Item = OneCluster<'a>> {
    let (service, kind) = (inputs.service, inputs.kind);
    let rule = inputs.rule.map(|rule| &***rule);
    let subsets = rule.map_or(&[][..], |rule| &rule.spec.subsets);
    service
        .ports
        .iter()
        .filter(|port| port.protocol != Protocol::Udp)
        .flat_map(move |port| {
            std::iter::once(None)
                .chain(subsets.iter().map(Some))
                .map(move |subset| {
                    let policy = Policy::of(rule, port, subset);
                    let name = subset.map_or("", |subset| subset.name.as_str());
                    (port, name, subset.map(|subset| &subset.labels), policy)
                })
        })
        .filter(move |(_, _, _, policy)| {
            Discovery::of(service, policy, kind) == Some(Discovery::Eds)
        })
}

/// Endpoints whose workload has mutual TLS disabled on their port, by policy.
fn refusing(client: &Client<'_>, endpoints: &Endpoints) -> Vec<usize> {
    let snapshot = client.snapshot;
    let policies = &snapshot.peer_authentications;
    let root = &snapshot.mesh.root_namespace;
    // Nearly always all are in one namespace without such a policy.
    let mut namespaces: BTreeMap<&str, bool> = BTreeMap::new();
    let mut refusing = Vec::new();
    for (at, endpoint) in endpoints.list.iter().enumerate() {
        let namespace = &*endpoint.namespace;
        let possible = endpoint.mtls
            && *namespaces
                .entry(namespace)
                .or_insert_with(|| policies.may_disable(namespace, root));
        if possible
            && policies
                .for_workload(namespace, &endpoint.labels, root)
                .port(endpoint.port)
                == MtlsMode::Disable
        {
            refusing.push(at);
        }
    }
    refusing
}

fn depends_on_location(service: &Service, rule: Option<&Arc<Hashed<Rule>>>, mesh: &Mesh) -> bool {
    if service.resolution == Resolution::Alias {
        return false;
    }
    let rule = rule.map(|rule| &***rule);
    let subsets = rule.map_or(&[][..], |rule| &rule.spec.subsets);
    service.ports.iter().any(|port| {
        std::iter::once(None)
            .chain(subsets.iter().map(Some))
            .any(|subset| {
                let policy = Policy::of(rule, port, subset);
                policy
                    .locality(mesh)
                    .is_some_and(|setting| !setting.distribute.is_empty() || policy.fails_over())
            })
    })
}

/// Whether the host is only ever served by the client's own cluster.
fn is_cluster_local(host: &Host, mesh: &Mesh) -> bool {
    let suffix = format!(".svc.{}", mesh.domain);
    let system = host
        .as_str()
        .strip_suffix(suffix.as_str())
        .is_some_and(|name| name == "kubernetes.default" || name.ends_with(".kube-system"));
    system
        || mesh.config.service_settings.iter().any(|settings| {
            settings
                .settings
                .as_ref()
                .is_some_and(|settings| settings.cluster_local)
                && settings
                    .hosts
                    .iter()
                    .any(|pattern| host.subset_of(&Host::new(pattern)))
        })
}

/// Whether it is an IP address or Unix socket; names cannot be sent over EDS.
fn is_address(endpoint: &Endpoint) -> bool {
    endpoint.address.starts_with("unix://") || endpoint.address.parse::<std::net::IpAddr>().is_ok()
}

fn localized(group: Group<'_>) -> LocalityLbEndpoints {
    let Group {
        locality,
        priority,
        weight,
        members,
    } = group;
    LocalityLbEndpoints {
        locality: (*locality != Locality::default()).then(|| WireLocality {
            region: locality.region.to_string(),
            zone: locality.zone.to_string(),
            sub_zone: locality.subzone.to_string(),
        }),
        priority,
        load_balancing_weight: Some(weight),
        lb_endpoints: members.into_iter().map(|(_, wire)| wire).collect(),
        ..Default::default()
    }
}

fn wire(endpoint: &Endpoint, mutual: bool, discovered: bool) -> LbEndpoint {
    let target = match endpoint.address.strip_prefix("unix://") {
        Some(path) => address::Address::Pipe(Pipe {
            path: path.to_owned(),
            ..Default::default()
        }),
        None => address::Address::SocketAddress(SocketAddress {
            address: endpoint.address.to_string(),
            port_specifier: Some(PortSpecifier::PortValue(endpoint.port)),
            ..Default::default()
        }),
    };
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(WireEndpoint {
            address: Some(Address {
                address: Some(target),
            }),
            ..Default::default()
        })),
        health_status: if discovered {
            HealthStatus::Healthy.into()
        } else {
            0
        },
        load_balancing_weight: Some(endpoint.weight.max(1)),
        metadata: metadata(endpoint, mutual),
    }
}

fn metadata(endpoint: &Endpoint, mutual: bool) -> Option<Metadata> {
    let single = |key: &str, value: String| Struct {
        fields: [(
            key.to_owned(),
            Value {
                kind: Some(Kind::StringValue(value)),
            },
        )]
        .into(),
    };
    let mut filter_metadata = BTreeMap::new();
    if mutual {
        filter_metadata.insert(
            TLS_MATCH.to_owned(),
            single(TLS_MODE, label::TLS_MODE_ISTIO.to_owned()),
        );
    }
    if !endpoint.workload.is_empty() {
        filter_metadata.insert("istio".to_owned(), single("workload", workload(endpoint)));
    }
    (!filter_metadata.is_empty()).then(|| Metadata {
        filter_metadata,
        ..Default::default()
    })
}

const TLS_MATCH: &str = "envoy.transport_socket_match";
const TLS_MODE: &str = "tlsMode";

/// `workload;namespace;canonical name;canonical revision;cluster`.
fn workload(endpoint: &Endpoint) -> String {
    let first = |keys: [&str; 3]| {
        keys.iter()
            .find_map(|key| endpoint.labels.get(*key))
            .map(String::as_str)
    };
    let service =
        first([label::CANONICAL_NAME, label::K8S_APP, label::APP]).unwrap_or(&endpoint.workload);
    let revision = first([
        label::CANONICAL_REVISION,
        label::K8S_VERSION,
        label::VERSION,
    ])
    .filter(|revision| *revision != "latest")
    .unwrap_or_default();
    let Endpoint {
        workload,
        namespace,
        cluster_id,
        ..
    } = endpoint;
    format!("{workload};{namespace};{service};{revision};{cluster_id}")
}

fn takes_mutual_tls(endpoint: &LbEndpoint) -> bool {
    endpoint
        .metadata
        .as_ref()
        .is_some_and(|metadata| metadata.filter_metadata.contains_key(TLS_MATCH))
}

fn weight_of(endpoints: &[LbEndpoint]) -> u32 {
    endpoints
        .iter()
        .map(|endpoint| endpoint.load_balancing_weight.unwrap_or(1))
        .fold(0, u32::saturating_add)
}
