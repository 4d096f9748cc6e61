//! Mutual TLS of Services that Policies target.
//!
//! Only one PeerAuthentication applies to a workload, so the Services of a namespace are looked at
//! together: those with one selector share an object, and where two contradict each other none is
//! made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Targeting;
use super::peers::{KIND, mode, mtls};
use super::ruling::Ruling;
use crate::conversion::service::contains;
use crate::conversion::{Complaint, Converted, Origin, Service, made};
use istio_api::security::v1beta1::PeerAuthentication;
use istio_api::security::v1beta1::peer_authentication::mutual_tls::Mode;
use istio_api::type_::v1beta1::WorkloadSelector;

/// What Policies decide for one Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The Service; `None` when there is none of that name.
    service: Option<Service>,
    /// Modes by port of the workloads.
    ports: BTreeMap<u32, Mode>,
    /// The Policies behind the modes, with the path of the target.
    origins: BTreeSet<(Origin, String)>,
    complaints: Vec<Complaint>,
}

impl Decision {
    /// The Service that it was made for, as it was then.
    #[must_use]
    pub fn service(&self) -> Option<&Service> {
        self.service.as_ref()
    }
}

/// Decides the modes of the Service `host` of `namespace`, which `policies` (the oldest first) target.
#[must_use]
pub fn decide(
    namespace: &str,
    host: &str,
    service: Option<&Service>,
    policies: &[Arc<Targeting>],
) -> Decision {
    let mut decision = Decision {
        service: service.cloned(),
        ports: BTreeMap::new(),
        origins: BTreeSet::new(),
        complaints: Vec::new(),
    };
    let unusable = match service {
        None => Some(format!(
            "there is no service {host} in {namespace}: want one of its services"
        )),
        Some(service) if service.selector.is_empty() => Some(format!(
            "{host} selects no workloads, so it is not known which ones the policy is for: want a selector, or a PeerAuthentication"
        )),
        Some(_) => None,
    };
    if let Some(message) = unusable {
        for policy in policies {
            for (path, _) in policy.at(host) {
                let complaint = policy
                    .source()
                    .complaint(format!("{path}.name"), message.as_str());
                decision.complaints.push(complaint);
            }
        }
        return decision;
    }
    let Some(service) = service else {
        return decision;
    };
    let ruling = Ruling::of(service, policies);
    let mut contradictions = BTreeSet::new();
    for ruled in &ruling.ports {
        if ruled.port.targets.is_empty() {
            decision.complaints.push(ruled.policy.complaint(
                ruled.path.as_str(),
                format!(
                    "port {} of {host} has a named target port, and no endpoint resolves it: want a number, or an endpoint",
                    ruled.port.number
                ),
            ));
        }
        let mode = mode(&ruled.policy.spec);
        for target in &ruled.port.targets {
            if *decision.ports.entry(*target).or_insert(mode) != mode {
                contradictions.insert(*target);
            }
            let origin = (ruled.policy.origin(), ruled.path.clone());
            decision.origins.insert(origin);
        }
    }
    decision.complaints.extend(ruling.complaints);
    if let Some(port) = contradictions.first() {
        let message = format!(
            "two ports of {host} lead to port {port} of its workloads and ask for different modes: want one mode"
        );
        decision.refuse(&message);
    }
    decision
}

impl Decision {
    /// Discards the modes.
    fn refuse(&mut self, message: &str) {
        self.ports.clear();
        let complaints: Vec<Complaint> = self.refused(message).collect();
        self.complaints.extend(complaints);
        self.origins.clear();
    }

    fn refused<'a>(&'a self, message: &'a str) -> impl Iterator<Item = Complaint> + 'a {
        self.origins
            .iter()
            .map(move |(origin, path)| origin.complaint(path.as_str(), message))
    }
}

/// Decisions for Services with one selector.
#[derive(Default)]
struct Group<'a> {
    members: Vec<(&'a Service, &'a Decision)>,
    ports: BTreeMap<u32, Mode>,
    /// Why none of it is used.
    refused: Option<String>,
}

