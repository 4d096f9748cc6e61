//! Policy and MeshPolicy of 1.1, converted to PeerAuthentications.
//!
//! ```text
//! Policy, MeshPolicy ─► without targets: one object, from the policy alone
//!                    └► with targets: a Decision per Service ─► settled per namespace
//! Service, its endpoints' ports ─► its Decision again, if a Policy targets it
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use istio_api::authentication::v1alpha1::Policy;
use istio_rules::conversion::{
    Converted, Mesh as Names, Port, Service as Facts, Source,
    policy::{self, Decision, Targeting},
};

use crate::{
    host::Host,
    key::ObjectKey,
    mesh::Mesh,
    service::{Endpoints, Registry, Service, ServiceKey},
};

/// Kind and key of a Policy or a MeshPolicy.
pub type PolicyId = (&'static str, ObjectKey);

/// What a conversion covers: its result is replaced as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// A policy without targets.
    Policy(PolicyId),
    /// All Policies with targets in a namespace.
    Targets(Arc<str>),
}

/// A Service that Policies of its namespace target.
#[derive(Debug, Default)]
struct Targeted {
    policies: BTreeSet<PolicyId>,
    decision: Option<Decision>,
}

/// All Policies, with their conversions.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    by_id: BTreeMap<PolicyId, Arc<Targeting>>,
    /// By namespace and host.
    targeted: BTreeMap<Arc<str>, BTreeMap<Host, Targeted>>,
}

impl Policies {
    /// Replaces the policy `id`. Returns the Services that it targets or targeted; if there are
    /// none, [`Self::scoped`] has the conversion.
    pub(crate) fn replace(
        &mut self,
        id: &PolicyId,
        new: Option<Source<Policy>>,
        mesh: &Mesh,
    ) -> BTreeSet<ServiceKey> {
        let namespace = &id.1.namespace;
        let mut touched: BTreeSet<Host> = BTreeSet::new();
        if let Some(old) = self.by_id.remove(id) {
            for host in old.hosts().map(Host::new) {
                let services = self.targeted.get_mut(namespace);
                if let Some(targeted) = services.and_then(|known| known.get_mut(&host)) {
                    targeted.policies.remove(id);
                }
                touched.insert(host);
            }
        }
        if let Some(new) = new {
            let new = Targeting::new(new, &names(mesh));
            for host in new.hosts().map(Host::new) {
                let services = self.targeted.entry(namespace.clone()).or_default();
                let targeted = services.entry(host.clone()).or_default();
                targeted.policies.insert(id.clone());
                touched.insert(host);
            }
            self.by_id.insert(id.clone(), Arc::new(new));
        }
        let key = |host| ServiceKey {
            host,
            namespace: namespace.clone(),
        };
        touched.into_iter().map(key).collect()
    }

    /// The conversion of a policy without targets.
    pub(crate) fn scoped(&self, id: &PolicyId, mesh: &Mesh) -> Converted {
        match self.by_id.get(id) {
            Some(policy) if policy.is_for_all() => policy::scope(policy.source(), &names(mesh)),
            _ => Converted::default(),
        }
    }

    /// Decides the modes of a Service again; `true` if they may differ, so that its namespace has
    /// to be settled. A Service that no Policy targets costs a lookup.
    pub(crate) fn decide(
        &mut self,
        key: &ServiceKey,
        service: Option<(&Service, &Endpoints)>,
        is_policy_changed: bool,
    ) -> bool {
        let Some(services) = self.targeted.get_mut(&key.namespace) else {
            return false;
        };
        let Some(targeted) = services.get_mut(&key.host) else {
            return false;
        };
        if targeted.policies.is_empty() {
            services.remove(&key.host);
            if services.is_empty() {
                self.targeted.remove(&key.namespace);
            }
            return true;
        }
        let facts = service.map(|(service, endpoints)| facts(service, endpoints));
        let known = targeted.decision.as_ref().map(Decision::service);
        if !is_policy_changed && known == Some(facts.as_ref()) {
            return false;
        }
        let policies = targeted.policies.iter();
        let policies = policies.filter_map(|id| self.by_id.get(id).cloned());
        let mut policies: Vec<Arc<Targeting>> = policies.collect();
        policies.sort_by(|a, b| a.source().by_age(b.source()));
        let decision = policy::decide(&key.namespace, key.host.as_str(), facts.as_ref(), &policies);
        let differs = targeted.decision.as_ref() != Some(&decision);
        targeted.decision = Some(decision);
        differs
    }

    /// The conversion of all Policies with targets in a namespace.
    pub(crate) fn settle(&self, namespace: &str) -> Converted {
        let services = self.targeted.get(namespace);
        let decisions = services.into_iter().flat_map(BTreeMap::values);
        policy::settle(decisions.filter_map(|targeted| targeted.decision.as_ref()))
    }
}

/// What the conversion has to know about a Service.
fn facts(service: &Service, endpoints: &Endpoints) -> Facts {
    let ports = service.ports.iter().map(|port| {
        let of_port = endpoints
            .list
            .iter()
            .filter(|one| one.port_name == port.name);
        let mut targets: BTreeSet<u32> = match port.target_port {
            0 => of_port
                .map(|one| one.port)
                .filter(|port| *port != 0)
                .collect(),
            number => [number].into(),
        };
        if targets.is_empty() && service.registry == Registry::External {
            // For a ServiceEntry without targetPort it is the port itself.
            targets.insert(port.number);
        }
        Port {
            name: port.name.to_string(),
            number: port.number,
            targets,
            http: port.protocol.is_http(),
        }
    });
    Facts {
        host: service.host().as_str().to_owned(),
        name: service.name.to_string(),
        namespace: service.namespace().to_owned(),
        selector: service.selector.clone(),
        ports: ports.collect(),
        // Only access control needs the service accounts.
        accounts: BTreeSet::new(),
    }
}

fn names(mesh: &Mesh) -> Names<'_> {
    Names {
        root_namespace: &mesh.root_namespace,
        domain: &mesh.domain,
    }
}
