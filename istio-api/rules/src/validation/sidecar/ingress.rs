//! Listeners for what a sidecar accepts.

use std::collections::BTreeSet;

use super::{UNIX, port};
use crate::validation::destination_rule::pool;
use crate::validation::primitives::protocol::Protocol;
use crate::validation::primitives::{host, number};
use crate::validation::report::{At, Check, quote};
use crate::validation::{SPEC, server_tls};
use istio_api::networking::v1alpha3::server_tls_settings::TlSmode as Mode;
use istio_api::networking::v1alpha3::{IstioIngressListener, ServerTlsSettings};

pub(super) fn validate(check: &mut Check<'_>, listeners: &[IstioIngressListener]) {
    let mut numbers = BTreeSet::new();
    for (i, one) in listeners.iter().enumerate() {
        let at = SPEC.item("ingress", i);
        listener(check, &at, one);
        if let Some(port) = &one.port
            && !numbers.insert(port.number)
        {
            let at = at.field("port");
            check.error(
                "SC-09",
                &at.field("number"),
                format!(
                    "{} is the port of an earlier listener: want each port once",
                    port.number
                ),
            );
        }
    }
}

fn listener(check: &mut Check<'_>, at: &At<'_>, listener: &IstioIngressListener) {
    let at_port = at.field("port");
    let protocol = listener
        .port
        .as_ref()
        .and_then(|port| Protocol::parse(&port.protocol));
    match &listener.port {
        None => check.error(
            "SC-04",
            &at_port,
            "there is no port: want number and protocol",
        ),
        Some(one) => {
            port(check, &at_port, one);
            check.test("SC-08", &at_port.field("number"), number::port(one.number));
        }
    }
    if !listener.bind.is_empty() {
        check.test("SC-10", &at.field("bind"), host::ip(&listener.bind));
    }
    if !listener.default_endpoint.is_empty() {
        endpoint(
            check,
            &at.field("defaultEndpoint"),
            &listener.default_endpoint,
        );
    }
    if let Some(settings) = &listener.tls {
        tls(check, &at.field("tls"), settings, protocol);
    }
    if let Some(settings) = &listener.connection_pool {
        let at = at.field("connectionPool");
        pool::validate(check, &at, settings);
        if settings.http.is_some() && !protocol.is_some_and(Protocol::is_http) {
            check.warn(
                "SC-20",
                &at.field("http"),
                "the port is not HTTP, so only the settings for TCP apply: want protocol HTTP, or tcp alone",
            );
        }
    }
}

/// Where the application listens: `127.0.0.1:80`, `:80`, or a socket.
fn endpoint(check: &mut Check<'_>, at: &At<'_>, endpoint: &str) {
    if let Some(path) = endpoint.strip_prefix(UNIX) {
        check.test("SC-12", at, host::unix_path(path));
        return;
    }
    let split = endpoint.rsplit_once(':').and_then(|(name, port)| {
        let inside = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        match inside {
            Some(inside) => Some((inside, port)),
            // Without brackets it is not clear where an address ends.
            None => (!name.contains(':')).then_some((name, port)),
        }
    });
    let Some((_, port)) =
        split.filter(|(name, _)| matches!(*name, "" | "127.0.0.1" | "0.0.0.0" | "::1" | "::"))
    else {
        check.error("SC-13", at, format!(
            "{} is not an address that an application beside the proxy listens at: want 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT, :PORT or unix:// and a path",
            quote(endpoint)
        ));
        return;
    };
    if !port.parse::<u32>().is_ok_and(number::is_port) {
        check.error(
            "SC-14",
            at,
            format!("{} is not a valid port: want 1 to 65535", quote(port)),
        );
    }
}

fn tls(
    check: &mut Check<'_>,
    at: &At<'_>,
    settings: &ServerTlsSettings,
    protocol: Option<Protocol>,
) {
    let unsupported = [
        ("subjectAltNames", !settings.subject_alt_names.is_empty()),
        ("httpsRedirect", settings.https_redirect),
        ("credentialName", !settings.credential_name.is_empty()),
        ("credentialNames", !settings.credential_names.is_empty()),
        ("tlsCertificates", !settings.tls_certificates.is_empty()),
    ];
    for (field, given) in unsupported {
        check.refuse(
            given,
            "SC-15",
            &at.field(field),
            "a sidecar does not support this setting: leave it out, and want serverCertificate and privateKey",
        );
    }
    check.refuse(
        matches!(settings.mode(), Mode::IstioMutual | Mode::AutoPassthrough),
        "SC-16",
        &at.field("mode"),
        "a sidecar does not support this mode here: want SIMPLE, MUTUAL, OPTIONAL_MUTUAL or PASSTHROUGH",
    );
    check.refuse(
        !protocol.is_some_and(Protocol::is_tls),
        "SC-17",
        at,
        "the port has no TLS: want protocol HTTPS or TLS",
    );
    server_tls::validate(check, at, settings);
}
