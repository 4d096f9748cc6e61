//! Policy and MeshPolicy.
//!
//! | 1.1 | today |
//! |---|---|
//! | MeshPolicy `default` | PeerAuthentication of the root namespace |
//! | Policy `default` without targets | PeerAuthentication of its namespace |
//! | no peer `mtls` | mode `DISABLE`; `mtls` without a mode is `STRICT`, and so is one that is null |
//! | targets | one PeerAuthentication for each selector of the Services, with the ports of their workloads |
//! | `origins[].jwt`, `peers[].jwt` | RequestAuthentication; the token is passed on, as 1.1 does |
//! | `originIsOptional: false` | AuthorizationPolicy `DENY` of requests without a token |
//! | `peerIsOptional: false` with tokens only | the same |
//! | `triggerRules` | paths of that policy |
//! | `principalBinding: USE_ORIGIN` | request principals in what [`super::rbac`] makes |
//!
//! If several Policies name one port of a Service, the oldest applies to it.

mod peers;
mod ruling;
mod settle;
mod targeting;
mod token;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Complaint, Converted, Mesh, Service, Source};
use istio_api::authentication::v1alpha1::{Policy, PrincipalBinding};
use istio_api::object::Object;

pub use peers::scope;
pub use settle::{Decision, decide, settle};
pub use targeting::Targeting;

use ruling::Ruling;

pub(super) const DEFAULT: &str = "default";

/// Converts all Policies and MeshPolicies; objects of other kinds are ignored.
#[must_use]
pub fn convert(objects: &[Object], services: &[Service], mesh: &Mesh<'_>) -> Converted {
    let mut converted = Converted::default();
    let services = &super::service::in_order(services);
    let policies = Policies::read(objects, mesh, &mut converted.complaints);
    for policy in &policies.scoped {
        converted.add(scope(policy, mesh));
        if refusal(policy, mesh).is_none() {
            converted.add(token::of_scope(policy, &policies, services, mesh));
        }
    }
    let mut decisions: BTreeMap<&str, Vec<Decision>> = BTreeMap::new();
    for ((namespace, host), targeting) in &policies.targeted {
        let at = services.binary_search_by(|one| {
            (one.namespace.as_str(), one.host.as_str()).cmp(&(namespace.as_str(), host.as_str()))
        });
        let service = at.ok().and_then(|at| services.get(at));
        let decision = decide(namespace, host, service, targeting);
        decisions.entry(namespace).or_default().push(decision);
        if let Some(service) = service {
            converted.add(token::of_service(service, targeting, mesh));
        }
    }
    for decisions in decisions.values() {
        converted.add(settle(decisions));
    }
    converted.in_order()
}

/// Policies by what they are for.
#[derive(Debug, Default)]
pub(super) struct Policies {
    /// For a namespace or the mesh.
    scoped: Vec<Source<Policy>>,
    /// By namespace and host of the service, the oldest first.
    targeted: BTreeMap<(String, String), Vec<Arc<Targeting>>>,
}

impl Policies {
    pub(super) fn read(
        objects: &[Object],
        mesh: &Mesh<'_>,
        complaints: &mut Vec<Complaint>,
    ) -> Self {
        let mut policies = Self::default();
        let mut all: Vec<Source<Policy>> = Source::all(objects, "MeshPolicy", complaints);
        all.extend(Source::all(objects, "Policy", complaints));
        for policy in all {
            let policy = Arc::new(Targeting::new(policy, mesh));
            for host in policy.hosts() {
                let key = (policy.source().meta.namespace.clone(), host.to_owned());
                let targeting = policies.targeted.entry(key).or_default();
                targeting.push(policy.clone());
            }
            if policy.is_for_all() {
                policies.scoped.push(policy.source().clone());
            }
        }
        policies
    }

    /// Whether principals are those of tokens at a service; `None` when its ports differ.
    pub(super) fn uses_origin(&self, service: &Service, mesh: &Mesh<'_>) -> Option<bool> {
        let of_origin = |policy: &Source<Policy>| {
            policy.spec.principal_binding() == PrincipalBinding::UseOrigin
        };
        let scoped = |kind: &str| {
            let mut found = self.scoped.iter().filter(|policy| policy.kind == kind);
            found.find(|policy| {
                refusal(policy, mesh).is_none()
                    && (kind == "MeshPolicy" || policy.meta.namespace == service.namespace)
            })
        };
        let wider = scoped("Policy").or_else(|| scoped("MeshPolicy"));
        let wider = wider.is_some_and(of_origin);
        let key = (service.namespace.clone(), service.host.clone());
        let targeting = self.targeted.get(&key).map_or(&[][..], Vec::as_slice);
        let ruling = Ruling::of(service, targeting);
        let mut answers = service.ports.iter().filter(|port| port.http).map(|port| {
            let ruled = ruling.at(port);
            ruled.map_or(wider, |ruled| of_origin(ruled.policy))
        });
        // Only HTTP carries tokens.
        let first = answers.next().unwrap_or(false);
        answers.all(|answer| answer == first).then_some(first)
    }
}

/// Why a policy without targets has no effect, with the path.
fn refusal(policy: &Source<Policy>, mesh: &Mesh<'_>) -> Option<(&'static str, String)> {
    let is_mesh = policy.kind == "MeshPolicy";
    if is_mesh && !policy.spec.targets.is_empty() {
        let message = "the policy of the mesh applies to all services: want a Policy for some";
        return Some(("spec.targets", message.to_owned()));
    }
    if policy.meta.name != DEFAULT {
        let message = format!(
            "a {} without targets has an effect only under the name \"default\": want that name{}",
            policy.kind,
            if is_mesh { "" } else { ", or targets" }
        );
        return Some(("metadata.name", message));
    }
    (!is_mesh && policy.meta.namespace == mesh.root_namespace).then(|| {
        let message = format!(
            "{} is the root namespace, where a policy without targets would apply to the whole mesh: want targets, or a MeshPolicy",
            mesh.root_namespace
        );
        ("spec", message)
    })
}
