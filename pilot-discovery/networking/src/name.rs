//! Names of clusters, routes, listeners and virtual hosts; built and parsed only here.

use std::fmt;

use pilot_model::{
    config::ConfigRef,
    service::{Registry, Service, ServicePort},
};

/// HTTP filter that sets, per request, the ALPN by which mesh servers learn the protocol of the
/// connection. Empty on the listener; routes configure it.
pub const ALPN_FILTER: &str = "mesh.alpn";
/// Cluster without endpoints.
pub const BLACK_HOLE_CLUSTER: &str = "BlackHoleCluster";
/// Cluster that forwards to the address that the client dialled.
pub const PASSTHROUGH_CLUSTER: &str = "PassthroughCluster";
/// Like [`PASSTHROUGH_CLUSTER`], towards the application.
pub const INBOUND_PASSTHROUGH_CLUSTER: &str = "InboundPassthroughCluster";
/// Cluster name of a route whose destination has no host.
pub const UNKNOWN_SERVICE: &str = "UnknownService";

/// Listener of captured outbound connections.
pub const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
/// Listener of captured inbound connections.
pub const VIRTUAL_INBOUND: &str = "virtualInbound";

/// Filter chain that breaks loops to the outbound port.
pub const OUTBOUND_BLACKHOLE_CHAIN: &str = "virtualOutbound-blackhole";
/// Filter chain of connections that match no listener.
pub const OUTBOUND_CATCHALL_CHAIN: &str = "virtualOutbound-catchall-tcp";
/// Filter chain that breaks loops to the inbound port.
pub const INBOUND_BLACKHOLE_CHAIN: &str = "virtualInbound-blackhole";
/// Filter chain of requests to ports without a service.
pub const INBOUND_CATCHALL_HTTP_CHAIN: &str = "virtualInbound-catchall-http";
/// Filter chain of connections to ports without a service.
pub const INBOUND_CATCHALL_CHAIN: &str = "virtualInbound";
/// Filter chain of an outbound listener for connections that match none of its services.
pub const PASSTHROUGH_CHAIN: &str = "PassthroughFilterChain";

/// Route configuration of the explicit HTTP proxy.
pub const HTTP_PROXY_ROUTE: &str = "http_proxy";
/// Virtual host that forwards requests to unknown hosts.
pub const ALLOW_ANY: &str = "allow_any";
/// Virtual host that rejects requests to unknown hosts.
pub const BLOCK_ALL: &str = "block_all";
/// Name of the route of a service without a VirtualService.
pub const DEFAULT_ROUTE: &str = "default";

/// The parts of an outbound cluster's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outbound<'a> {
    /// Port of the service.
    pub port: u32,
    /// Empty for the whole service.
    pub subset: &'a str,
    /// Host of the service.
    pub host: &'a str,
}

impl<'a> Outbound<'a> {
    /// Parses `outbound|<port>|<subset>|<host>`, exactly four parts.
    pub fn parse(name: &'a str) -> Option<Self> {
        let mut parts = name.split('|');
        let fields = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let ("outbound", port, subset, host) = fields else {
            return None;
        };
        if parts.next().is_some() {
            return None;
        }
        Some(Self {
            port: port.parse().ok()?,
            subset,
            host,
        })
    }

    /// Parses `outbound_.<port>_.<subset>_.<host>`.
    pub fn parse_sni(name: &'a str) -> Option<Self> {
        let mut parts = name.strip_prefix("outbound_.")?.splitn(3, "_.");
        let (port, subset, host) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            port: port.parse().ok()?,
            subset,
            host,
        })
    }

    /// The server name that mesh clients send, also the name of the SNI-DNAT cluster.
    pub fn sni(&self) -> String {
        format!("outbound_.{}_.{}_.{}", self.port, self.subset, self.host)
    }
}

impl fmt::Display for Outbound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outbound|{}|{}|{}", self.port, self.subset, self.host)
    }
}

/// `outbound|<port>|<subset>|<host>`; `subset` may be empty.
pub fn outbound_cluster(port: u32, subset: &str, host: &str) -> String {
    Outbound { port, subset, host }.to_string()
}

/// `inbound|<port>||`, by the port at the workload.
pub fn inbound_cluster(target_port: u32) -> String {
    format!("inbound|{target_port}||")
}

/// The port in `inbound|<port>||`.
pub fn parse_inbound_cluster(name: &str) -> Option<u32> {
    name.strip_prefix("inbound|")?
        .strip_suffix("||")?
        .parse()
        .ok()
}

