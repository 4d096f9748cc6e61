//! Clusters for one service.

use pilot_model::hashed::Hashed;
use std::sync::Arc;

use istio_api::{
    envoy::config::{
        cluster::v3::{
            Cluster,
            cluster::{LbConfig, OriginalDstLbConfig, TransportSocketMatch},
        },
        core::v3::TransportSocket,
    },
    networking::v1alpha3::client_tls_settings::TlSmode as ClientMode,
};
use pilot_model::{
    authn::{MtlsMode, WorkloadMtls},
    class::Client,
    config::{ConfigRef, Labels},
    destination_rule::Rule,
    mesh::Mesh,
    protocol::Protocol,
    proxy::{IpMode, ProxyType},
    service::{Registry, Service, ServicePort},
};
use prost_types::{Struct, Value, value::Kind};

use super::{
    Description, balance, base, outlier, pool,
    protocol::{self, AutoNames, Upstream},
};
use crate::{
    discovery::Discovery,
    endpoint::{self, Uses},
    name::{self, Outbound},
    policy::Policy,
    resource::{Built, Resource, Skipped, sources},
    tls::{raw_buffer, upstream},
};

/// Endpoint metadata key that says whether the endpoint accepts mutual TLS.
const TLS_MODE: &str = "tlsMode";

/// Everything that the clusters of one service may depend on; the whole struct is the cache key.
#[derive(Clone, Debug, Hash)]
pub struct Inputs<'a> {
    uses: Uses,
    service: &'a Arc<Hashed<Service>>,
    rule: Option<&'a Arc<Hashed<Rule>>>,
    mesh: &'a Hashed<Mesh>,
    kind: ProxyType,
    /// Set when Envoy has to resolve names.
    dns: Option<(IpMode, endpoint::Inputs<'a>)>,
    /// SPIFFE identities that servers may have, sorted.
    identities: Vec<Arc<str>>,
    /// There are endpoints, and all of them accept mutual TLS. Set only when some cluster cannot
    /// decide per endpoint.
    all_mutual: bool,
    /// Mutual TLS modes that the service's namespace requires of clients.
    server: WorkloadMtls,
}

/// Collects what the clusters of `service` depend on for `client`.
pub fn gather<'a>(
    client: &Client<'a>,
    service: &'a Arc<Hashed<Service>>,
    uses: Uses,
) -> Inputs<'a> {
    let snapshot = client.snapshot;
    let mesh: &Hashed<Mesh> = &snapshot.mesh;
    let endpoints = client.endpoints(service);
    let mut identities = endpoints.map(|e| e.service_accounts()).unwrap_or_default();
    identities.extend(service.subject_alt_names.iter().cloned());
    let dns = Discovery::of(service, &Policy::default(), client.class.kind)
        .is_some_and(Discovery::is_dns)
        .then(|| {
            (
                client.class.ip_mode,
                endpoint::gather(client, service, uses),
            )
        });
    let rule = client.destination_rule(service);
    Inputs {
        uses,
        rule,
        mesh,
        kind: client.class.kind,
        dns,
        identities: upstream::with_aliases(identities, mesh),
        all_mutual: dials_originals(service, rule, client.class.kind)
            && endpoints
                .is_some_and(|e| !e.list.is_empty() && e.list.iter().all(|endpoint| endpoint.mtls)),
        server: snapshot.peer_authentications.for_workload(
            service.namespace(),
            &Labels::new(),
            &mesh.root_namespace,
        ),
        service,
    }
}

/// Whether some cluster of the service connects to the address that the client dialled.
fn dials_originals(service: &Service, rule: Option<&Arc<Hashed<Rule>>>, kind: ProxyType) -> bool {
    let rule = rule.map(|rule| &***rule);
    let subsets = rule.map_or(&[][..], |rule| &rule.spec.subsets);
    service.ports.iter().any(|port| {
        std::iter::once(None)
            .chain(subsets.iter().map(Some))
            .any(|subset| {
                let policy = Policy::of(rule, port, subset);
                Discovery::of(service, &policy, kind) == Some(Discovery::OriginalDst)
            })
    })
}

