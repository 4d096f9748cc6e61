//! Policies of 1.1: kept as PeerAuthentications that follow the Services.

use std::{collections::BTreeMap, sync::Arc};

use istio_api::{
    authentication::v1alpha1::Policy, object::Object, security::v1beta1::PeerAuthentication,
};
use istio_rules::conversion::{Complaint, Converted, Source};

use super::{Builder, decode};
use crate::{
    authn::{
        self,
        legacy::{PolicyId, Unit},
    },
    config::Config,
    key::ObjectKey,
    lookup::Lookup,
    service::ServiceKey,
};

impl Builder {
    /// The objects that policies were converted to.
    pub fn converted(&self) -> impl Iterator<Item = &Object> {
        self.converted.values().flat_map(BTreeMap::values)
    }

    /// Sets or removes the policy `id`.
    pub(super) fn policy(&mut self, id: &PolicyId, policy: Option<Source<Policy>>) {
        let mesh = self.next.mesh.clone();
        let touched = self.policies.replace(id, policy, &mesh);
        let scoped = self.policies.scoped(id, &mesh);
        self.put_converted(&Unit::Policy(id.clone()), scoped);
        for service in &touched {
            self.decide(service, true);
        }
    }

    /// Repeats the conversions that target a Service after a change of it.
    pub(super) fn follow_service(&mut self, key: &ServiceKey) {
        self.decide(key, false);
    }

    /// Settles the namespaces with changed decisions.
    pub(super) fn settle(&mut self) {
        for namespace in std::mem::take(&mut self.unsettled) {
            let settled = self.policies.settle(&namespace);
            self.put_converted(&Unit::Targets(namespace), settled);
        }
    }

    fn decide(&mut self, key: &ServiceKey, is_policy_changed: bool) {
        let next = &self.next;
        let service = next.service(key).map(|service| &***service);
        let endpoints = next.endpoints.get(key).map(|endpoints| &***endpoints);
        let differs = self
            .policies
            .decide(key, service.zip(endpoints), is_policy_changed);
        if differs {
            self.unsettled.insert(key.namespace.clone());
        }
    }

    /// Replaces the conversion of a unit; only objects that differ are changed.
    fn put_converted(&mut self, unit: &Unit, new: Converted) {
        let mut old = self.converted.remove(unit).unwrap_or_default();
        let mut complaints = new.complaints;
        let mut kept: BTreeMap<ObjectKey, Object> = BTreeMap::new();
        for object in new.objects {
            let key = ObjectKey::new(&object.meta.namespace, &object.meta.name);
            if old.remove(&key).as_ref() != Some(&object) {
                match decode(object.collection, Some(&object)) {
                    Ok(config) => self.put_policy(&key, config.map(Arc::new)),
                    Err(refused) => {
                        self.put_policy(&key, None);
                        complaints.push(Complaint {
                            kind: refused.kind,
                            namespace: refused.namespace,
                            name: refused.name,
                            path: "spec".to_owned(),
                            message: refused.reason,
                        });
                        continue;
                    }
                }
            }
            kept.insert(key, object);
        }
        for key in old.into_keys() {
            self.put_policy(&key, None);
        }
        if !kept.is_empty() {
            self.converted.insert(unit.clone(), kept);
        }
        let known = self.next.unconverted.get(unit);
        if known.map_or(&[][..], |known| &**known) != complaints {
            self.changes.unconverted = true;
            if complaints.is_empty() {
                self.next.unconverted.remove(unit);
            } else {
                let complaints = complaints.into();
                self.next.unconverted.insert(unit.clone(), complaints);
            }
        }
    }

    /// Sets or removes a PeerAuthentication written by a user.
    pub(super) fn peer_authentication(
        &mut self,
        key: &ObjectKey,
        policy: Option<Arc<Config<PeerAuthentication>>>,
    ) {
        let new = policy.as_ref().map(|policy| authn::lookup(policy));
        let old = self.next.peer_authentications.replace(key, policy);
        self.follow_policy(key, old.map(|policy| authn::lookup(&policy)), new);
    }

    /// Sets or removes a PeerAuthentication converted from a policy of 1.1.
    fn put_policy(&mut self, key: &ObjectKey, policy: Option<Arc<Config<PeerAuthentication>>>) {
        let new = policy.as_ref().map(|policy| authn::lookup(policy));
        let policies = &mut self.next.peer_authentications;
        let old = policies.replace_converted(key, policy);
        self.follow_policy(key, old.map(|policy| authn::lookup(&policy)), new);
    }

    fn follow_policy(&mut self, key: &ObjectKey, old: Option<Lookup>, new: Option<Lookup>) {
        self.lookups.replace(old, new);
        self.changes.policies.insert(key.namespace.clone());
    }
}
