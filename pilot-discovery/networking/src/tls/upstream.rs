//! TLS of clients: between mesh workloads, and as configured by a DestinationRule.

use std::sync::Arc;

use istio_api::{
    envoy::{
        config::core::v3::{
            DataSource, ProxyProtocolConfig, TransportSocket, data_source::Specifier,
            proxy_protocol_config::Version,
        },
        extensions::transport_sockets::{
            proxy_protocol::v3::ProxyProtocolUpstreamTransport,
            tls::v3::{
                CertificateValidationContext, CommonTlsContext, SdsSecretConfig,
                SubjectAltNameMatcher, UpstreamTlsContext,
                common_tls_context::ValidationContextType, subject_alt_name_matcher::SanType,
            },
        },
        r#type::matcher::v3::string_matcher::MatchPattern,
    },
    networking::v1alpha3::{
        ClientTlsSettings,
        client_tls_settings::TlSmode as ClientMode,
        traffic_policy::{ProxyProtocol, proxy_protocol},
    },
};
use pilot_model::{mesh::Mesh, proxy::ProxyType};

use super::{mesh_parameters, name_matcher, owned, raw_buffer, sds, socket};

const TLS_SOCKET: &str = "envoy.transport_sockets.tls";

/// Mutual TLS to a mesh workload that runs as one of `identities` (SPIFFE IDs; none = any
/// workload).
pub fn mesh_mutual(sni: String, alpn: &[&str], identities: &[Arc<str>]) -> TransportSocket {
    let conditions = CertificateValidationContext {
        match_typed_subject_alt_names: identities
            .iter()
            .map(|id| name_matcher(SanType::Uri, MatchPattern::Exact(id.to_string())))
            .collect(),
        ..Default::default()
    };
    let context = UpstreamTlsContext {
        sni,
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(mesh_parameters()),
            alpn_protocols: owned(alpn),
            tls_certificate_sds_secret_configs: vec![sds::workload_certificate()],
            validation_context_type: Some(sds::validation(conditions, sds::mesh_root())),
            ..Default::default()
        }),
        ..Default::default()
    };
    socket(TLS_SOCKET, &context)
}

/// Adds the SPIFFE IDs under the trust domain aliases of the mesh; sorted.
pub fn with_aliases(identities: Vec<Arc<str>>, mesh: &Mesh) -> Vec<Arc<str>> {
    let mut all = identities;
    if !mesh.trust_domain_aliases.is_empty() {
        let own = format!("spiffe://{}/", mesh.trust_domain);
        let expanded: Vec<Arc<str>> = all
            .iter()
            .filter_map(|id| id.strip_prefix(own.as_str()))
            .flat_map(|path| {
                mesh.trust_domain_aliases
                    .iter()
                    .map(move |alias| Arc::from(format!("spiffe://{alias}/{path}")))
            })
            .collect();
        all.extend(expanded);
    }
    all.sort();
    all.dedup();
    all
}

/// TLS that a DestinationRule configures towards a server, which may be outside the mesh.
#[derive(Debug)]
pub struct Origination {
    /// The transport socket.
    pub socket: TransportSocket,
    /// The server name follows each request.
    pub auto_sni: bool,
    /// The certificate must match the host of each request.
    pub auto_san_validation: bool,
}

/// The client for which TLS is originated.
#[derive(Clone, Copy, Debug)]
pub struct Originator<'a> {
    /// The mesh settings.
    pub mesh: &'a Mesh,
    /// Sidecar or gateway.
    pub kind: ProxyType,
    /// The rule selects the workloads that it applies to.
    pub chosen_workloads: bool,
    /// Subject alternative names that the service declares for its servers.
    pub declared_names: &'a [Arc<str>],
    /// The cluster uses HTTP/2.
    pub http2: bool,
}

