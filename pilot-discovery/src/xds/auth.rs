//! Which peer may request the configuration of which workload.

use mesh_core::spiffe::Identity;
use pilot_model::{credential::Account, mesh::Mesh, proxy::Proxy};

/// The authenticated identity of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A peer on the plain-text port, which does not authenticate.
    Anonymous,
    /// TLS without a verified certificate.
    Unknown,
    /// URI names of the verified client certificate.
    Identities(Vec<String>),
}

/// Why a peer is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("authentication failure: a client certificate of the mesh is required")]
    Unauthenticated,
    #[error("authorization failed: no identities ({identities:?}) matched {wanted}")]
    Foreign {
        identities: Vec<String>,
        wanted: String,
    },
}

/// Checks that the peer may act as `proxy`: one of its identities has the same namespace and, if
/// the proxy names one, the same service account.
///
/// # Errors
/// If no identity matches.
pub fn authorize(peer: &Peer, proxy: &Proxy) -> Result<(), Denied> {
    let identities = match peer {
        Peer::Anonymous => return Ok(()),
        Peer::Unknown => return Err(Denied::Unauthenticated),
        Peer::Identities(identities) => identities,
    };
    let mut parsed = identities.iter().filter_map(|text| text.parse().ok());
    let matches = parsed.any(|identity: Identity| is_of(&identity, proxy));
    if matches {
        return Ok(());
    }
    let account = if proxy.service_account.is_empty() {
        "*"
    } else {
        &proxy.service_account
    };
    Err(Denied::Foreign {
        identities: identities.clone(),
        wanted: format!("{}/{account}", proxy.namespace),
    })
}

/// The account that the peer's certificate proves, if it is in the proxy's namespace and in a
/// trust domain of the mesh. The node alone never proves an account.
pub fn account(peer: &Peer, proxy: &Proxy, mesh: &Mesh) -> Option<Account> {
    let Peer::Identities(identities) = peer else {
        return None;
    };
    let is_ours = |domain: &str| {
        let mut aliases = mesh.trust_domain_aliases.iter();
        *mesh.trust_domain == *domain || aliases.any(|alias| alias == domain)
    };
    identities.iter().find_map(|identity| {
        let identity: Identity = identity.parse().ok()?;
        let fits = is_ours(identity.trust_domain().as_str()) && is_of(&identity, proxy);
        fits.then(|| Account::new(identity.namespace(), identity.service_account()))
    })
}

/// Whether it has the proxy's namespace and, if the proxy names one, its service account.
fn is_of(identity: &Identity, proxy: &Proxy) -> bool {
    identity.namespace() == &*proxy.namespace
        && (proxy.service_account.is_empty()
            || identity.service_account() == &*proxy.service_account)
}

#[cfg(test)]
mod tests {
    use istio_api::{envoy::config::core::v3::Node, mesh::v1alpha1::MeshConfig};

    use super::*;

    fn proxy(service_account: &str) -> Proxy {
        let mut proxy = Proxy::parse(Some(&Node {
            id: "sidecar~10.0.0.1~a.demo~demo.svc.cluster.local".into(),
            ..Node::default()
        }))
        .unwrap();
        proxy.service_account = service_account.into();
        proxy
    }

    #[test]
    fn only_the_own_namespace_and_account_are_let_in() {
        let peer = |id: &str| Peer::Identities(vec![id.to_owned()]);
        let own = peer("spiffe://cluster.local/ns/demo/sa/web");
        assert_eq!(authorize(&own, &proxy("web")), Ok(()));
        assert_eq!(authorize(&own, &proxy("")), Ok(()));
        assert_eq!(authorize(&Peer::Anonymous, &proxy("web")), Ok(()));
        assert!(authorize(&own, &proxy("other")).is_err());
        assert!(authorize(&peer("spiffe://cluster.local/ns/x/sa/web"), &proxy("web")).is_err());
        assert!(authorize(&peer("https://demo"), &proxy("web")).is_err());
        assert_eq!(
            authorize(&Peer::Unknown, &proxy("web")),
            Err(Denied::Unauthenticated)
        );
    }

    #[test]
    fn only_a_certificate_of_the_mesh_proves_an_account() {
        let config = MeshConfig {
            trust_domain: "mesh".into(),
            trust_domain_aliases: vec!["old".into()],
            ..MeshConfig::default()
        };
        let mesh = Mesh::new(config, "cluster.local");
        let proved = |identity: &str, named: &str| {
            let peer = Peer::Identities(vec!["https://demo".to_owned(), identity.to_owned()]);
            account(&peer, &proxy(named), &mesh)
        };
        let web = Some(Account::new("demo", "web"));
        assert_eq!(proved("spiffe://mesh/ns/demo/sa/web", ""), web);
        assert_eq!(proved("spiffe://old/ns/demo/sa/web", "web"), web);
        assert_eq!(proved("spiffe://other/ns/demo/sa/web", ""), None);
        assert_eq!(proved("spiffe://mesh/ns/demo/sa/web", "api"), None);
        // The node says `demo`, which is not enough.
        assert_eq!(proved("spiffe://mesh/ns/x/sa/web", ""), None);
        assert_eq!(account(&Peer::Anonymous, &proxy("web"), &mesh), None);
        assert_eq!(account(&Peer::Unknown, &proxy("web"), &mesh), None);
    }
}
