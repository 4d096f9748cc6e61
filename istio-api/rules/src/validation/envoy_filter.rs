//! Rules for EnvoyFilter.

mod matching;
mod value;

use super::SPEC;
use super::primitives::{label, re2};
use super::report::{At, Check};
use istio_api::networking::v1alpha3::EnvoyFilter;
use istio_api::networking::v1alpha3::envoy_filter::patch::Operation;
use istio_api::networking::v1alpha3::envoy_filter::{
    ApplyTo, EnvoyConfigObjectMatch, EnvoyConfigObjectPatch, PatchContext,
};

pub(crate) use matching::current_name;

/// Longer expressions are not checked: the time grows with the square of the length.
const MAX_EXPRESSION: usize = 4096;

pub(super) fn validate(check: &mut Check<'_>, spec: &EnvoyFilter) {
    check.warn(
        "EF-01",
        &SPEC,
        "patches depend on how the mesh generates Envoy's configuration: want other kinds where they suffice, and care at upgrades",
    );
    if let Some(selector) = &spec.workload_selector {
        let at = SPEC.field("workloadSelector");
        label::selector(check, "EF-02", &at, "labels", &selector.labels);
    }
    for (i, patch) in spec.config_patches.iter().enumerate() {
        let of_waypoint = |one: &EnvoyConfigObjectMatch| one.context() == PatchContext::Waypoint;
        if !patch.r#match.as_ref().is_some_and(of_waypoint) {
            config_patch(check, &SPEC.item("configPatches", i), patch);
        }
    }
}

fn config_patch(check: &mut Check<'_>, at: &At<'_>, one: &EnvoyConfigObjectPatch) {
    let apply_to = one.apply_to();
    let at_apply = at.field("applyTo");
    if apply_to == ApplyTo::Invalid {
        check.error(
            "EF-05",
            &at_apply,
            "applyTo does not say what is patched: want one such as HTTP_FILTER or CLUSTER",
        );
    }
    let at_patch = at.field("patch");
    match &one.patch {
        None => check.error(
            "EF-06",
            &at_patch,
            "there is no patch: want operation and value",
        ),
        Some(patch) => {
            let operation = patch.operation();
            let at_value = at_patch.field("value");
            check.refuse(
                operation == Operation::Invalid,
                "EF-07",
                &at_patch.field("operation"),
                "there is no operation: want one such as MERGE, ADD or INSERT_BEFORE",
            );
            match &patch.value {
                Some(value) => value::validate(check, &at_value, apply_to, value),
                None => check.refuse(
                    operation != Operation::Remove && operation != Operation::Invalid,
                    "EF-08",
                    &at_value,
                    "there is no value: want the configuration to put in, or operation REMOVE",
                ),
            }
        }
    }
    let Some(condition) = &one.r#match else {
        return;
    };
    let at = at.field("match");
    if let Some(proxy) = &condition.proxy
        && proxy.proxy_version.len() <= MAX_EXPRESSION
    {
        let at = at.field("proxy");
        check.test(
            "EF-09",
            &at.field("proxyVersion"),
            re2::check(&proxy.proxy_version),
        );
    }
    matching::validate(check, &at, apply_to, condition);
}