/// The PeerAuthentications of one namespace, of all decisions for its Services.
#[must_use]
pub fn settle<'a>(decisions: impl IntoIterator<Item = &'a Decision>) -> Converted {
    let mut converted = Converted::default();
    let mut groups: BTreeMap<&BTreeMap<String, String>, Group<'_>> = BTreeMap::new();
    for decision in decisions {
        converted
            .complaints
            .extend(decision.complaints.iter().cloned());
        if let Some(service) = decision
            .service
            .as_ref()
            .filter(|_| !decision.ports.is_empty())
        {
            let group = groups.entry(&service.selector).or_default();
            group.members.push((service, decision));
        }
    }
    for group in groups.values_mut() {
        group.unite();
    }
    refuse_overlaps(&mut groups);
    for (selector, group) in groups {
        group.finish(selector, &mut converted);
    }
    converted.in_order()
}

impl Group<'_> {
    /// Merges the ports of all members.
    fn unite(&mut self) {
        self.members
            .sort_by(|(a, _), (b, _)| (&a.name, &a.host).cmp(&(&b.name, &b.host)));
        let mut first: BTreeMap<u32, &str> = BTreeMap::new();
        for (service, decision) in &self.members {
            for (port, mode) in &decision.ports {
                let older = *first.entry(*port).or_insert(&service.host);
                if *self.ports.entry(*port).or_insert(*mode) != *mode {
                    self.refused = Some(format!(
                        "{older} and {} have the same selector but different modes on port {port} of their workloads: want one mode, or different selectors",
                        service.host
                    ));
                }
            }
        }
    }

    /// Why it contradicts a group that selects all of its workloads, if it does.
    fn clash(&self, wider: &Self) -> Option<String> {
        if self.ports == wider.ports || self.refused.is_some() || wider.refused.is_some() {
            return None;
        }
        let ((one, _), (other, _)) = (self.members.first()?, wider.members.first()?);
        Some(format!(
            "{} selects workloads of {} too, and only one policy can apply to a workload: want the same modes on the same ports for both",
            other.host, one.host
        ))
    }

    fn finish(self, selector: &BTreeMap<String, String>, converted: &mut Converted) {
        let decisions = || self.members.iter().map(|(_, decision)| decision);
        let mut refused = self.refused;
        let first = self.members.first();
        if let (None, Some((service, _))) = (&refused, first) {
            let spec = PeerAuthentication {
                selector: Some(WorkloadSelector {
                    match_labels: selector.clone(),
                }),
                port_level_mtls: self
                    .ports
                    .iter()
                    .map(|(port, mode)| (*port, mtls(*mode)))
                    .collect(),
                ..Default::default()
            };
            let origins = decisions().flat_map(|one| one.origins.iter().map(|(origin, _)| origin));
            let meta = made::meta(
                &service.namespace,
                format!("service~{}", service.name),
                origins,
            );
            match made::security(KIND, meta, &spec) {
                Ok(object) => converted.objects.push(object),
                Err(message) => refused = Some(message),
            }
        }
        if let Some(message) = refused {
            for decision in decisions() {
                converted.complaints.extend(decision.refused(&message));
            }
        }
    }
}

/// Refuses groups of which one selects workloads of another and asks for other modes.
fn refuse_overlaps(groups: &mut BTreeMap<&BTreeMap<String, String>, Group<'_>>) {
    // A wider selector has its first label in every narrower one, so few pairs are compared.
    let mut by_label: BTreeMap<(&String, &String), Vec<&BTreeMap<String, String>>> =
        BTreeMap::new();
    for selector in groups.keys() {
        if let Some(label) = selector.first_key_value() {
            by_label.entry(label).or_default().push(selector);
        }
    }
    let mut refused: Vec<(&BTreeMap<String, String>, String)> = Vec::new();
    for (&narrow, inner) in groups.iter() {
        let wider = narrow.iter().filter_map(|label| by_label.get(&label));
        for wide in wider
            .flatten()
            .filter(|wide| **wide != narrow && contains(narrow, wide))
        {
            let Some(outer) = groups.get(wide) else {
                continue;
            };
            if let Some(message) = inner.clash(outer) {
                refused.push((narrow, message.clone()));
                refused.push((*wide, message));
            }
        }
    }
    for (selector, message) in refused {
        if let Some(group) = groups.get_mut(selector) {
            group.refused.get_or_insert(message);
        }
    }
}