/// A name for statistics: `;` ends it, so that tag extraction finds the end.
pub fn stat(name: &str) -> String {
    format!("{name};")
}

/// `<address>_<port>`; `<path>_0` for a Unix socket.
pub fn listener(address: &str, port: u32) -> String {
    format!("{address}_{port}")
}

/// Statistics prefix of an outbound or gateway HTTP connection manager.
pub fn outbound_stat_prefix(listener: &str) -> String {
    format!("outbound_{listener};")
}

/// Statistics prefix of an inbound HTTP connection manager.
pub fn inbound_stat_prefix(wildcard: &str, target_port: u32) -> String {
    format!("inbound_{wildcard}_{target_port};")
}

/// The meaning of a sidecar's route configuration name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SidecarRoute<'a> {
    /// `<port>`: every HTTP service on that port.
    Port(u32),
    /// `<host>:<port>`: one service whose protocol is detected.
    Sniffed {
        /// Host of the service.
        host: &'a str,
        /// Port of the service.
        port: u32,
    },
    /// `unix:///…`: the bind address of a Sidecar egress listener.
    Unix(&'a str),
    /// `http_proxy`: the explicit HTTP proxy.
    HttpProxy,
}

impl<'a> SidecarRoute<'a> {
    /// Parses a name; `None` if it has none of these forms.
    pub fn parse(name: &'a str) -> Option<Self> {
        if name == HTTP_PROXY_ROUTE {
            return Some(Self::HttpProxy);
        }
        if name.starts_with("unix://") {
            return Some(Self::Unix(name));
        }
        if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
            return name.parse().ok().map(Self::Port);
        }
        let (host, port) = name.split_once(':')?;
        Some(Self::Sniffed {
            host,
            port: port.parse().ok()?,
        })
    }
}

impl fmt::Display for SidecarRoute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "{port}"),
            Self::Sniffed { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(bind) => f.write_str(bind),
            Self::HttpProxy => f.write_str(HTTP_PROXY_ROUTE),
        }
    }
}

/// `http.<port>[.<bind>]`, by the port that the gateway listens on.
pub fn gateway_http_route(listen_port: u32, bind: &str) -> String {
    if bind.is_empty() {
        format!("http.{listen_port}")
    } else {
        format!("http.{listen_port}.{bind}")
    }
}

/// `https.<port>.<port name>.<gateway>.<namespace>[.<bind>]`, by the port in the Gateway.
pub fn gateway_https_route(
    server_port: u32,
    port_name: &str,
    gateway: &str,
    namespace: &str,
    bind: &str,
) -> String {
    let mut name = format!("https.{server_port}.{port_name}.{gateway}.{namespace}");
    if !bind.is_empty() {
        name.push('.');
        name.push_str(bind);
    }
    name
}

/// `<host>:<port>`, with an IPv6 address in brackets.
pub fn virtual_host(host: &str, port: u32) -> String {
    if host.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// `inbound|http|<service port>`.
pub fn inbound_virtual_host(service_port: u32) -> String {
    format!("inbound|http|{service_port}")
}

/// `blackhole:<port>`: the only virtual host of a gateway route that serves nothing.
pub fn blackhole_virtual_host(port: u32) -> String {
    format!("blackhole:{port}")
}

/// `/apis/<group>/<version>/namespaces/<namespace>/<kebab-kind>/<name>`, as tools read it from the
/// `istio` metadata of a resource.
pub fn config_path(config: &ConfigRef) -> String {
    let group = match config.kind {
        "PeerAuthentication" | "RequestAuthentication" | "AuthorizationPolicy" => {
            "security.istio.io"
        }
        "Telemetry" => "telemetry.istio.io",
        _ => "networking.istio.io",
    };
    let version = match config.kind {
        "EnvoyFilter" => "v1alpha3",
        _ => "v1",
    };
    let mut kind = String::with_capacity(config.kind.len() + 2);
    for (at, letter) in config.kind.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            kind.push('-');
        }
        kind.push(letter.to_ascii_lowercase());
    }
    let (namespace, name) = (&config.namespace, &config.name);
    format!("/apis/{group}/{version}/namespaces/{namespace}/{kind}/{name}")
}

