//! Filter chains of an inbound port by protocol and mutual TLS mode.
//!
//! `tls` and `raw` describe the first bytes of a connection; *mesh ALPN* is what mesh proxies
//! offer.
//!
//! | class | PERMISSIVE | STRICT | DISABLE |
//! |---|---|---|---|
//! | HTTP | tls → HTTP mTLS; raw → HTTP | tls → HTTP mTLS | raw → HTTP |
//! | TCP | tls with mesh ALPN → TCP mTLS; tls → TCP as it is; raw → TCP | tls with mesh ALPN, tls → TCP mTLS | raw → TCP |
//! | detected | tls with mesh HTTP → HTTP mTLS; raw HTTP → HTTP; tls with mesh TCP → TCP mTLS; raw → TCP; tls → TCP as it is | tls with mesh HTTP → HTTP mTLS; tls with mesh TCP, tls → TCP mTLS | raw HTTP → HTTP; raw → TCP |
//!
//! STRICT repeats the chains for mesh traffic of PERMISSIVE, although its last chain would do:
//! Envoy keeps the connections of unchanged chains, so that switching between the two closes only
//! plain-text connections.

use istio_api::envoy::config::{
    listener::v3::{Filter, FilterChain, FilterChainMatch},
    route::v3::{
        Decorator, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
        route::Action,
        route_action::{ClusterSpecifier, MaxStreamDuration},
        route_match::PathSpecifier,
    },
};
use pilot_model::{authn::MtlsMode, mesh::Mesh, protocol::Protocol, proxy::IpMode};
use prost_types::Duration;

use super::{inspection::Needs, port::Port};
use crate::{
    listener::{
        http_connection_manager::{self as manager, Routes, Side},
        tcp,
    },
    name,
    tls::{self, downstream},
};

/// Retries of requests that the workload has not begun to process.
const INBOUND_RETRIES: u32 = 2;

/// What a group of chains serves.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// Port that the chains match; `None` = any port without chains of its own.
    matched: Option<u32>,
    http_name: String,
    tcp_name: String,
    http_stat_prefix: String,
    tcp_stat_prefix: String,
    cluster: String,
    service_port: u32,
    operation: String,
    protocol: Protocol,
    http10: bool,
}

/// How a connection begins.
#[derive(Clone, Copy)]
enum Begins {
    /// TLS that offers one of these ALPN names; any if the list is empty.
    Tls(&'static [&'static str]),
    Raw,
    RawHttp,
}

/// How a connection is processed.
#[derive(Clone, Copy)]
enum Becomes {
    Http { mtls: bool },
    Tcp { mtls: bool },
}

impl Server {
    /// Undeclared ports: connections go to the dialled address.
    pub(super) fn passthrough(matched: Option<u32>, http10: bool) -> Self {
        let cluster = name::INBOUND_PASSTHROUGH_CLUSTER;
        Self {
            matched,
            http_name: name::INBOUND_CATCHALL_HTTP_CHAIN.to_owned(),
            tcp_name: name::INBOUND_CATCHALL_CHAIN.to_owned(),
            http_stat_prefix: name::stat(cluster),
            tcp_stat_prefix: cluster.to_owned(),
            cluster: cluster.to_owned(),
            service_port: 0,
            operation: ":0/*".to_owned(),
            protocol: Protocol::Auto,
            http10,
        }
    }

    pub(super) fn of_port(port: &Port, ip_mode: IpMode, http10: bool) -> Self {
        let wildcard = ip_mode.wildcard();
        let name = name::listener(wildcard, port.number);
        Self {
            matched: port.bind.is_none().then_some(port.number),
            http_name: name.clone(),
            tcp_name: name,
            http_stat_prefix: name::inbound_stat_prefix(wildcard, port.number),
            tcp_stat_prefix: port.stat_prefix.clone(),
            cluster: name::inbound_cluster(port.number),
            service_port: port.service_port,
            operation: format!("{}:{}/*", port.host, port.service_port),
            protocol: port.protocol,
            http10,
        }
    }

    /// Which inspectors the port's connections need. They are the same for PERMISSIVE and STRICT: a
    /// change of listener filters would close every connection of the listener.
    pub(super) fn needs(&self, mode: MtlsMode) -> Needs {
        Needs {
            port: self.matched,
            tls: mode != MtlsMode::Disable,
            http: self.protocol.is_auto(),
        }
    }