/// Builds SIMPLE or MUTUAL origination; `None` if the client cannot use the credential.
///
/// # Errors
/// If a client certificate is required and one of its files is not set.
pub fn originate(
    tls: &ClientTlsSettings,
    by: Originator<'_>,
) -> Result<Option<Origination>, String> {
    let credential = tls.credential_name.as_str();
    let readable = by.kind == ProxyType::Router
        || by.chosen_workloads
        || credential.starts_with("configmap://");
    if !credential.is_empty() && !readable {
        return Ok(None);
    }
    let certificates = if tls.mode() == ClientMode::Mutual {
        certificate(tls)?
    } else {
        Vec::new()
    };
    let names: Vec<&str> = if tls.subject_alt_names.is_empty() {
        by.declared_names.iter().map(|name| &**name).collect()
    } else {
        tls.subject_alt_names.iter().map(String::as_str).collect()
    };
    let unverified = tls.insecure_skip_verify == Some(true);
    let auto_sni = tls.sni.is_empty();
    let auto_san_validation = auto_sni && names.is_empty() && !unverified;
    let validation = match root(tls, by.mesh) {
        Some(root) if !unverified => sds::validation(conditions(tls, &names), root),
        _ => ValidationContextType::ValidationContext(CertificateValidationContext::default()),
    };
    let mut parameters = mesh_parameters();
    if let Some(defaults) = &by.mesh.config.tls_defaults {
        parameters.cipher_suites.clone_from(&defaults.cipher_suites);
        parameters.ecdh_curves.clone_from(&defaults.ecdh_curves);
    }
    let context = UpstreamTlsContext {
        sni: tls.sni.clone(),
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(parameters),
            alpn_protocols: if by.http2 { owned(&["h2"]) } else { Vec::new() },
            tls_certificate_sds_secret_configs: certificates,
            validation_context_type: Some(validation),
            ..Default::default()
        }),
        ..Default::default()
    };
    Ok(Some(Origination {
        socket: socket(TLS_SOCKET, &context),
        auto_sni,
        auto_san_validation,
    }))
}

fn certificate(tls: &ClientTlsSettings) -> Result<Vec<SdsSecretConfig>, String> {
    if !tls.credential_name.is_empty() {
        return Ok(vec![sds::credential(&tls.credential_name)]);
    }
    if tls.client_certificate.is_empty() || tls.private_key.is_empty() {
        return Err(
            "tls mode MUTUAL needs clientCertificate and privateKey, or credentialName".into(),
        );
    }
    Ok(vec![sds::certificate_file(
        &tls.client_certificate,
        &tls.private_key,
    )])
}

fn root(tls: &ClientTlsSettings, mesh: &Mesh) -> Option<SdsSecretConfig> {
    if !tls.credential_name.is_empty() {
        Some(sds::credential_root(&tls.credential_name))
    } else if !tls.ca_certificates.is_empty() {
        Some(sds::root_file(&tls.ca_certificates))
    } else {
        // The mesh config may allow TLS without verification, as old releases did.
        (mesh.config.verify_certificate_at_client != Some(false)).then(sds::system_root)
    }
}

fn conditions(tls: &ClientTlsSettings, names: &[&str]) -> CertificateValidationContext {
    const KINDS: [SanType; 4] = [
        SanType::Dns,
        SanType::Uri,
        SanType::IpAddress,
        SanType::Email,
    ];
    let matchers: Vec<SubjectAltNameMatcher> = names
        .iter()
        .flat_map(|name| {
            KINDS.map(|kind| name_matcher(kind, MatchPattern::Exact((*name).to_owned())))
        })
        .collect();
    CertificateValidationContext {
        match_typed_subject_alt_names: matchers,
        crl: (!tls.ca_crl.is_empty()).then(|| DataSource {
            specifier: Some(Specifier::Filename(tls.ca_crl.clone())),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Sends a PROXY protocol header first on every connection; without `inner` in plain text.
pub fn with_proxy_protocol(
    settings: &ProxyProtocol,
    inner: Option<TransportSocket>,
) -> TransportSocket {
    let version = match settings.version() {
        proxy_protocol::Version::V1 => Version::V1,
        proxy_protocol::Version::V2 => Version::V2,
    };
    let config = ProxyProtocolUpstreamTransport {
        config: Some(ProxyProtocolConfig {
            version: version.into(),
            ..Default::default()
        }),
        transport_socket: Some(inner.unwrap_or_else(raw_buffer)),
        ..Default::default()
    };
    socket("envoy.transport_sockets.upstream_proxy_protocol", &config)
}
