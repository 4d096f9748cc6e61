//! Application protocol of a port.

/// Protocol of a port, from `appProtocol` or the prefix of the port's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web.
    GrpcWeb,
    /// Only on the egress port of a Sidecar.
    HttpProxy,
    /// HTTP over TLS that the proxy does not terminate.
    Https,
    /// TLS that the proxy does not terminate.
    Tls,
    /// Plain TCP.
    Tcp,
    /// UDP; not proxied.
    Udp,
    /// MongoDB.
    Mongo,
    /// Redis.
    Redis,
    /// MySQL.
    Mysql,
    /// Not declared or unknown: the proxy detects it from the first bytes.
    Auto,
}

impl Protocol {
    /// Parses a protocol name, case-insensitively; unknown names mean [`Protocol::Auto`].
    pub fn parse(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            "grpc-web" => Self::GrpcWeb,
            "http_proxy" => Self::HttpProxy,
            "https" => Self::Https,
            "tls" => Self::Tls,
            "tcp" => Self::Tcp,
            "udp" => Self::Udp,
            "mongo" => Self::Mongo,
            "redis" => Self::Redis,
            "mysql" => Self::Mysql,
            _ => Self::Auto,
        }
    }

    /// Parses a port name: the protocol is the part before the first `-`.
    pub fn from_port_name(name: &str) -> Self {
        if name.len() >= 8
            && name
                .get(..8)
                .is_some_and(|p| p.eq_ignore_ascii_case("grpc-web"))
        {
            return Self::GrpcWeb;
        }
        Self::parse(name.split('-').next().unwrap_or_default())
    }

    /// Parses Kubernetes `appProtocol`: well-known values, otherwise like a port name.
    pub fn from_app_protocol(value: &str) -> Self {
        match value {
            "kubernetes.io/h2c" => Self::Http2,
            "kubernetes.io/ws" => Self::Http,
            "kubernetes.io/wss" => Self::Https,
            other => Self::from_port_name(other),
        }
    }

    /// Whether requests are routed as HTTP.
    pub fn is_http(self) -> bool {
        matches!(
            self,
            Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb | Self::HttpProxy
        )
    }

    /// Whether it is HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Whether connections are routed by their server name.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// Plain TCP and protocols that are forwarded like it.
    pub fn is_tcp(self) -> bool {
        matches!(
            self,
            Self::Tcp | Self::Tls | Self::Https | Self::Mongo | Self::Redis | Self::Mysql
        )
    }

    /// Whether the protocol is detected.
    pub fn is_auto(self) -> bool {
        self == Self::Auto
    }

    /// The protocol after TLS was terminated.
    pub fn after_tls(self) -> Self {
        match self {
            Self::Https => Self::Http,
            Self::Tls => Self::Tcp,
            other => other,
        }
    }

    /// The name as Istio writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Http2 => "HTTP2",
            Self::Grpc => "GRPC",
            Self::GrpcWeb => "GRPC-Web",
            Self::HttpProxy => "HTTP_PROXY",
            Self::Https => "HTTPS",
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Mongo => "Mongo",
            Self::Redis => "Redis",
            Self::Mysql => "MySQL",
            Self::Auto => "UnsupportedProtocol",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_names_give_the_protocol_before_the_first_dash() {
        for (name, want) in [
            ("http", Protocol::Http),
            ("HTTP-web", Protocol::Http),
            ("grpc-web", Protocol::GrpcWeb),
            ("grpc-web-x", Protocol::GrpcWeb),
            ("grpc-x", Protocol::Grpc),
            ("tcp-echo", Protocol::Tcp),
            ("web", Protocol::Auto),
            ("", Protocol::Auto),
        ] {
            assert_eq!(Protocol::from_port_name(name), want, "{name}");
        }
    }
}