    /// The chains, in the order of the table above.
    pub(super) fn build(&self, mode: MtlsMode, mesh: &Mesh) -> Vec<FilterChain> {
        use Becomes::{Http, Tcp};
        use Begins::{Raw, RawHttp, Tls};
        const ANY: &[&str] = &[];
        let http = self.protocol.is_http();
        let detected = self.protocol.is_auto();
        let rows: &[(Begins, Becomes)] = match mode {
            MtlsMode::Permissive if http => {
                &[(Tls(ANY), Http { mtls: true }), (Raw, Http { mtls: false })]
            }
            MtlsMode::Permissive if detected => &[
                (Tls(tls::ALPN_FROM_MESH_HTTP), Http { mtls: true }),
                (RawHttp, Http { mtls: false }),
                (Tls(tls::ALPN_FROM_MESH_TCP), Tcp { mtls: true }),
                (Raw, Tcp { mtls: false }),
                (Tls(ANY), Tcp { mtls: false }),
            ],
            MtlsMode::Permissive => &[
                (Tls(tls::ALPN_FROM_MESH), Tcp { mtls: true }),
                (Tls(ANY), Tcp { mtls: false }),
                (Raw, Tcp { mtls: false }),
            ],
            MtlsMode::Strict if http => &[(Tls(ANY), Http { mtls: true })],
            MtlsMode::Strict if detected => &[
                (Tls(tls::ALPN_FROM_MESH_HTTP), Http { mtls: true }),
                (Tls(tls::ALPN_FROM_MESH_TCP), Tcp { mtls: true }),
                (Tls(ANY), Tcp { mtls: true }),
            ],
            MtlsMode::Strict => &[
                (Tls(tls::ALPN_FROM_MESH), Tcp { mtls: true }),
                (Tls(ANY), Tcp { mtls: true }),
            ],
            MtlsMode::Disable if http => &[(Raw, Http { mtls: false })],
            MtlsMode::Disable if detected => {
                &[(RawHttp, Http { mtls: false }), (Raw, Tcp { mtls: false })]
            }
            MtlsMode::Disable => &[(Raw, Tcp { mtls: false })],
        };
        rows.iter()
            .map(|(begins, becomes)| self.chain(*begins, *becomes, mesh))
            .collect()
    }

    fn chain(&self, begins: Begins, becomes: Becomes, mesh: &Mesh) -> FilterChain {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let (transport, alpn): (&str, Vec<String>) = match begins {
            Begins::Tls(alpn) => ("tls", owned(alpn)),
            Begins::Raw => ("raw_buffer", Vec::new()),
            Begins::RawHttp if self.http10 => {
                ("raw_buffer", owned(&["http/1.0", "http/1.1", "h2c"]))
            }
            Begins::RawHttp => ("raw_buffer", owned(&["http/1.1", "h2c"])),
        };
        let (name, filters, mtls) = match becomes {
            Becomes::Http { mtls } => (&self.http_name, vec![self.http(mesh)], mtls),
            Becomes::Tcp { mtls } => {
                let prefix = self.tcp_stat_prefix.clone();
                let filters = tcp::to_workload(&self.cluster, prefix, self.protocol, mesh);
                (&self.tcp_name, filters, mtls)
            }
        };
        FilterChain {
            name: name.clone(),
            filter_chain_match: Some(FilterChainMatch {
                destination_port: self.matched,
                transport_protocol: transport.to_owned(),
                application_protocols: alpn,
                ..Default::default()
            }),
            filters,
            transport_socket: mtls.then(|| downstream::mesh_mutual(mesh)),
            ..Default::default()
        }
    }

    fn http(&self, mesh: &Mesh) -> Filter {
        manager::filter(manager::Options {
            mesh,
            side: Side::Inbound,
            stat_prefix: self.http_stat_prefix.clone(),
            routes: Routes::Inline(Box::new(self.route_configuration())),
            protocol: self.protocol,
            http10: self.http10,
            absolute_urls: false,
            security: Vec::new(),
        })
    }

