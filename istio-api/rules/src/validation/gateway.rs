//! Rules for Gateway.

use std::collections::BTreeSet;

use super::metadata::is_converted_gateway;
use super::primitives::host::{self, Scoped};
use super::primitives::number;
use super::primitives::protocol::{self, Protocol};
use super::report::{At, Check, quote};
use super::{SPEC, server_tls};
use istio_api::networking::v1alpha3::server_tls_settings::TlSmode as Mode;
use istio_api::networking::v1alpha3::{Gateway, Port, Server, ServerTlsSettings};

const UNIX: &str = "unix://";

pub(super) fn validate(check: &mut Check<'_>, spec: &Gateway) {
    check.refuse(
        spec.servers.is_empty(),
        "GW-01",
        &SPEC.field("servers"),
        "there is no server: want at least one, with port and hosts",
    );
    let mut names = BTreeSet::new();
    for (i, one) in spec.servers.iter().enumerate() {
        let at = SPEC.item("servers", i);
        server(check, &at, one);
        if let Some(port) = &one.port
            && !port.name.is_empty()
            && !names.insert(&port.name)
        {
            let at = at.field("port");
            check.error(
                "GW-10",
                &at.field("name"),
                format!(
                    "{} is the name of an earlier server's port: want each name once",
                    quote(&port.name)
                ),
            );
        }
    }
}

fn server(check: &mut Check<'_>, at: &At<'_>, server: &Server) {
    check.refuse(
        server.hosts.is_empty(),
        "GW-03",
        &at.field("hosts"),
        "there is no host: want at least one, or \"*\" for all",
    );
    let scoped = if is_converted_gateway(check) {
        Scoped::ConvertedGateway
    } else {
        Scoped::Gateway
    };
    for (i, name) in server.hosts.iter().enumerate() {
        check.test("GW-04", &at.item("hosts", i), host::scoped(name, scoped));
    }
    bind(check, &at.field("bind"), server);
    let at_tls = at.field("tls");
    if let Some(tls) = &server.tls {
        server_tls::validate(check, &at_tls, tls);
    }
    let Some(one) = &server.port else {
        check.error(
            "GW-05",
            &at.field("port"),
            "there is no port: want number, name and protocol",
        );
        return;
    };
    let is_right = port(check, &at.field("port"), one, server.bind.starts_with(UNIX));
    let Some(protocol) = Protocol::parse(&one.protocol) else {
        return;
    };
    if is_right {
        suits(check, &at_tls, protocol, server.tls.as_ref());
    }
    if !protocol.is_http() && server.tls.as_ref().is_some_and(|tls| tls.https_redirect) {
        check.warn(
            "GW-17",
            &at_tls.field("httpsRedirect"),
            "only HTTP can be redirected to HTTPS: want this on a server with protocol HTTP",
        );
    }
}

/// Returns whether the port passed.
fn port(check: &mut Check<'_>, at: &At<'_>, port: &Port, on_socket: bool) -> bool {
    let protocol = protocol::known(&port.protocol);
    let number = if port.number == 0 && on_socket {
        Ok(())
    } else {
        number::port(port.number)
    };
    let is_right =
        protocol.is_ok() && number.is_ok() && port.target_port == 0 && !port.name.is_empty();
    check.test("GW-06", &at.field("protocol"), protocol);
    check.test("GW-07", &at.field("number"), number);
    check.refuse(
        port.target_port != 0,
        "GW-08",
        &at.field("targetPort"),
        "targetPort has no effect in a Gateway: leave it out",
    );
    check.refuse(
        port.name.is_empty(),
        "GW-09",
        &at.field("name"),
        "the port has no name: want one that no other server has",
    );
    is_right
}

fn bind(check: &mut Check<'_>, at: &At<'_>, server: &Server) {
    if let Some(path) = server.bind.strip_prefix(UNIX) {
        check.test("GW-11", at, host::unix_path(path));
        check.refuse(
            server.port.as_ref().is_some_and(|port| port.number != 0),
            "GW-12",
            at,
            "a Unix socket has no port number: want port.number 0, or an IP address",
        );
    } else if !server.bind.is_empty() {
        check.test("GW-13", at, host::ip(&server.bind));
    }
}

/// Checks that port and TLS settings go together.
fn suits(check: &mut Check<'_>, at: &At<'_>, protocol: Protocol, tls: Option<&ServerTlsSettings>) {
    let Some(tls) = tls else {
        check.refuse(
            protocol.is_tls(),
            "GW-14",
            at,
            "protocols HTTPS and TLS need TLS settings: want tls with a mode",
        );
        return;
    };
    if protocol.is_http() {
        let passes = matches!(tls.mode(), Mode::Passthrough | Mode::AutoPassthrough);
        let files = [
            &tls.server_certificate,
            &tls.private_key,
            &tls.ca_certificates,
        ];
        check.refuse(
            !passes || files.into_iter().any(|file| !file.is_empty()),
            "GW-15",
            at,
            "plain HTTP has no TLS: want protocol HTTPS, or only httpsRedirect here",
        );
    } else {
        check.refuse(
            !protocol.is_tls(),
            "GW-16",
            at,
            "this protocol has no TLS: want protocol TLS or HTTPS, or leave tls out",
        );
    }
}
