//! Patches of EnvoyFilters that do nothing, or that depend on the order of filters.

use std::collections::BTreeSet;

use prost_types::value::Kind;

use super::super::catalogue::{
    ENVOY_FILTER_USES_ADD_OPERATION_INCORRECTLY as WRONG_ADD,
    ENVOY_FILTER_USES_RELATIVE_OPERATION as RELATIVE,
    ENVOY_FILTER_USES_RELATIVE_OPERATION_WITH_PROXY_VERSION as RELATIVE_OF_VERSION,
    ENVOY_FILTER_USES_REMOVE_OPERATION_INCORRECTLY as WRONG_REMOVE,
    ENVOY_FILTER_USES_REPLACE_OPERATION_INCORRECTLY as WRONG_REPLACE,
};
use super::super::report::Report;
use super::super::resources::Resources;
use istio_api::networking::v1alpha3::envoy_filter::envoy_config_object_match::ObjectTypes;
use istio_api::networking::v1alpha3::envoy_filter::patch::Operation;
use istio_api::networking::v1alpha3::envoy_filter::{ApplyTo, EnvoyConfigObjectPatch};

pub(super) fn analyze(resources: &Resources, report: &mut Report) {
    for filter in &resources.envoy_filters {
        let origin = &filter.head.origin;
        let mut of_version: BTreeSet<String> = BTreeSet::new();
        for (i, patch) in filter.spec.config_patches.iter().enumerate() {
            let name = filter_name(patch);
            let field = format!("spec.configPatches[{i}].patch");
            let operation = patch.patch.as_ref().map(|patch| patch.operation());
            let places_routes = matches!(
                patch.apply_to(),
                ApplyTo::RouteConfiguration | ApplyTo::HttpRoute
            );
            let can_be_replaced = matches!(
                patch.apply_to(),
                ApplyTo::HttpFilter | ApplyTo::NetworkFilter | ApplyTo::VirtualHost
            );
            let code = match operation {
                Some(Operation::Replace) if !can_be_replaced => Some(&WRONG_REPLACE),
                Some(Operation::Add) if places_routes => Some(&WRONG_ADD),
                Some(Operation::Remove) if places_routes => Some(&WRONG_REMOVE),
                Some(
                    Operation::InsertBefore
                    | Operation::InsertAfter
                    | Operation::Replace
                    | Operation::Remove,
                ) if filter.spec.priority == 0 => {
                    let is_limited = name.as_ref().is_some_and(|name| of_version.contains(name));
                    Some(if is_limited {
                        &RELATIVE_OF_VERSION
                    } else {
                        &RELATIVE
                    })
                }
                _ => None,
            };
            if let Some(code) = code {
                report.add(code, origin, field, []);
            }
            let version = patch.r#match.as_ref().and_then(|one| one.proxy.as_ref());
            if version.is_some_and(|proxy| !proxy.proxy_version.is_empty()) {
                of_version.extend(name);
            }
        }
    }
}

/// Name of the filter that a patch adds, or else of the one that it matches.
fn filter_name(patch: &EnvoyConfigObjectPatch) -> Option<String> {
    let value = patch.patch.as_ref().and_then(|patch| patch.value.as_ref());
    let name = value.and_then(|value| value.fields.get("name"));
    if let Some(Kind::StringValue(name)) = name.and_then(|name| name.kind.as_ref()) {
        return Some(name.clone());
    }
    let Some(ObjectTypes::Listener(listener)) = patch.r#match.as_ref()?.object_types.as_ref()
    else {
        return None;
    };
    let filter = listener.filter_chain.as_ref()?.filter.as_ref()?;
    let name = match &filter.sub_filter {
        Some(inner) if !inner.name.is_empty() => &inner.name,
        _ => &filter.name,
    };
    (!name.is_empty()).then(|| name.clone())
}
