//! ServiceRole, ServiceRoleBinding, ClusterRbacConfig and RbacConfig.
//!
//! | 1.1 | AuthorizationPolicy, action `ALLOW` |
//! |---|---|
//! | mode `OFF`, or no config | none at all |
//! | mode `ON` | one of the root namespace without rules: what no rule allows is refused |
//! | `ON_WITH_INCLUSION`, `ON_WITH_EXCLUSION` | one without rules for each Service that it is on for |
//! | rule of a role × Service that it names | one: `to` and `when` of the rule, a rule for the subjects of all bindings |
//! | constraint `destination.labels[x]` | a term of the selector, a policy for each value |
//! | constraints `destination.name`, `.namespace`, `.user` | decided here |
//! | mode `PERMISSIVE`, of all or of a binding | annotation `istio.io/dry-run` |
//!
//! What cannot be expressed drops the rule or the subject, so no one is ever allowed more than in
//! 1.1: where Services share workloads, `to` is limited to the ports of the Service.

mod config;
mod constraint;
mod role;
mod subject;

use super::policy::Policies;
use super::{Converted, Mesh, Service, Source};
use istio_api::object::Object;
use istio_api::rbac::v1alpha1::{ServiceRole, ServiceRoleBinding};

/// Converts access control; `objects` are all objects of these kinds and, for `principalBinding`,
/// all Policies and MeshPolicies.
#[must_use]
pub fn convert(objects: &[Object], services: &[Service], mesh: &Mesh<'_>) -> Converted {
    let mut converted = Converted::default();
    let services = &super::service::in_order(services);
    let Some(config) = config::Config::read(objects, &mut converted.complaints) else {
        return converted.in_order();
    };
    converted.add(config.refusals(services, mesh));
    let mut unread = Vec::new();
    // Policies that cannot be read are reported by their own conversion.
    let policies = Policies::read(objects, mesh, &mut unread);
    let roles: Vec<Source<ServiceRole>> =
        Source::all(objects, "ServiceRole", &mut converted.complaints);
    let mut bindings: Vec<Source<ServiceRoleBinding>> =
        Source::all(objects, "ServiceRoleBinding", &mut converted.complaints);
    bindings.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
    for binding in &bindings {
        if let Some(complaint) = role::unbound(binding, &roles) {
            converted.complaints.push(complaint);
        }
    }
    let world = role::World {
        config: &config,
        services,
        policies: &policies,
        mesh,
    };
    for role in &roles {
        let own = bindings.iter().filter(|one| role::binds(one, role));
        converted.add(world.convert(role, &own.collect::<Vec<_>>()));
    }
    converted.in_order()
}