    /// Sends everything to the workload, without a timeout: the client's proxy sets it.
    fn route_configuration(&self) -> RouteConfiguration {
        let grpc = matches!(self.protocol, Protocol::Grpc | Protocol::GrpcWeb);
        let action = RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(self.cluster.clone())),
            timeout: Some(Duration::default()),
            max_stream_duration: Some(MaxStreamDuration {
                max_stream_duration: Some(Duration::default()),
                grpc_timeout_header_max: Some(Duration::default()),
                ..Default::default()
            }),
            retry_policy: (!grpc).then(|| RetryPolicy {
                retry_on: "reset-before-request".to_owned(),
                num_retries: Some(INBOUND_RETRIES),
                ..Default::default()
            }),
            ..Default::default()
        };
        let route = Route {
            name: name::DEFAULT_ROUTE.to_owned(),
            r#match: Some(RouteMatch {
                path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
                ..Default::default()
            }),
            decorator: Some(Decorator {
                operation: self.operation.clone(),
                ..Default::default()
            }),
            action: Some(Action::Route(action)),
            ..Default::default()
        };
        RouteConfiguration {
            name: self.cluster.clone(),
            validate_clusters: Some(false),
            virtual_hosts: vec![VirtualHost {
                name: name::inbound_virtual_host(self.service_port),
                domains: vec!["*".to_owned()],
                routes: vec![route],
                ..Default::default()
            }],
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::filter;

    fn table(protocol: Protocol, mode: MtlsMode) -> Vec<String> {
        let server = Server {
            protocol,
            matched: Some(80),
            ..Server::passthrough(None, false)
        };
        let describe = |chain: FilterChain| {
            let matched = chain.filter_chain_match.unwrap();
            assert_eq!(matched.destination_port, Some(80));
            let http = chain.filters[0].name == filter::HTTP_CONNECTION_MANAGER;
            format!(
                "{} [{}] {}{}",
                matched.transport_protocol,
                matched.application_protocols.join(" "),
                if http { "http" } else { "tcp" },
                if chain.transport_socket.is_some() {
                    " mtls"
                } else {
                    ""
                },
            )
        };
        let chains = server.build(mode, &Mesh::default());
        chains.into_iter().map(describe).collect()
    }

    const MESH: &str = "istio istio-peer-exchange istio-http/1.0 istio-http/1.1 istio-h2";
    const MESH_HTTP: &str = "istio-http/1.0 istio-http/1.1 istio-h2";

    #[test]
    fn permissive_ports_take_both() {
        assert_eq!(
            table(Protocol::Http, MtlsMode::Permissive),
            ["tls [] http mtls", "raw_buffer [] http"]
        );
        assert_eq!(
            table(Protocol::Tcp, MtlsMode::Permissive),
            [
                format!("tls [{MESH}] tcp mtls"),
                "tls [] tcp".to_owned(),
                "raw_buffer [] tcp".to_owned(),
            ]
        );
        assert_eq!(
            table(Protocol::Auto, MtlsMode::Permissive),
            [
                format!("tls [{MESH_HTTP}] http mtls"),
                "raw_buffer [http/1.1 h2c] http".to_owned(),
                "tls [istio-peer-exchange istio] tcp mtls".to_owned(),
                "raw_buffer [] tcp".to_owned(),
                "tls [] tcp".to_owned(),
            ]
        );
    }

    #[test]
    fn strict_ports_take_no_plain_text() {
        assert_eq!(
            table(Protocol::Grpc, MtlsMode::Strict),
            ["tls [] http mtls"]
        );
        assert_eq!(
            table(Protocol::Tls, MtlsMode::Strict),
            [
                format!("tls [{MESH}] tcp mtls"),
                "tls [] tcp mtls".to_owned()
            ]
        );
        assert_eq!(
            table(Protocol::Auto, MtlsMode::Strict),
            [
                format!("tls [{MESH_HTTP}] http mtls"),
                "tls [istio-peer-exchange istio] tcp mtls".to_owned(),
                "tls [] tcp mtls".to_owned()
            ]
        );
    }

    #[test]
    fn chains_of_the_mesh_are_the_same_in_permissive_and_strict() {
        for protocol in [Protocol::Http, Protocol::Tcp, Protocol::Auto] {
            let server = Server {
                protocol,
                ..Server::passthrough(Some(80), false)
            };
            let chains = |mode| server.build(mode, &Mesh::default());
            let strict = chains(MtlsMode::Strict);
            let mut kept = chains(MtlsMode::Permissive);
            kept.retain(|chain| chain.transport_socket.is_some());
            assert!(!kept.is_empty());
            for chain in kept {
                assert!(strict.contains(&chain), "{protocol:?}: {chain:?}");
            }
            assert_eq!(
                server.needs(MtlsMode::Permissive),
                server.needs(MtlsMode::Strict)
            );
        }
    }

    #[test]
    fn ports_without_mutual_tls_take_plain_text_only() {
        assert_eq!(
            table(Protocol::Http, MtlsMode::Disable),
            ["raw_buffer [] http"]
        );
        assert_eq!(
            table(Protocol::Tcp, MtlsMode::Disable),
            ["raw_buffer [] tcp"]
        );
        assert_eq!(
            table(Protocol::Auto, MtlsMode::Disable),
            ["raw_buffer [http/1.1 h2c] http", "raw_buffer [] tcp"]
        );
    }
}
