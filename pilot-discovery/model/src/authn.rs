//! PeerAuthentication: which inbound ports take mutual TLS.

pub mod legacy;

use std::sync::Arc;

use imbl::OrdMap;
use istio_api::security::v1beta1::{PeerAuthentication, peer_authentication::mutual_tls};

use crate::{
    config::{Config, ConfigRef, Labels, selects},
    key::ObjectKey,
    lookup::Lookup,
};

/// Mutual TLS of an inbound port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MtlsMode {
    /// Plain text only.
    Disable,
    /// Mutual TLS and plain text.
    #[default]
    Permissive,
    /// Mutual TLS only.
    Strict,
}

/// What the policies say for one workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WorkloadMtls {
    /// Mode of ports that are not listed.
    pub default: MtlsMode,
    /// Sorted by port at the workload.
    pub ports: Vec<(u32, MtlsMode)>,
    /// The policies that decided it.
    pub sources: Vec<ConfigRef>,
}

impl WorkloadMtls {
    /// Mode of a port of the workload (not of the service).
    pub fn port(&self, port: u32) -> MtlsMode {
        self.ports
            .iter()
            .find(|(number, _)| *number == port)
            .map_or(self.default, |(_, mode)| *mode)
    }
}

/// All PeerAuthentications.
#[derive(Clone, Debug, Default)]
pub struct PeerAuthentications {
    by_key: Policies,
    /// Those converted from Policies and MeshPolicies of 1.1. They apply where the same scope has
    /// no policy in `by_key`.
    converted: Policies,
}

type Policies = OrdMap<ObjectKey, Arc<Config<PeerAuthentication>>>;

impl PeerAuthentications {
    /// Sets or removes a policy; returns the previous one.
    pub fn replace(
        &mut self,
        key: &ObjectKey,
        new: Option<Arc<Config<PeerAuthentication>>>,
    ) -> Option<Arc<Config<PeerAuthentication>>> {
        put(&mut self.by_key, key, new)
    }

    /// Like [`Self::replace`], for policies converted from 1.1.
    pub fn replace_converted(
        &mut self,
        key: &ObjectKey,
        new: Option<Arc<Config<PeerAuthentication>>>,
    ) -> Option<Arc<Config<PeerAuthentication>>> {
        put(&mut self.converted, key, new)
    }

    /// Whether mutual TLS may be disabled for some workload of `namespace`.
    pub fn may_disable(&self, namespace: &str, root: &str) -> bool {
        let disables = |of: &str| {
            within(&self.by_key, of)
                .chain(within(&self.converted, of))
                .any(|policy| {
                    let own = policy.spec.mtls.iter();
                    own.chain(policy.spec.port_level_mtls.values())
                        .any(|mtls| mtls.mode() == mutual_tls::Mode::Disable)
                })
        };
        disables(namespace) || (namespace != root && disables(root))
    }

    /// Resolves the mode of a workload from mesh, namespace and workload policies. The oldest of
    /// each level applies, a converted one only if there is no other; `UNSET` inherits, and without
    /// any setting the mode is PERMISSIVE.
    pub fn for_workload(&self, namespace: &str, labels: &Labels, root: &str) -> WorkloadMtls {
        let oldest = |of: &str, want: &dyn Fn(&Config<PeerAuthentication>) -> bool| {
            let first = |policies| {
                within(policies, of)
                    .filter(|policy| want(policy))
                    .min_by(|a, b| a.by_age(b))
            };
            first(&self.by_key)
                .or_else(|| first(&self.converted))
                .cloned()
        };
        let unselective = |policy: &Config<PeerAuthentication>| selector(policy).is_none();
        let mut result = WorkloadMtls::default();
        let mut apply = |policy: Option<Arc<Config<PeerAuthentication>>>, ports: bool| {
            let Some(policy) = policy else { return };
            if let Some(mode) = policy.spec.mtls.as_ref().and_then(|mtls| mode(mtls.mode())) {
                result.default = mode;
            }
            if ports {
                for (port, mtls) in &policy.spec.port_level_mtls {
                    // A port that is listed without a mode uses the default of its workload.
                    let mode = mode(mtls.mode()).unwrap_or(result.default);
                    result.ports.push((*port, mode));
                }
            }
            result.sources.push(policy.reference.clone());
        };
        apply(oldest(root, &unselective), false);
        if namespace != root {
            apply(oldest(namespace, &unselective), false);
        }
        apply(
            oldest(namespace, &|policy| {
                selector(policy).is_some_and(|s| selects(s, labels))
            }),
            true,
        );
        result.ports.sort_unstable();
        result
    }
}

fn put(
    policies: &mut Policies,
    key: &ObjectKey,
    new: Option<Arc<Config<PeerAuthentication>>>,
) -> Option<Arc<Config<PeerAuthentication>>> {
    match new {
        Some(new) => policies.insert(key.clone(), new),
        None => policies.remove(key),
    }
}

/// Label keys by which a policy selects workloads.
pub(crate) fn lookup(policy: &Config<PeerAuthentication>) -> Lookup {
    let keys = selector(policy).into_iter().flat_map(Labels::keys);
    Lookup {
        workloads: keys.cloned().collect(),
        ..Lookup::default()
    }
}

/// The policies of a namespace.
fn within<'a>(
    policies: &'a Policies,
    namespace: &'a str,
) -> impl Iterator<Item = &'a Arc<Config<PeerAuthentication>>> {
    policies
        .range(ObjectKey::new(namespace, "")..)
        .map(|(_, policy)| policy)
        .take_while(move |policy| policy.namespace() == namespace)
}

fn selector(policy: &Config<PeerAuthentication>) -> Option<&Labels> {
    policy
        .spec
        .selector
        .as_ref()
        .map(|selector| &selector.match_labels)
        .filter(|labels| !labels.is_empty())
}

fn mode(mode: mutual_tls::Mode) -> Option<MtlsMode> {
    match mode {
        mutual_tls::Mode::Unset => None,
        mutual_tls::Mode::Disable => Some(MtlsMode::Disable),
        mutual_tls::Mode::Permissive => Some(MtlsMode::Permissive),
        mutual_tls::Mode::Strict => Some(MtlsMode::Strict),
    }
}
