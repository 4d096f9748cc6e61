//! Protocols of ports.

use super::super::report::quote;
use super::{Outcome, ensure};

/// A protocol, as far as rules distinguish them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Http2,
    Grpc,
    GrpcWeb,
    HttpProxy,
    Https,
    Tls,
    Tcp,
    Udp,
}

impl Protocol {
    /// Parses a name, ignoring case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "tcp" | "mongo" | "redis" | "mysql" => Self::Tcp,
            "udp" => Self::Udp,
            "grpc" => Self::Grpc,
            "grpc-web" => Self::GrpcWeb,
            "http" => Self::Http,
            "http_proxy" => Self::HttpProxy,
            "http2" => Self::Http2,
            "https" => Self::Https,
            "tls" => Self::Tls,
            _ => return None,
        })
    }

    pub(in super::super) const fn is_http(self) -> bool {
        matches!(
            self,
            Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb | Self::HttpProxy
        )
    }

    pub(in super::super) const fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// TCP with or without TLS: Envoy sees bytes.
    pub(in super::super) const fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::Https | Self::Tls)
    }
}

const NAMES: &str = "HTTP, HTTPS, HTTP2, GRPC, GRPC-Web, TLS, TCP, Mongo, Redis or MySQL";

/// A protocol that must be given.
pub(in super::super) fn known(text: &str) -> Outcome {
    ensure(Protocol::parse(text).is_some(), || {
        format!("{} is not a known protocol: want {NAMES}", quote(text))
    })
}

/// A protocol; empty means that it is detected.
pub(in super::super) fn known_or_empty(text: &str) -> Outcome {
    if text.is_empty() {
        return Ok(());
    }
    known(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case() {
        assert_eq!(Protocol::parse("gRPC-Web"), Some(Protocol::GrpcWeb));
        assert_eq!(Protocol::parse("Mongo"), Some(Protocol::Tcp));
        for bad in ["hbone", "doublehbone", "foo", ""] {
            assert_eq!(Protocol::parse(bad), None, "{bad}");
        }
        assert!(known_or_empty("").is_ok() && known("").is_err());
    }

    #[test]
    fn classes() {
        for name in ["http", "http2", "grpc", "grpc-web", "http_proxy"] {
            assert!(Protocol::parse(name).unwrap().is_http());
        }
        for name in ["https", "tls"] {
            let protocol = Protocol::parse(name).unwrap();
            assert!(protocol.is_tls() && protocol.is_tcp() && !protocol.is_http());
        }
        assert!(!Protocol::Udp.is_tcp());
    }
}
