//! What conversions must know of services.

use std::collections::{BTreeMap, BTreeSet};

/// A service of the mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Full name, such as `reviews.demo.svc.cluster.local`, in lower case.
    pub host: String,
    /// Short name, such as `reviews`.
    pub name: String,
    /// Its namespace, which is that of its workloads too.
    pub namespace: String,
    /// Labels of its workloads; empty selects none.
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// SPIFFE ids of its workloads; empty when they are not known.
    pub accounts: BTreeSet<String>,
}

impl Service {
    /// Whether every workload of `self` is one of `other`, as far as selectors tell.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        contains(&self.selector, &other.selector)
    }

    /// Ports of the workloads at which it is served.
    pub(super) fn targets(&self) -> BTreeSet<u32> {
        self.ports
            .iter()
            .flat_map(|port| port.targets.iter().copied())
            .collect()
    }
}

/// Sorts by namespace and host, so that complaints about the first of several are stable.
pub(super) fn in_order(services: &[Service]) -> Vec<Service> {
    let mut services = services.to_vec();
    services.sort_by(|a, b| (&a.namespace, &a.host).cmp(&(&b.namespace, &b.host)));
    services
}

/// Why nothing but mutual TLS is converted for a service of the root namespace.
pub(super) fn reaches_everywhere(service: &Service) -> String {
    format!(
        "{} is in the root namespace, where a selector is for workloads of the whole mesh: want it in another namespace",
        service.host
    )
}

/// Whether `wide` selects everything that `narrow` selects.
pub(super) fn contains(narrow: &BTreeMap<String, String>, wide: &BTreeMap<String, String>) -> bool {
    wide.iter()
        .all(|(key, value)| narrow.get(key) == Some(value))
}

/// A port of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Port {
    /// Its name; may be empty.
    pub name: String,
    /// 1–65535.
    pub number: u32,
    /// The ports of the workloads behind it. A named target port may resolve to several, and to
    /// none until there is an endpoint.
    pub targets: BTreeSet<u32>,
    /// Whether it is declared as HTTP: elsewhere 1.1 looks at no requests.
    pub http: bool,
}
