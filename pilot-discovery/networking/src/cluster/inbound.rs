//! Clusters from a sidecar to its own application.

use pilot_model::hashed::Hashed;
use std::sync::Arc;

use istio_api::{
    envoy::config::{
        cluster::v3::{
            Cluster,
            cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy},
        },
        core::v3::{Address, Pipe, SocketAddress, address, socket_address::PortSpecifier},
        endpoint::v3::{
            ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
            lb_endpoint::HostIdentifier,
        },
    },
    networking::v1alpha3::{ConnectionPoolSettings, IstioIngressListener, Sidecar},
};
use pilot_model::{
    class::{Server, ServiceTarget},
    config::ConfigRef,
    destination_rule::Rule,
    protocol::Protocol,
    proxy::{Interception, IpMode},
    service::Service,
};

use super::{
    Description, base, bind, duration, passthrough, pool,
    protocol::{self, AutoNames},
};
use crate::{
    name,
    policy::Policy,
    resource::{Built, Resource, Skipped, sources},
};

/// How long an original-destination cluster keeps an address: the application's never disappears.
const NEVER_CLEAN_UP: std::time::Duration = std::time::Duration::from_secs(9_223_372_035);

/// Makes `inbound|<port>||` for each port that the workload serves, and the cluster for all others.
pub fn build(server: &Server<'_>) -> Built {
    let mut built = Built::default();
    match server
        .sidecar
        .filter(|sidecar| !sidecar.spec.ingress.is_empty())
    {
        Some(sidecar) => {
            for listener in &sidecar.spec.ingress {
                match from_listener(server, &sidecar.spec, listener) {
                    Ok(cluster) => {
                        let from = [sidecar.reference.clone()];
                        let name = cluster.name.as_str();
                        built.resources.push(Resource::new(name, &cluster, from));
                    }
                    Err(reason) => built.skipped.push(Skipped {
                        metric: "pilot_total_rejected_configs",
                        reason,
                        source: Some(sidecar.reference.clone()),
                    }),
                }
            }
        }
        None if server.class.interception == Interception::None => return built,
        None => from_services(server, &mut built),
    }
    let mesh = &*server.snapshot.mesh;
    let mut rest = passthrough(name::INBOUND_PASSTHROUGH_CLUSTER, mesh);
    rest.upstream_bind_config = Some(bind::inbound(server.class.ip_mode));
    built
        .resources
        .push(Resource::new(name::INBOUND_PASSTHROUGH_CLUSTER, &rest, []));
    built
}

/// Clusters of the workload's ports; if services share a port, the oldest decides.
fn from_services(server: &Server<'_>, built: &mut Built) {
    let mut targets = server.targets();
    // A DNS server uses one port number for TCP and UDP; only TCP is proxied.
    targets.retain(|target| target.service_port.protocol != Protocol::Udp);
    let mut ports: Vec<u32> = targets.iter().map(|target| target.port).collect();
    ports.sort_unstable();
    ports.dedup();
    for port in ports {
        let sharing: Vec<&ServiceTarget<'_>> = targets
            .iter()
            .filter(|target| target.port == port)
            .collect();
        if let Some(first) = sharing.first() {
            built.resources.push(from_targets(server, first, &sharing));
        }
    }
}

fn from_targets(
    server: &Server<'_>,
    first: &ServiceTarget<'_>,
    sharing: &[&ServiceTarget<'_>],
) -> Resource {
    let mesh = &*server.snapshot.mesh;
    let rule = rule(server, first.service);
    let policy = Policy {
        connection_pool: server
            .sidecar
            .and_then(|sidecar| sidecar.spec.inbound_connection_pool.as_ref())
            .or_else(|| {
                Policy::of(rule.map(|rule| &***rule), first.service_port, None).connection_pool
            }),
        ..Policy::default()
    };
    let pattern = mesh.config.inbound_cluster_stat_name.as_str();
    let stat_name = (!pattern.is_empty()).then(|| {
        let (service, port) = (first.service, first.service_port);
        name::stat(&name::stat_from_pattern(
            pattern, service, port, first.port, "",
        ))
    });
    let mut cluster = base(name::inbound_cluster(first.port), stat_name, mesh);
    if mesh.inbound_localhost {
        to_address(
            &mut cluster,
            socket(server.class.ip_mode.loopback(), first.port),
        );
    } else {
        to_original(&mut cluster, server.class.ip_mode);
    }
    finish(&mut cluster, server, &policy, first.service_port.protocol);
    let mut services: Vec<&Service> = Vec::new();
    for target in sharing {
        let same_port = target.service_port.number == first.service_port.number;
        let known = services
            .iter()
            .any(|service| service.key == target.service.key);
        if same_port && !known {
            services.push(target.service);
        }
    }
    let from: Vec<ConfigRef> = services
        .iter()
        .flat_map(|service| service.sources.iter())
        .chain(rule.iter().flat_map(|rule| rule.sources.iter()))
        .chain(server.sidecar.iter().map(|sidecar| &sidecar.reference))
        .cloned()
        .collect();
    cluster.metadata = Some(
        Description {
            services,
            ..Default::default()
        }
        .metadata(),
    );
    Resource::new(cluster.name.as_str(), &cluster, sources(from))
}

fn rule<'a>(server: &Server<'a>, service: &Service) -> Option<&'a Arc<Hashed<Rule>>> {
    server.snapshot.destination_rules.for_service(
        &server.class.namespace,
        &server.class.labels,
        service,
        &server.snapshot.mesh.root_namespace,
    )
}