/// Expands `outboundClusterStatName` or `inboundClusterStatName` of the mesh config.
pub fn stat_from_pattern(
    pattern: &str,
    service: &Service,
    port: &ServicePort,
    target_port: u32,
    subset: &str,
) -> String {
    let host = service.host().as_str();
    let (short, qualified) = match service.registry {
        Registry::Kubernetes => (
            service.name.to_string(),
            format!("{}.{}", service.name, service.namespace()),
        ),
        Registry::External => (host.to_owned(), host.to_owned()),
    };
    pattern
        .replace("%SERVICE%", &qualified)
        .replace("%SERVICE_NAME%", &short)
        .replace("%SERVICE_FQDN%", host)
        .replace("%SERVICE_PORT%", &port.number.to_string())
        .replace("%TARGET_PORT%", &target_port.to_string())
        .replace("%SERVICE_PORT_NAME%", &port.name)
        .replace("%SUBSET_NAME%", subset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outbound_cluster_names_survive_the_round_trip() {
        for (port, subset, host, name, sni) in [
            (
                9080,
                "",
                "a.b.svc.cluster.local",
                "outbound|9080||a.b.svc.cluster.local",
                "outbound_.9080_._.a.b.svc.cluster.local",
            ),
            (
                443,
                "v2",
                "*.example.com",
                "outbound|443|v2|*.example.com",
                "outbound_.443_.v2_.*.example.com",
            ),
            (
                1,
                "a_b",
                "_x.y",
                "outbound|1|a_b|_x.y",
                "outbound_.1_.a_b_._x.y",
            ),
        ] {
            let cluster = Outbound { port, subset, host };
            assert_eq!(cluster.to_string(), name);
            assert_eq!(cluster.sni(), sni);
            assert_eq!(Outbound::parse(name), Some(cluster));
            assert_eq!(Outbound::parse_sni(sni), Some(cluster));
        }
    }

    #[test]
    fn other_names_are_no_outbound_clusters() {
        for name in [
            "",
            "outbound|80|a",
            "outbound|80|a|b|c",
            "inbound|80||",
            "outbound|x||a",
        ] {
            assert_eq!(Outbound::parse(name), None, "{name}");
        }
        assert_eq!(Outbound::parse_sni("outbound|80||a"), None);
    }

    #[test]
    fn inbound_cluster_names_survive_the_round_trip() {
        assert_eq!(inbound_cluster(9080), "inbound|9080||");
        assert_eq!(parse_inbound_cluster("inbound|9080||"), Some(9080));
        assert_eq!(parse_inbound_cluster("inbound|9080|http|a.b"), None);
    }

    #[test]
    fn sidecar_route_names_survive_the_round_trip() {
        for (name, route) in [
            ("9080", SidecarRoute::Port(9080)),
            (
                "raw.demo:9000",
                SidecarRoute::Sniffed {
                    host: "raw.demo",
                    port: 9000,
                },
            ),
            ("unix:///var/run/x", SidecarRoute::Unix("unix:///var/run/x")),
            ("http_proxy", SidecarRoute::HttpProxy),
        ] {
            assert_eq!(SidecarRoute::parse(name), Some(route));
            assert_eq!(route.to_string(), name);
        }
        for name in ["", "http.80", "a:b", "99999999999"] {
            assert_eq!(SidecarRoute::parse(name), None, "{name}");
        }
    }

    #[test]
    fn gateway_routes_name_a_bind_only_when_there_is_one() {
        assert_eq!(gateway_http_route(8080, ""), "http.8080");
        assert_eq!(gateway_http_route(8080, "10.0.0.1"), "http.8080.10.0.0.1");
        assert_eq!(
            gateway_https_route(443, "https", "gw", "demo", ""),
            "https.443.https.gw.demo"
        );
    }

    #[test]
    fn virtual_hosts_bracket_ipv6() {
        assert_eq!(virtual_host("a.b", 80), "a.b:80");
        assert_eq!(virtual_host("fd00::1", 80), "[fd00::1]:80");
    }

    #[test]
    fn config_paths_write_the_kind_in_kebab_case() {
        let config = |kind| ConfigRef {
            kind,
            namespace: "demo".into(),
            name: "reviews".into(),
            version: "1".into(),
        };
        assert_eq!(
            config_path(&config("DestinationRule")),
            "/apis/networking.istio.io/v1/namespaces/demo/destination-rule/reviews"
        );
        assert_eq!(
            config_path(&config("PeerAuthentication")),
            "/apis/security.istio.io/v1/namespaces/demo/peer-authentication/reviews"
        );
    }
}
