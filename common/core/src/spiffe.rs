//! SPIFFE identities: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Scheme of every identity, in lower case.
pub const SCHEME: &str = "spiffe://";

/// Maximum length of an identity, in bytes (SPIFFE ID specification §2.3).
const MAX_LEN: usize = 2048;

/// Why a text or certificate has no valid identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The trust domain is invalid.
    #[error("invalid trust domain {0:?}: want 1 to 255 characters of a-z, 0-9, '.', '_' and '-'")]
    TrustDomain(String),
    /// The identity is invalid.
    #[error(
        "invalid identity {0:?}: want spiffe://<trust domain>/ns/<namespace>/sa/<service account>"
    )]
    Form(String),
    /// The namespace is not a DNS label.
    #[error("invalid namespace {0:?} of the identity: want a DNS label")]
    Namespace(String),
    /// The service account is not a DNS subdomain.
    #[error("invalid service account {0:?} of the identity: want a DNS subdomain")]
    ServiceAccount(String),
    /// The bytes are not a single certificate.
    #[error("invalid certificate: want a single one in DER")]
    Certificate,
    /// The certificate has no or several URI names.
    #[error("the certificate has {0} URI names: want exactly one")]
    UriNames(usize),
}

/// Name of a root of trust, e.g. `cluster.local`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Validates the name. `@` becomes `.`, as Istio does for accounts used as trust domains.
    ///
    /// # Errors
    /// [`Error::TrustDomain`]
    pub fn new(name: &str) -> Result<Self, Error> {
        let domain = name.replace('@', ".");
        let valid = (1..=255).contains(&domain.len())
            && domain.bytes().all(|b| {
                b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
            });
        if valid {
            Ok(Self(domain.into()))
        } else {
            Err(Error::TrustDomain(name.to_owned()))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A workload, as its certificate identifies it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    trust_domain: TrustDomain,
    namespace: Box<str>,
    service_account: Box<str>,
}

impl Identity {
    /// Validates both names.
    ///
    /// # Errors
    /// [`Error::Namespace`] or [`Error::ServiceAccount`]
    pub fn new(
        trust_domain: TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, Error> {
        if !is_label(namespace) {
            return Err(Error::Namespace(namespace.to_owned()));
        }
        if service_account.len() > 253 || !service_account.split('.').all(is_subdomain_part) {
            return Err(Error::ServiceAccount(service_account.to_owned()));
        }
        Ok(Self {
            trust_domain,
            namespace: namespace.into(),
            service_account: service_account.into(),
        })
    }

    /// The identity in the only URI name of the certificate. Other types of names are ignored.
    ///
    /// # Errors
    /// If the bytes are not a single certificate, or its names are not a single identity.
    pub fn from_certificate_der(der: &[u8]) -> Result<Self, Error> {
        match uri_names(der)?.as_slice() {
            [uri] => uri.parse(),
            uris => Err(Error::UriNames(uris.len())),
        }
    }

    /// Trust domain of the identity.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Kubernetes namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Kubernetes ServiceAccount.
    #[must_use]
    pub fn service_account(&self) -> &str {
        &self.service_account
    }

    /// The same workload in another trust domain.
    #[must_use]
    pub fn in_domain(&self, trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trust_domain,
            namespace,
            service_account,
        } = self;
        write!(
            f,
            "{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}"
        )
    }
}

impl FromStr for Identity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Form(text.chars().take(MAX_LEN).collect());
        if text.len() > MAX_LEN {
            return Err(wrong());
        }
        let mut parts = text.strip_prefix(SCHEME).ok_or_else(wrong)?.split('/');
        match (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) {
            (Some(domain), Some("ns"), Some(namespace), Some("sa"), Some(account), None) => {
                if domain.contains('@') {
                    return Err(wrong());
                }
                Self::new(TrustDomain::new(domain)?, namespace, account)
            }
            _ => Err(wrong()),
        }
    }
}

/// All URI names of a certificate, in order.
///
/// # Errors
/// [`Error::Certificate`]
pub fn uri_names(der: &[u8]) -> Result<Vec<String>, Error> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Error::Certificate)?;
    if !rest.is_empty() {
        return Err(Error::Certificate);
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| Error::Certificate)?;
    Ok(names
        .into_iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        })
        .collect())
}

/// DNS-1123 label: 1 to 63 of `a-z0-9-`, not starting or ending with `-`.
fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_subdomain_part(text)
}

fn is_subdomain_part(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_writes_an_identity() {
        let text = "spiffe://cluster.local/ns/foo/sa/bar.baz";
        let identity: Identity = text.parse().unwrap();
        assert_eq!(identity.trust_domain().as_str(), "cluster.local");
        assert_eq!(identity.namespace(), "foo");
        assert_eq!(identity.service_account(), "bar.baz");
        assert_eq!(identity.to_string(), text);
        let other = identity.in_domain(TrustDomain::new("new.domain").unwrap());
        assert_eq!(other.to_string(), "spiffe://new.domain/ns/foo/sa/bar.baz");
    }

    #[test]
    fn refuses_what_is_not_an_identity() {
        for text in [
            "",
            "spiffe://",
            "SPIFFE://cluster.local/ns/a/sa/b",
            "https://cluster.local/ns/a/sa/b",
            "spiffe://cluster.local/ns/a/sa/b/",
            "spiffe://cluster.local/ns/a/sa/b/c",
            "spiffe://cluster.local/ns/a/sa/",
            "spiffe://cluster.local/ns//sa/b",
            "spiffe:///ns/a/sa/b",
            "spiffe://cluster.local/sa/a/ns/b",
            "spiffe://Cluster.local/ns/a/sa/b",
            "spiffe://a@b/ns/a/sa/b",
            "spiffe://cluster.local/ns/a/sa/b,spiffe://cluster.local/ns/kube-system/sa/admin",
            "spiffe://cluster.local/ns/a%2fb/sa/c",
            "spiffe://cluster.local/ns/a/sa/b\n",
            "spiffe://cluster.local/ns/a/sa/b\0",
            "spiffe://cluster.local/ns/a.b/sa/c",
            "spiffe://cluster.local/ns/A/sa/c",
            "spiffe://cluster.local/ns/a/sa/b..c",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text:?}");
        }
        let long = format!("spiffe://cluster.local/ns/a/sa/{}", "b".repeat(3000));
        assert!(long.parse::<Identity>().is_err());
    }

    #[test]
    fn an_account_used_as_trust_domain_is_rewritten() {
        assert_eq!(
            TrustDomain::new("a@project.iam").unwrap().as_str(),
            "a.project.iam"
        );
        assert!(TrustDomain::new("").is_err());
        assert!(TrustDomain::new(&"a".repeat(256)).is_err());
    }

    proptest! {
        #[test]
        fn parse_never_panics_and_keeps_the_text(text in "(spiffe://)?[a-z./%,@A-Z-]{0,40}") {
            if let Ok(identity) = text.parse::<Identity>() {
                prop_assert_eq!(identity.to_string(), text);
            }
        }
    }
}
