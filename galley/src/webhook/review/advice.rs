//! Advice for the author of a valid object.

use istio_api::networking::v1alpha3::EnvoyFilter;
use istio_api::object::Object;

/// Kinds that only 1.1 had, and their replacements.
const REPLACED: &[(&str, &str)] = &[
    ("Policy", "PeerAuthentication and RequestAuthentication"),
    ("MeshPolicy", "PeerAuthentication and RequestAuthentication"),
    ("ServiceRole", "AuthorizationPolicy"),
    ("ServiceRoleBinding", "AuthorizationPolicy"),
    ("RbacConfig", "AuthorizationPolicy"),
    ("ClusterRbacConfig", "AuthorizationPolicy"),
];

/// Advice for the person who applies the object, one sentence each.
pub(super) fn of(object: &Object) -> Vec<String> {
    let kind = object.collection.kind;
    let replaced = REPLACED.iter().find(|(old, _)| *old == kind);
    let mut advice: Vec<String> = replaced
        .map(|(_, new)| format!("{kind} is deprecated: use {new} instead"))
        .into_iter()
        .collect();
    if kind == "EnvoyFilter"
        && let Ok(filter) = object.decode::<EnvoyFilter>()
        && filter.config_patches.is_empty()
        && filter.filters.is_empty()
    {
        advice.push("spec.configPatches: the EnvoyFilter has no effect without patches".to_owned());
    }
    advice
}
