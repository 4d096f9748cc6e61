//! Certificates of the other control-plane processes. They cannot get them from an agent: galley
//! must serve before there is a mesh.

pub(crate) mod files;
pub(crate) mod secret;

use std::time::{Duration, SystemTime};

use mesh_core::spiffe::{Identity, TrustDomain};

use crate::ca::{Authority, Issued, Kind, Names};
use crate::settings::CustomNames;

/// Components that get a certificate.
pub(crate) const COMPONENTS: [&str; 3] = ["galley", "pilot", "sidecar-injector"];

/// Profile of their certificates.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    /// Namespace of the control plane.
    pub(crate) namespace: String,
    pub(crate) cluster_domain: String,
    pub(crate) trust_domain: TrustDomain,
    /// Whether the certificates contain the DNS names of the Services.
    pub(crate) dns_names: bool,
    pub(crate) custom_names: CustomNames,
    pub(crate) ttl: Duration,
}

/// ServiceAccount of a component.
pub(crate) fn service_account(component: &str) -> String {
    format!("istio-{component}-service-account")
}

impl Profile {
    /// Identity of a component.
    pub(crate) fn identity(&self, component: &str) -> anyhow::Result<Identity> {
        let account = service_account(component);
        Ok(Identity::new(
            self.trust_domain.clone(),
            &self.namespace,
            &account,
        )?)
    }

    /// DNS names of a component.
    pub(crate) fn names_of(&self, component: &str) -> Vec<String> {
        let Self {
            namespace,
            cluster_domain,
            ..
        } = self;
        let service = format!("istio-{component}");
        let mut names = Vec::new();
        if self.dns_names {
            names.push(format!("{service}.{namespace}.svc"));
            names.push(format!("{service}.{namespace}"));
            names.push(format!("{service}.{namespace}.svc.{cluster_domain}"));
        }
        let key = (namespace.clone(), service_account(component));
        for name in self.custom_names.get(&key).into_iter().flatten() {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// Creates a key and a certificate for a component.
    pub(crate) fn issue(
        &self,
        authority: &Authority,
        component: &str,
        now: SystemTime,
    ) -> anyhow::Result<Issued> {
        let identity = self.identity(component)?;
        let dns = self.names_of(component);
        let names = Names {
            identity: Some(&identity),
            dns: &dns,
        };
        Ok(authority.issue(&names, Kind::P256, self.ttl, now)?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn profile() -> Profile {
        Profile {
            namespace: "istio-system".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            trust_domain: TrustDomain::new("td").unwrap(),
            dns_names: true,
            custom_names: [(
                (
                    "istio-system".to_owned(),
                    "istio-pilot-service-account".to_owned(),
                ),
                vec!["istio-pilot.istio-system".to_owned(), "extra".to_owned()],
            )]
            .into(),
            ttl: Duration::from_secs(3600),
        }
    }

    #[test]
    fn names_of_a_component() {
        let profile = profile();
        assert_eq!(
            profile.names_of("pilot"),
            [
                "istio-pilot.istio-system.svc",
                "istio-pilot.istio-system",
                "istio-pilot.istio-system.svc.cluster.local",
                "extra",
            ]
        );
        let without = Profile {
            dns_names: false,
            ..profile
        };
        assert_eq!(without.names_of("galley"), Vec::<String>::new());
    }
}
