//! Callers with a client certificate that TLS has verified.

use mesh_core::spiffe::Identity;
use rustls_pki_types::CertificateDer;

use super::Domains;

/// The identity in the leaf: its only URI name, in an accepted trust domain. Other kinds of names
/// are ignored; they never end up in a new certificate.
pub(super) fn identity(
    chain: &[CertificateDer<'_>],
    domains: &Domains,
) -> Result<Identity, String> {
    let leaf = chain
        .first()
        .ok_or("the caller has no client certificate")?;
    let identity = Identity::from_certificate_der(leaf)
        .map_err(|error| format!("client certificate: {error}"))?;
    if *identity.trust_domain() == domains.own {
        Ok(identity)
    } else if domains.aliases.contains(identity.trust_domain()) {
        Ok(identity.in_domain(domains.own.clone()))
    } else {
        Err(format!(
            "client certificate of {identity}: its trust domain is not accepted"
        ))
    }
}

#[cfg(test)]
mod tests {
    use mesh_common::testing::Authority;
    use mesh_core::spiffe::TrustDomain;

    use super::*;

    fn check(uris: &[&str], dns: &[&str]) -> Result<String, String> {
        let pem = Authority::new("test").issue(uris, dns).cert;
        let chain = mesh_common::tls::certificates(pem.as_bytes()).unwrap();
        let domains = Domains {
            own: TrustDomain::new("new").unwrap(),
            aliases: [TrustDomain::new("old").unwrap()].into(),
        };
        identity(&chain, &domains).map(|identity| identity.to_string())
    }

    #[test]
    fn one_uri_of_a_known_domain() {
        assert_eq!(
            check(&["spiffe://new/ns/a/sa/b"], &[]).unwrap(),
            "spiffe://new/ns/a/sa/b"
        );
        assert_eq!(
            check(&["spiffe://new/ns/a/sa/b"], &["b.a"]).unwrap(),
            "spiffe://new/ns/a/sa/b"
        );
        assert_eq!(
            check(&["spiffe://old/ns/a/sa/b"], &[]).unwrap(),
            "spiffe://new/ns/a/sa/b"
        );
    }

    #[test]
    fn all_else_is_refused() {
        assert!(
            check(&["spiffe://other/ns/a/sa/b"], &[])
                .unwrap_err()
                .contains("not accepted")
        );
        assert!(check(&[], &["b.a"]).unwrap_err().contains("0 URI names"));
        assert!(
            check(&["spiffe://new/ns/a/sa/b", "spiffe://new/ns/a/sa/c"], &[])
                .unwrap_err()
                .contains("2 URI names")
        );
        assert!(check(&["https://new/ns/a/sa/b"], &[]).is_err());
    }
}
