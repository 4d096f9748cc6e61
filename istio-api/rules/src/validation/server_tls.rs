//! TLS settings of servers of gateways and listeners of sidecars.

use std::collections::BTreeSet;

use super::primitives::tls;
use super::report::{At, Check, quote};
use istio_api::networking::v1alpha3::ServerTlsSettings;
use istio_api::networking::v1alpha3::server_tls_settings::{TlSmode as Mode, TlsProtocol};

pub(super) fn validate(check: &mut Check<'_>, at: &At<'_>, settings: &ServerTlsSettings) {
    versions(check, at, settings);
    let mode = settings.mode();
    let given = given(settings);
    if mode == Mode::IstioMutual {
        for (field, _) in given.into_iter().filter(|(_, given)| *given) {
            check.error(
                "TL-04",
                &at.field(field),
                "mode ISTIO_MUTUAL uses the mesh's own certificates: leave this out",
            );
        }
        return;
    }
    let passes = matches!(mode, Mode::Passthrough | Mode::AutoPassthrough);
    if passes {
        let crl = ("caCrl", !settings.ca_crl.is_empty());
        for (field, _) in given.into_iter().chain([crl]).filter(|(_, given)| *given) {
            check.warn(
                "TL-05",
                &at.field(field),
                "TLS is passed through without termination, so this is ignored: leave it out, or want another mode",
            );
        }
    }
    sources(check, at, settings);
    let has_credential =
        !settings.credential_name.is_empty() || !settings.credential_names.is_empty();
    if has_credential {
        check.refuse(
            passes && !settings.credential_name.is_empty() && !settings.ca_crl.is_empty(),
            "TL-12",
            &at.field("caCrl"),
            "with credentialName the revocation list is part of the secret: want it there, as ca.crl",
        );
        if !passes {
            return;
        }
    }
    if !passes {
        files(check, at, settings, mode);
    }
    if settings.tls_certificates.len() > 2 {
        check.warn(
            "TL-11",
            &at.field("tlsCertificates"),
            "more than 2 certificates are given: want at most one for RSA and one for ECDSA",
        );
    }
    check.refuse(
        mode == Mode::Simple && !settings.ca_crl.is_empty(),
        "TL-13",
        &at.field("caCrl"),
        "mode SIMPLE asks for no client certificate, so none can be revoked: want mode MUTUAL, or leave this out",
    );
}

/// Which of the ways to give certificates are used; the revocation list is not one of them.
fn given(settings: &ServerTlsSettings) -> [(&'static str, bool); 6] {
    [
        ("serverCertificate", !settings.server_certificate.is_empty()),
        ("privateKey", !settings.private_key.is_empty()),
        ("caCertificates", !settings.ca_certificates.is_empty()),
        ("tlsCertificates", !settings.tls_certificates.is_empty()),
        ("credentialName", !settings.credential_name.is_empty()),
        ("credentialNames", !settings.credential_names.is_empty()),
    ]
}

fn versions(check: &mut Check<'_>, at: &At<'_>, settings: &ServerTlsSettings) {
    let old = matches!(
        settings.min_protocol_version(),
        TlsProtocol::Tlsv10 | TlsProtocol::Tlsv11
    );
    if old && settings.cipher_suites.is_empty() {
        check.warn(
            "TL-01",
            &at.field("minProtocolVersion"),
            "the default cipher suites do not suit versions below TLSV1_2: want cipherSuites beside it",
        );
    }
    let mut seen = BTreeSet::new();
    for (i, name) in settings.cipher_suites.iter().enumerate() {
        let at = at.item("cipherSuites", i);
        if let Err(message) = tls::cipher(name) {
            check.warn("TL-02", &at, message);
        } else if !seen.insert(name) {
            check.warn(
                "TL-03",
                &at,
                format!(
                    "{} is listed twice, so it is ignored here: want each suite once",
                    quote(name)
                ),
            );
        }
    }
}

fn sources(check: &mut Check<'_>, at: &At<'_>, settings: &ServerTlsSettings) {
    let ways = [
        !settings.server_certificate.is_empty() && !settings.private_key.is_empty(),
        !settings.credential_name.is_empty(),
        !settings.credential_names.is_empty(),
        !settings.tls_certificates.is_empty(),
    ];
    check.refuse(
        ways.into_iter().filter(|used| *used).count() > 1,
        "TL-06",
        at,
        "certificates are given in more than one way: want one of serverCertificate with privateKey, credentialName, credentialNames and tlsCertificates",
    );
}

fn files(check: &mut Check<'_>, at: &At<'_>, settings: &ServerTlsSettings, mode: Mode) {
    check.refuse(
        mode != Mode::Simple && settings.ca_certificates.is_empty(),
        "TL-08",
        &at.field("caCertificates"),
        "this mode verifies client certificates: want the file of their certificate authorities, or credentialName",
    );
    if settings.tls_certificates.is_empty() {
        pair(
            check,
            at,
            &settings.server_certificate,
            &settings.private_key,
        );
    }
    for (i, one) in settings.tls_certificates.iter().enumerate() {
        let at = at.item("tlsCertificates", i);
        pair(check, &at, &one.server_certificate, &one.private_key);
    }
}

fn pair(check: &mut Check<'_>, at: &At<'_>, certificate: &str, key: &str) {
    check.refuse(
        certificate.is_empty(),
        "TL-09",
        &at.field("serverCertificate"),
        "this mode needs a certificate: want its file, or credentialName",
    );
    check.refuse(
        key.is_empty(),
        "TL-10",
        &at.field("privateKey"),
        "this mode needs the certificate's private key: want its file, or credentialName",
    );
}
