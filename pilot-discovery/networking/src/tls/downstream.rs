//! TLS of servers: mutual TLS of sidecars, and the TLS settings of Gateway servers.

use istio_api::{
    envoy::{
        config::core::v3::{DataSource, TransportSocket, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
            SubjectAltNameMatcher, TlsParameters, subject_alt_name_matcher::SanType,
            tls_parameters::TlsProtocol,
        },
        r#type::matcher::v3::string_matcher::MatchPattern,
    },
    mesh::v1alpha1::mesh_config::tls_config,
    networking::v1alpha3::{
        ServerTlsSettings,
        server_tls_settings::{TlSmode as ServerMode, TlsProtocol as ServerProtocol},
    },
};
use pilot_model::mesh::Mesh;

use super::{ALPN_SERVER, MESH_CIPHERS, mesh_parameters, name_matcher, owned, sds, socket};

const TLS_SOCKET: &str = "envoy.transport_sockets.tls";

/// Mutual TLS between proxies: accepts any workload of the trust domain and its aliases.
pub fn mesh_mutual(mesh: &Mesh) -> TransportSocket {
    let mut parameters = mesh_parameters();
    let configured = mesh.config.mesh_m_tls.as_ref();
    if configured.is_some_and(|tls| tls.min_protocol_version() == tls_config::TlsProtocol::Tlsv13) {
        parameters.tls_minimum_protocol_version = TlsProtocol::TlSv13.into();
    }
    parameters.cipher_suites = match configured {
        Some(tls) if !tls.cipher_suites.is_empty() => tls.cipher_suites.clone(),
        _ => owned(MESH_CIPHERS),
    };
    if let Some(tls) = configured {
        parameters.ecdh_curves.clone_from(&tls.ecdh_curves);
    }
    let conditions = CertificateValidationContext {
        match_typed_subject_alt_names: trust_domains(mesh),
        ..Default::default()
    };
    let context = DownstreamTlsContext {
        require_client_certificate: Some(true),
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(parameters),
            alpn_protocols: owned(ALPN_SERVER),
            tls_certificate_sds_secret_configs: vec![sds::workload_certificate()],
            validation_context_type: Some(sds::validation(conditions, sds::mesh_root())),
            ..Default::default()
        }),
        ..Default::default()
    };
    socket(TLS_SOCKET, &context)
}

fn trust_domains(mesh: &Mesh) -> Vec<SubjectAltNameMatcher> {
    std::iter::once(&*mesh.trust_domain)
        .chain(mesh.trust_domain_aliases.iter().map(String::as_str))
        .map(|domain| {
            name_matcher(
                SanType::Uri,
                MatchPattern::Prefix(format!("spiffe://{domain}/")),
            )
        })
        .collect()
}

/// The certificates and checks of a server that terminates TLS.
///
/// # Errors
/// If the mode does not terminate TLS or a certificate is missing.
pub fn server(settings: &ServerTlsSettings, mesh: &Mesh) -> Result<TransportSocket, String> {
    context(settings, mesh).map(|context| socket(TLS_SOCKET, &context))
}

fn context(settings: &ServerTlsSettings, mesh: &Mesh) -> Result<DownstreamTlsContext, String> {
    let mode = settings.mode();
    let certificates = match mode {
        ServerMode::Passthrough | ServerMode::AutoPassthrough => {
            return Err(format!(
                "tls mode {} does not terminate TLS",
                mode.as_str_name()
            ));
        }
        ServerMode::IstioMutual => vec![sds::workload_certificate()],
        _ => certificates(settings)?,
    };
    let root = match mode {
        ServerMode::IstioMutual => Some(sds::mesh_root()),
        ServerMode::Mutual | ServerMode::OptionalMutual => Some(root(settings)?),
        _ => None,
    };
    let required = matches!(mode, ServerMode::Mutual | ServerMode::IstioMutual);
    Ok(DownstreamTlsContext {
        require_client_certificate: Some(required),
        common_tls_context: Some(CommonTlsContext {
            tls_params: parameters(settings, mesh),
            alpn_protocols: owned(ALPN_SERVER),
            tls_certificate_sds_secret_configs: certificates,
            validation_context_type: root.map(|root| sds::validation(conditions(settings), root)),
            ..Default::default()
        }),
        ..Default::default()
    })
}