fn from_listener(
    server: &Server<'_>,
    sidecar: &Sidecar,
    listener: &IstioIngressListener,
) -> Result<Cluster, String> {
    let port = listener
        .port
        .as_ref()
        .filter(|port| (1..=65535).contains(&port.number))
        .ok_or("ingress listener without a port between 1 and 65535")?;
    let ip_mode = server.class.ip_mode;
    let mut cluster = base(
        name::inbound_cluster(port.number),
        None,
        &server.snapshot.mesh,
    );
    let target = listener.default_endpoint.as_str();
    if target.is_empty() {
        to_original(&mut cluster, ip_mode);
    } else if let Some(path) = target.strip_prefix("unix://") {
        let pipe = Pipe {
            path: path.to_owned(),
            ..Default::default()
        };
        to_address(
            &mut cluster,
            Address {
                address: Some(address::Address::Pipe(pipe)),
            },
        );
    } else {
        let (host, number) = target
            .rsplit_once(':')
            .and_then(|(host, number)| Some((host, number.parse::<u32>().ok()?)))
            .filter(|(_, number)| (1..=65535).contains(number))
            .ok_or_else(|| format!("defaultEndpoint {target:?} is not <address>:<port>"))?;
        match host {
            // Use the other family when the proxy does not have this one.
            "127.0.0.1" | "[::1]" => {
                let wanted = host.trim_matches(['[', ']']);
                let usable = match ip_mode {
                    IpMode::Dual => wanted,
                    _ => ip_mode.loopback(),
                };
                to_address(&mut cluster, socket(usable, number));
            }
            "0.0.0.0" | "[::]" => {
                to_address(&mut cluster, socket(&server.class.address, number));
                cluster.upstream_bind_config = Some(bind::inbound(ip_mode));
            }
            _ => {
                return Err(format!(
                    "defaultEndpoint {target:?} must have a loopback address, 0.0.0.0 or [::]"
                ));
            }
        }
    }
    let pool: Option<&ConnectionPoolSettings> = listener
        .connection_pool
        .as_ref()
        .or(sidecar.inbound_connection_pool.as_ref());
    let policy = Policy {
        connection_pool: pool,
        ..Policy::default()
    };
    finish(
        &mut cluster,
        server,
        &policy,
        Protocol::parse(&port.protocol),
    );
    Ok(cluster)
}

fn finish(cluster: &mut Cluster, server: &Server<'_>, policy: &Policy<'_>, protocol: Protocol) {
    let mesh = &*server.snapshot.mesh;
    pool::apply(cluster, policy.connection_pool, mesh);
    let upstream = protocol::inbound(policy, protocol, mesh);
    let options = protocol::options(upstream, policy, protocol, AutoNames::default(), mesh);
    protocol::set(cluster, options);
}

fn to_original(cluster: &mut Cluster, ip_mode: IpMode) {
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(
        DiscoveryType::OriginalDst.into(),
    ));
    cluster.lb_policy = LbPolicy::ClusterProvided.into();
    cluster.cleanup_interval = Some(duration(NEVER_CLEAN_UP));
    cluster.upstream_bind_config = Some(bind::inbound(ip_mode));
}

fn to_address(cluster: &mut Cluster, target: Address) {
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into()));
    cluster.lb_policy = LbPolicy::RoundRobin.into();
    cluster.load_assignment = Some(ClusterLoadAssignment {
        cluster_name: cluster.name.clone(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![LbEndpoint {
                host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                    address: Some(target),
                    ..Default::default()
                })),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    });
}

fn socket(host: &str, port: u32) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..Default::default()
        })),
    }
}
