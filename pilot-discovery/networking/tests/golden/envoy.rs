//! What a real Envoy says to a set of resources.

use std::{io::Write, path::PathBuf, process::Command};

use istio_api::{
    any,
    envoy::{
        config::{
            bootstrap::v3::{
                Bootstrap,
                bootstrap::{DynamicResources, StaticResources},
            },
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType},
            },
            core::v3::{
                Address, ApiConfigSource, ApiVersion, GrpcService, Node, Pipe, SocketAddress,
                address,
                api_config_source::ApiType,
                grpc_service::{EnvoyGrpc, TargetSpecifier},
                socket_address::PortSpecifier,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
                lb_endpoint::HostIdentifier,
            },
            listener::v3::{Filter, FilterChain, Listener, filter::ConfigType},
            route::v3::RouteConfiguration,
        },
        extensions::{
            filters::{
                http::router::v3::Router,
                network::http_connection_manager::v3::{
                    HttpConnectionManager, HttpFilter, http_connection_manager::RouteSpecifier,
                    http_filter,
                },
            },
            upstreams::http::v3::{
                HttpProtocolOptions,
                http_protocol_options::{
                    ExplicitHttpConfig, UpstreamProtocolOptions,
                    explicit_http_config::ProtocolConfig,
                },
            },
        },
    },
};
use pilot_networking::resource::Resource;
use prost::Message;

use crate::compose::All;

/// Deprecated fields that are used on purpose.
const ON_PURPOSE: &[&str] = &["max_grpc_timeout"];

/// The Envoy that `ENVOY_BIN` names.
pub(crate) fn binary() -> Option<PathBuf> {
    std::env::var_os("ENVOY_BIN")
        .map(PathBuf::from)
        .filter(|path| path.is_file())
}

/// Puts everything into one bootstrap and lets Envoy validate it.
pub(crate) fn validate(envoy: &PathBuf, all: &All) -> Result<(), String> {
    let bootstrap = bootstrap(all);
    let mut file = tempfile::Builder::new()
        .suffix(".pb")
        .tempfile()
        .map_err(|e| e.to_string())?;
    file.write_all(&bootstrap.encode_to_vec())
        .map_err(|e| e.to_string())?;
    let output = Command::new(envoy)
        .args(["--mode", "validate", "-l", "warn", "--config-path"])
        .arg(file.path())
        .output()
        .map_err(|error| format!("{}: {error}", envoy.display()))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!(
            "{}\n{text}",
            String::from_utf8_lossy(&output.stdout)
        ));
    }
    let deprecated: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("deprecated"))
        .filter(|line| !ON_PURPOSE.iter().any(|field| line.contains(field)))
        .collect();
    if deprecated.is_empty() {
        Ok(())
    } else {
        Err(deprecated.join("\n"))
    }
}

fn decoded<T: Message + Default>(resources: &[Resource]) -> Vec<T> {
    resources
        .iter()
        .map(|resource| {
            T::decode(resource.body.clone())
                .unwrap_or_else(|error| panic!("{}: {error}", resource.name))
        })
        .collect()
}

fn bootstrap(all: &All) -> Bootstrap {
    let mut clusters: Vec<Cluster> = decoded(&all.clusters);
    clusters.extend(["xds-grpc", "sds-grpc"].map(static_pipe));
    // Assignments come over the stream; here each stands in a cluster of its own.
    clusters.extend(
        decoded::<ClusterLoadAssignment>(&all.endpoints)
            .into_iter()
            .map(|assigned| Cluster {
                name: format!("check {}", assigned.cluster_name),
                load_assignment: Some(assigned),
                ..cluster()
            }),
    );
    let mut listeners: Vec<Listener> = decoded(&all.listeners);
    // Route configurations likewise, each in a listener of its own.
    listeners.extend(
        decoded::<RouteConfiguration>(&all.routes)
            .into_iter()
            .enumerate()
            .map(routed),
    );
    Bootstrap {
        node: Some(Node {
            id: "sidecar~10.0.0.1~a.demo~demo.svc.cluster.local".to_owned(),
            cluster: "a.demo".to_owned(),
            ..Default::default()
        }),
        static_resources: Some(StaticResources {
            clusters,
            listeners,
            secrets: decoded(&all.secrets),
        }),
        dynamic_resources: Some(DynamicResources {
            ads_config: Some(ApiConfigSource {
                api_type: ApiType::DeltaGrpc.into(),
                transport_api_version: ApiVersion::V3.into(),
                grpc_services: vec![GrpcService {
                    target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                        cluster_name: "xds-grpc".to_owned(),
                        ..Default::default()
                    })),
                    ..Default::default()
                }],
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn cluster() -> Cluster {
    Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        ..Default::default()
    }
}

fn static_pipe(name: &str) -> Cluster {
    let pipe = Pipe {
        path: format!("/run/{name}"),
        ..Default::default()
    };
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
            ExplicitHttpConfig {
                protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(Default::default())),
            },
        )),
        ..Default::default()
    };
    Cluster {
        name: name.to_owned(),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![LbEndpoint {
                    host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                        address: Some(Address {
                            address: Some(address::Address::Pipe(pipe)),
                        }),
                        ..Default::default()
                    })),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }),
        typed_extension_protocol_options: [(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
            any::pack(&options),
        )]
        .into(),
        ..cluster()
    }
}

fn routed((at, config): (usize, RouteConfiguration)) -> Listener {
    let router = HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any::pack(
            &Router::default(),
        ))),
        ..Default::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: "check".to_owned(),
        route_specifier: Some(RouteSpecifier::RouteConfig(config)),
        http_filters: vec![router],
        ..Default::default()
    };
    let port = 20_000 + u32::try_from(at).expect("few routes");
    Listener {
        name: format!("check {at}"),
        address: Some(Address {
            address: Some(address::Address::SocketAddress(SocketAddress {
                address: "127.0.0.1".to_owned(),
                port_specifier: Some(PortSpecifier::PortValue(port)),
                ..Default::default()
            })),
        }),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "envoy.filters.network.http_connection_manager".to_owned(),
                config_type: Some(ConfigType::TypedConfig(any::pack(&manager))),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}