fn certificates(settings: &ServerTlsSettings) -> Result<Vec<SdsSecretConfig>, String> {
    if !settings.credential_names.is_empty() {
        return Ok(settings
            .credential_names
            .iter()
            .map(|name| sds::credential(name))
            .collect());
    }
    if !settings.credential_name.is_empty() {
        return Ok(vec![sds::credential(&settings.credential_name)]);
    }
    if !settings.tls_certificates.is_empty() {
        return Ok(settings
            .tls_certificates
            .iter()
            .map(|files| sds::certificate_file(&files.server_certificate, &files.private_key))
            .collect());
    }
    if settings.server_certificate.is_empty() || settings.private_key.is_empty() {
        return Err(
            "no certificate: set credentialName, or serverCertificate and privateKey".into(),
        );
    }
    Ok(vec![sds::certificate_file(
        &settings.server_certificate,
        &settings.private_key,
    )])
}

fn root(settings: &ServerTlsSettings) -> Result<SdsSecretConfig, String> {
    let credential = settings
        .credential_names
        .first()
        .unwrap_or(&settings.credential_name);
    if !settings.ca_cert_credential_name.is_empty() {
        Ok(sds::credential_root(&settings.ca_cert_credential_name))
    } else if !credential.is_empty() {
        Ok(sds::credential_root(credential))
    } else if !settings.ca_certificates.is_empty() {
        Ok(sds::root_file(&settings.ca_certificates))
    } else if let Some(files) = settings
        .tls_certificates
        .iter()
        .find(|files| !files.ca_certificates.is_empty())
    {
        Ok(sds::root_file(&files.ca_certificates))
    } else {
        Err("no CA for client certificates: set credentialName or caCertificates".into())
    }
}

fn conditions(settings: &ServerTlsSettings) -> CertificateValidationContext {
    CertificateValidationContext {
        match_typed_subject_alt_names: settings
            .subject_alt_names
            .iter()
            .map(|name| name_matcher(kind_of(name), MatchPattern::Exact(name.clone())))
            .collect(),
        verify_certificate_spki: settings.verify_certificate_spki.clone(),
        verify_certificate_hash: settings.verify_certificate_hash.clone(),
        crl: (!settings.ca_crl.is_empty()).then(|| DataSource {
            specifier: Some(Specifier::Filename(settings.ca_crl.clone())),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The type of subject alternative name that `name` is in a client certificate.
fn kind_of(name: &str) -> SanType {
    if name.contains("://") {
        SanType::Uri
    } else if name.contains('@') {
        SanType::Email
    } else if name.parse::<std::net::IpAddr>().is_ok() {
        SanType::IpAddress
    } else {
        SanType::Dns
    }
}

/// `None` if the settings equal Envoy's defaults (TLS 1.2 and newer).
fn parameters(settings: &ServerTlsSettings, mesh: &Mesh) -> Option<TlsParameters> {
    let version = |wanted: ServerProtocol| match wanted {
        ServerProtocol::TlsAuto => TlsProtocol::TlsAuto,
        ServerProtocol::Tlsv10 => TlsProtocol::TlSv10,
        ServerProtocol::Tlsv11 => TlsProtocol::TlSv11,
        ServerProtocol::Tlsv12 => TlsProtocol::TlSv12,
        ServerProtocol::Tlsv13 => TlsProtocol::TlSv13,
    };
    let mut parameters = TlsParameters {
        tls_minimum_protocol_version: version(settings.min_protocol_version()).into(),
        tls_maximum_protocol_version: version(settings.max_protocol_version()).into(),
        cipher_suites: settings.cipher_suites.clone(),
        ..Default::default()
    };
    if let Some(defaults) = &mesh.config.tls_defaults {
        if settings.min_protocol_version() == ServerProtocol::TlsAuto {
            parameters.tls_minimum_protocol_version = match defaults.min_protocol_version() {
                tls_config::TlsProtocol::TlsAuto => TlsProtocol::TlsAuto,
                tls_config::TlsProtocol::Tlsv12 => TlsProtocol::TlSv12,
                tls_config::TlsProtocol::Tlsv13 => TlsProtocol::TlSv13,
            }
            .into();
        }
        if parameters.cipher_suites.is_empty() {
            parameters.cipher_suites.clone_from(&defaults.cipher_suites);
        }
        parameters.ecdh_curves.clone_from(&defaults.ecdh_curves);
    }
    (parameters != TlsParameters::default()).then_some(parameters)
}