impl<'a> Inputs<'a> {
    fn sources(&self) -> Arc<[ConfigRef]> {
        sources(
            self.service
                .sources
                .iter()
                .chain(self.rule.iter().flat_map(|rule| rule.sources.iter()))
                .chain(&self.server.sources)
                .cloned(),
        )
    }

    fn explicit_rule(&self) -> Option<&'a Rule> {
        self.rule.map(|rule| &***rule)
    }
}

/// Builds a cluster per port, and per port and subset, for each way in which it is used.
pub fn build(inputs: &Inputs<'_>) -> Built {
    let mut built = Built::default();
    if inputs.uses.routed {
        built = build_routed(inputs);
    }
    if inputs.uses.passed_through {
        let more = build_sni_dnat(inputs);
        built.resources.extend(more.resources);
        built.skipped.extend(more.skipped);
    }
    built
}

fn build_routed(inputs: &Inputs<'_>) -> Built {
    let mut built = Built::default();
    let sources = inputs.sources();
    let subsets = inputs
        .explicit_rule()
        .map_or(&[][..], |rule| &rule.spec.subsets);
    for port in &inputs.service.ports {
        if port.protocol == Protocol::Udp {
            continue;
        }
        for subset in std::iter::once(None).chain(subsets.iter().map(Some)) {
            let policy = Policy::of(inputs.explicit_rule(), port, subset);
            let one = One {
                inputs,
                port,
                subset: subset.map_or("", |s| &s.name),
                policy,
            };
            let labels = subset.map(|subset| &subset.labels);
            if let Some(cluster) = one.build(labels, &mut built.skipped) {
                let name = cluster.name.as_str();
                built
                    .resources
                    .push(Resource::new(name, &cluster, sources.clone()));
            }
        }
    }
    built
}

/// Builds the clusters through which a gateway forwards mesh connections by server name without
/// terminating TLS: like the outbound clusters, but without TLS of their own.
fn build_sni_dnat(inputs: &Inputs<'_>) -> Built {
    let mut built = Built::default();
    if inputs.service.mesh_external {
        return built;
    }
    let sources = inputs.sources();
    let subsets = inputs
        .explicit_rule()
        .map_or(&[][..], |rule| &rule.spec.subsets);
    for port in &inputs.service.ports {
        if port.protocol == Protocol::Udp {
            continue;
        }
        for subset in std::iter::once(None).chain(subsets.iter().map(Some)) {
            let policy = Policy {
                tls: None,
                ..Policy::of(inputs.explicit_rule(), port, subset)
            };
            let one = One {
                inputs,
                port,
                subset: subset.map_or("", |s| &s.name),
                policy,
            };
            let labels = subset.map(|subset| &subset.labels);
            if let Some(cluster) = one.build_sni_dnat(labels, &mut built.skipped) {
                let name = cluster.name.as_str();
                built
                    .resources
                    .push(Resource::new(name, &cluster, sources.clone()));
            }
        }
    }
    built
}

/// A cluster being built.
struct One<'a, 'b> {
    inputs: &'b Inputs<'a>,
    port: &'a ServicePort,
    subset: &'a str,
    policy: Policy<'a>,
}

