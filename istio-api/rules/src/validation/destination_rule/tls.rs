//! TLS towards the destination.

use crate::validation::primitives::tls;
use crate::validation::report::{At, Check};
use istio_api::networking::v1alpha3::ClientTlsSettings;
use istio_api::networking::v1alpha3::client_tls_settings::TlSmode as Mode;

pub(super) fn validate(check: &mut Check<'_>, at: &At<'_>, settings: &ClientTlsSettings) {
    let mode = settings.mode();
    let has_credential = !settings.credential_name.is_empty();
    let files = [
        ("clientCertificate", &settings.client_certificate),
        ("privateKey", &settings.private_key),
        ("caCertificates", &settings.ca_certificates),
        ("caCrl", &settings.ca_crl),
    ];
    if has_credential && matches!(mode, Mode::Simple | Mode::Mutual) {
        for (field, file) in files {
            check.refuse(
                !file.is_empty(),
                "DR-57",
                &at.field(field),
                "credentialName already brings keys and certificates: want it, or files",
            );
        }
    } else if mode == Mode::Mutual {
        check.refuse(
            settings.client_certificate.is_empty(),
            "DR-55",
            &at.field("clientCertificate"),
            "mode MUTUAL needs a client certificate: want its file, or credentialName",
        );
        check.refuse(
            settings.private_key.is_empty(),
            "DR-56",
            &at.field("privateKey"),
            "mode MUTUAL needs the client's private key: want its file, or credentialName",
        );
    }
    let at_credential = at.field("credentialName");
    check.test(
        "DR-58",
        &at_credential,
        tls::config_map(&settings.credential_name, &check.meta.namespace),
    );
    if settings.insecure_skip_verify != Some(true) {
        return;
    }
    let rule = match mode {
        Mode::Simple => "DR-59",
        Mode::Mutual => "DR-60",
        Mode::Disable | Mode::IstioMutual => return,
    };
    let message =
        "insecureSkipVerify turns verification off, so this has no effect: want one of the two";
    check.refuse(
        !settings.ca_certificates.is_empty(),
        rule,
        &at.field("caCertificates"),
        message,
    );
    check.refuse(
        !settings.subject_alt_names.is_empty(),
        rule,
        &at.field("subjectAltNames"),
        message,
    );
    check.refuse(
        has_credential && mode == Mode::Simple,
        rule,
        &at_credential,
        message,
    );
}
