//! Who may ask for the configuration of which workload.

use pilot_model::proxy::Proxy;

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A plaintext port: nobody is asked who they are.
    Anonymous,
    /// TLS without a verified certificate.
    Unknown,
    /// URI names of the verified client certificate.
    Identities(Vec<String>),
}

/// Why a peer is turned away.
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

/// Checks that the peer may act as `proxy`: one of its identities is of the same namespace and,
/// when the proxy names one, the same service account.
///
/// # Errors
/// Says what did not match.
pub fn authorize(peer: &Peer, proxy: &Proxy) -> Result<(), Denied> {
    let identities = match peer {
        Peer::Anonymous => return Ok(()),
        Peer::Unknown => return Err(Denied::Unauthenticated),
        Peer::Identities(identities) => identities,
    };
    let matches = identities.iter().any(|identity| {
        identity
            .parse::<mesh_common::spiffe::Identity>()
            .is_ok_and(|identity| {
                identity.namespace() == &*proxy.namespace
                    && (proxy.service_account.is_empty()
                        || identity.service_account() == &*proxy.service_account)
            })
    });
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

#[cfg(test)]
mod tests {
    use istio_api::envoy::config::core::v3::Node;

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
}
