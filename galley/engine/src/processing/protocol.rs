//! The protocol of a service port.

use crate::native::{Port, Transport};

/// Well-known ports: SMTP, DNS, MySQL, MongoDB. Their servers speak first or do not speak HTTP, so
/// that protocol detection would only delay them.
const PLAIN_TCP: [u16; 4] = [25, 53, 3306, 27017];

/// The protocol name in a ServiceEntry; empty if the protocol is to be detected.
pub(super) fn of(port: &Port) -> &'static str {
    if port.transport == Transport::Udp {
        return "UDP";
    }
    if port.transport == Transport::Sctp {
        return "TCP";
    }
    let by_app = match port.app_protocol.as_str() {
        "" => None,
        "kubernetes.io/h2c" => Some("HTTP2"),
        "kubernetes.io/ws" => Some("HTTP"),
        "kubernetes.io/wss" => Some("HTTPS"),
        name => Some(by_name(name)),
    };
    // An unknown appProtocol still overrides the name.
    let named = by_app.unwrap_or_else(|| by_name(&port.name));
    if named.is_empty() && PLAIN_TCP.contains(&port.number) {
        "TCP"
    } else {
        named
    }
}

/// Protocol by the text before the first dash, in any case.
fn by_name(name: &str) -> &'static str {
    let name = name.to_ascii_lowercase();
    if name == "grpc-web" || name.starts_with("grpc-web-") {
        return "GRPC-Web";
    }
    match name.split('-').next().unwrap_or_default() {
        "http" => "HTTP",
        "http2" => "HTTP2",
        "grpc" => "GRPC",
        "https" => "HTTPS",
        "tls" => "TLS",
        "tcp" => "TCP",
        "udp" => "UDP",
        "mongo" => "Mongo",
        "redis" => "Redis",
        "mysql" => "MySQL",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::Target;

    #[test]
    fn protocols_by_transport_app_protocol_name_and_number() {
        let cases = [
            ("http-web", "", 80, Transport::Tcp, "HTTP"),
            ("HTTP2-x", "", 80, Transport::Tcp, "HTTP2"),
            ("grpc-web", "", 80, Transport::Tcp, "GRPC-Web"),
            ("grpc-web-x", "", 80, Transport::Tcp, "GRPC-Web"),
            ("grpc-x", "", 80, Transport::Tcp, "GRPC"),
            ("web", "", 80, Transport::Tcp, ""),
            ("", "", 80, Transport::Tcp, ""),
            ("", "", 3306, Transport::Tcp, "TCP"),
            ("http", "", 3306, Transport::Tcp, "HTTP"),
            ("http", "", 80, Transport::Udp, "UDP"),
            ("tcp", "kubernetes.io/h2c", 80, Transport::Tcp, "HTTP2"),
            ("tcp", "kubernetes.io/ws", 80, Transport::Tcp, "HTTP"),
            ("tcp", "kubernetes.io/wss", 80, Transport::Tcp, "HTTPS"),
            ("tcp", "https", 80, Transport::Tcp, "HTTPS"),
            ("http", "example.com/own", 80, Transport::Tcp, ""),
        ];
        for (name, app, number, transport, wanted) in cases {
            let port = Port {
                name: name.to_owned(),
                number,
                target: Target::Number(number),
                transport,
                app_protocol: app.to_owned(),
            };
            assert_eq!(of(&port), wanted, "{name:?} {app:?} {number}");
        }
    }
}
