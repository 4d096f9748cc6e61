//! What an object's author should know although no rule is broken.

use istio_api::networking::v1alpha3::EnvoyFilter;
use istio_api::object::Object;

/// Kinds that only 1.1 had, and what says the same today.
const REPLACED: &[(&str, &str)] = &[
    ("Policy", "PeerAuthentication and RequestAuthentication"),
    ("MeshPolicy", "PeerAuthentication and RequestAuthentication"),
    ("ServiceRole", "AuthorizationPolicy"),
    ("ServiceRoleBinding", "AuthorizationPolicy"),
    ("RbacConfig", "AuthorizationPolicy"),
    ("ClusterRbacConfig", "AuthorizationPolicy"),
];

/// Sentences for the person who applies the object.
pub(super) fn of(object: &Object) -> Vec<String> {
    let kind = object.collection.kind;
    let replaced = REPLACED.iter().find(|(old, _)| *old == kind);
    let mut advice: Vec<String> = replaced
        .map(|(_, new)| format!("{kind} is deprecated: {new} replaced it"))
        .into_iter()
        .collect();
    if kind == "EnvoyFilter"
        && let Ok(filter) = object.decode::<EnvoyFilter>()
        && filter.config_patches.is_empty()
        && filter.filters.is_empty()
    {
        advice.push("spec.configPatches: without patches the EnvoyFilter does nothing".to_owned());
    }
    advice
}
