//! Encodes secrets as Envoy messages. Pure.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use istio_api::{
    any,
    envoy::{
        config::core::v3::{DataSource, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, Secret, TlsCertificate, secret::Type,
        },
        service::discovery::v3::DiscoveryResponse,
    },
};

use crate::secret::{Secrets, TRUST, WORKLOAD, Workload, file};

/// Type of all resources in this service.
pub const TYPE_URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// Content of a resource; sent again only when it differs.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Certificate and key.
    Certificate(Arc<Workload>),
    /// Root certificates and a revocation list.
    Trust(Arc<str>, Option<Arc<str>>),
}

impl Content {
    /// The current content of the resource `name`, if it can be served.
    #[must_use]
    pub fn of(
        name: &str,
        secrets: &Secrets,
        files: &std::collections::BTreeMap<file::Source, file::Content>,
    ) -> Option<Self> {
        match name {
            WORKLOAD => secrets
                .workload
                .clone()
                .filter(|_| !secrets.expired)
                .map(Self::Certificate),
            TRUST => secrets
                .trust
                .clone()
                .map(|roots| Self::Trust(roots, secrets.revocation_list.clone())),
            _ => match files.get(&file::Source::parse(name)?)? {
                file::Content::Pair(pair) => Some(Self::Certificate(Arc::clone(pair))),
                file::Content::Roots(roots) => Some(Self::Trust(Arc::clone(roots), None)),
            },
        }
    }

    fn message(&self, name: &str) -> Secret {
        let kind = match self {
            Self::Certificate(workload) => Type::TlsCertificate(TlsCertificate {
                certificate_chain: Some(inline(&workload.chain)),
                private_key: Some(inline(&workload.key)),
                ..TlsCertificate::default()
            }),
            Self::Trust(roots, revoked) => Type::ValidationContext(CertificateValidationContext {
                trusted_ca: Some(inline(roots)),
                crl: revoked.as_deref().map(inline),
                ..CertificateValidationContext::default()
            }),
        };
        Secret {
            name: name.to_owned(),
            r#type: Some(kind),
        }
    }
}

fn inline(text: &str) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineBytes(Bytes::copy_from_slice(
            text.as_bytes(),
        ))),
        ..DataSource::default()
    }
}

/// A response with these resources. `counter` distinguishes versions made at the same time.
#[must_use]
pub fn response(
    resources: &[(String, Content)],
    now: SystemTime,
    counter: u64,
    nonce: String,
) -> DiscoveryResponse {
    let now = time::OffsetDateTime::from(now);
    let now = now
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_default();
    DiscoveryResponse {
        version_info: format!("{now}/{counter}"),
        type_url: TYPE_URL.to_owned(),
        nonce,
        resources: resources
            .iter()
            .map(|(name, content)| any::pack(&content.message(name)))
            .collect(),
        ..DiscoveryResponse::default()
    }
}