impl One<'_, '_> {
    fn identity(&self) -> Outbound<'_> {
        let host = self.inputs.service.host().as_str();
        Outbound {
            port: self.port.number,
            subset: self.subset,
            host,
        }
    }

    fn build(&self, labels: Option<&Labels>, skipped: &mut Vec<Skipped>) -> Option<Cluster> {
        let inputs = self.inputs;
        let discovery = Discovery::of(inputs.service, &self.policy, inputs.kind)?;
        let mut cluster = self.prepare(self.identity().to_string(), discovery);
        if discovery.is_dns() && !self.resolve(&mut cluster, labels, discovery, skipped) {
            return None;
        }
        let upstream =
            protocol::outbound(&self.policy, self.port.protocol, inputs.kind, inputs.mesh);
        let names = self.secure(&mut cluster, discovery, upstream, skipped);
        let options = protocol::options(
            upstream,
            &self.policy,
            self.port.protocol,
            names,
            inputs.mesh,
        );
        protocol::set(&mut cluster, options);
        Some(cluster)
    }

    fn build_sni_dnat(
        &self,
        labels: Option<&Labels>,
        skipped: &mut Vec<Skipped>,
    ) -> Option<Cluster> {
        let inputs = self.inputs;
        let discovery = Discovery::of(inputs.service, &self.policy, inputs.kind)?;
        // The client dialled the gateway itself.
        if discovery == Discovery::OriginalDst {
            return None;
        }
        let mut cluster = self.prepare(self.identity().sni(), discovery);
        let complete =
            !discovery.is_dns() || self.resolve(&mut cluster, labels, discovery, skipped);
        complete.then_some(cluster)
    }

    fn prepare(&self, name: String, discovery: Discovery) -> Cluster {
        let (inputs, policy) = (self.inputs, &self.policy);
        let pattern = inputs.mesh.config.outbound_cluster_stat_name.as_str();
        let stat_name = (!pattern.is_empty()).then(|| {
            let (service, port) = (inputs.service, self.port);
            let target = if port.target_port > 0 {
                port.target_port
            } else {
                port.number
            };
            name::stat(&name::stat_from_pattern(
                pattern,
                service,
                port,
                target,
                self.subset,
            ))
        });
        let mut cluster = base(name, stat_name, inputs.mesh);
        let ip_mode = inputs.dns.as_ref().map_or(IpMode::V4, |(mode, _)| *mode);
        discovery.apply(&mut cluster, inputs.mesh, ip_mode);
        pool::apply(&mut cluster, policy.connection_pool, inputs.mesh);
        pool::apply_retry_budget(&mut cluster, policy.retry_budget);
        outlier::apply(&mut cluster, policy.outlier_detection);
        balance::apply(&mut cluster, policy, policy.locality(inputs.mesh));
        if discovery == Discovery::OriginalDst {
            cluster.lb_config = self.port_override();
        }
        cluster.metadata = Some(
            Description {
                services: vec![inputs.service],
                external: inputs.service.mesh_external,
                config: inputs
                    .rule
                    .and_then(|rule| rule.sources.first())
                    .map(name::config_path),
                subset: self.subset,
                foreign_tls: policy.originates_tls(),
            }
            .metadata(),
        );
        cluster
    }

    /// The client dials the port of the service; the Pods may listen on another.
    fn port_override(&self) -> Option<LbConfig> {
        let kubernetes = self.inputs.service.registry == Registry::Kubernetes;
        let target = self.port.target_port;
        (kubernetes && target > 0 && target != self.port.number).then(|| {
            LbConfig::OriginalDstLbConfig(OriginalDstLbConfig {
                upstream_port_override: Some(target),
                ..Default::default()
            })
        })
    }

    /// Adds the names to resolve; without any, the cluster could never serve.
    fn resolve(
        &self,
        cluster: &mut Cluster,
        labels: Option<&Labels>,
        discovery: Discovery,
        skipped: &mut Vec<Skipped>,
    ) -> bool {
        let Some((_, endpoints)) = &self.inputs.dns else {
            return false;
        };
        let assignment =
            endpoints.inline(&cluster.name, self.port, labels, &self.policy, discovery);
        let found = assignment
            .endpoints
            .iter()
            .any(|locality| !locality.lb_endpoints.is_empty());
        if found {
            cluster.load_assignment = Some(assignment);
        } else {
            skipped.push(Skipped {
                metric: "pilot_dns_cluster_without_endpoints",
                reason: format!("cluster {} has no endpoint to resolve", cluster.name),
                source: self.inputs.service.sources.first().cloned(),
            });
        }
        found
    }

    /// Sets the transport sockets; returns which TLS names follow the requests.
    fn secure(
        &self,
        cluster: &mut Cluster,
        discovery: Discovery,
        upstream: Upstream,
        skipped: &mut Vec<Skipped>,
    ) -> AutoNames {
        let inputs = self.inputs;
        let mut names = AutoNames::default();
        let mut socket: Option<TransportSocket> = None;
        match (self.policy.tls, self.policy.tls_mode()) {
            (Some(tls), Some(ClientMode::IstioMutual)) => {
                let own: Vec<Arc<str>> = tls
                    .subject_alt_names
                    .iter()
                    .map(|name| name.as_str().into())
                    .collect();
                let identities = if own.is_empty() {
                    &inputs.identities
                } else {
                    &own
                };
                let sni = if tls.sni.is_empty() {
                    self.identity().sni()
                } else {
                    tls.sni.clone()
                };
                socket = Some(self.mesh_socket(sni, upstream, identities));
            }
            (Some(tls), Some(ClientMode::Simple | ClientMode::Mutual)) => {
                let by = upstream::Originator {
                    mesh: inputs.mesh,
                    kind: inputs.kind,
                    chosen_workloads: inputs
                        .rule
                        .is_some_and(|rule| rule.spec.workload_selector.is_some()),
                    declared_names: &inputs.service.subject_alt_names,
                    http2: upstream == Upstream::Http2,
                };
                match upstream::originate(tls, by) {
                    Ok(Some(origination)) => {
                        names.sni = origination.auto_sni;
                        names.san_validation = origination.auto_san_validation;
                        socket = Some(origination.socket);
                    }
                    Ok(None) => {}
                    Err(reason) => skipped.push(Skipped {
                        metric: "pilot_total_rejected_configs",
                        reason: format!("cluster {} connects without TLS: {reason}", cluster.name),
                        source: inputs.rule.and_then(|rule| rule.sources.first().cloned()),
                    }),
                }
            }
            (_, Some(_)) => {}
            (_, None) if self.automatic(discovery) => {
                let mutual = self.mesh_socket(self.identity().sni(), upstream, &inputs.identities);
                if discovery == Discovery::OriginalDst {
                    // There is no endpoint metadata to decide by.
                    socket = Some(mutual);
                } else {
                    let wrap = |inner| match self.policy.proxy_protocol {
                        Some(settings) => upstream::with_proxy_protocol(settings, Some(inner)),
                        None => inner,
                    };
                    cluster.transport_socket_matches =
                        by_endpoint(wrap(mutual), wrap(raw_buffer()));
                    return names;
                }
            }
            (_, None) => {}
        }
        cluster.transport_socket = match self.policy.proxy_protocol {
            Some(settings) => Some(upstream::with_proxy_protocol(settings, socket)),
            None => socket,
        };
        names
    }

    fn mesh_socket(
        &self,
        sni: String,
        upstream: Upstream,
        identities: &[Arc<str>],
    ) -> TransportSocket {
        let alpn = protocol::mesh_alpn(upstream, self.port.protocol);
        upstream::mesh_mutual(sni, alpn, identities)
    }

    /// Whether mutual TLS is used although no rule asks for it.
    fn automatic(&self, discovery: Discovery) -> bool {
        let inputs = self.inputs;
        inputs.mesh.auto_mtls
            && !inputs.service.mesh_external
            && inputs.server.default != MtlsMode::Disable
            && (discovery != Discovery::OriginalDst || inputs.all_mutual)
    }
}

/// Chooses by the metadata of each endpoint whether to use mutual TLS.
fn by_endpoint(mutual: TransportSocket, plain: TransportSocket) -> Vec<TransportSocketMatch> {
    let istio = Value {
        kind: Some(Kind::StringValue("istio".to_owned())),
    };
    vec![
        TransportSocketMatch {
            name: "tlsMode-istio".to_owned(),
            r#match: Some(Struct {
                fields: [(TLS_MODE.to_owned(), istio)].into(),
            }),
            transport_socket: Some(mutual),
        },
        TransportSocketMatch {
            name: "tlsMode-disabled".to_owned(),
            r#match: Some(Struct::default()),
            transport_socket: Some(plain),
        },
    ]
}
