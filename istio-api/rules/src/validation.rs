//! Validation of single objects: what is refused, and what is accepted with a warning.
//!
//! What Istio 1.30 accepts is never refused. Every rule looks at the whole object, so one problem
//! never hides another. Rules of the CRD schemas are left to the API server, not repeated here.

mod authentication;
mod authorization_policy;
mod destination_rule;
mod envoy_filter;
mod gateway;
pub mod kubernetes;
mod legacy;
mod metadata;
pub(crate) mod primitives;
mod proxy_config;
mod report;
mod server_tls;
mod service_entry;
mod sidecar;
mod telemetry;
mod virtual_service;
mod wasm_plugin;
mod workload;

use prost::Message;

use istio_api::mixer::v1::config::client as mixer;
use istio_api::object::Object;
use report::{At, Check};

pub(crate) use envoy_filter::current_name as current_filter_name;

/// Whether a problem makes an object unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The object is refused.
    Error,
    /// The object is accepted, but somebody should look at it.
    Warning,
}

/// One thing that is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Id of the rule, such as `VS-93`; `DECODE` if the body does not decode, and empty in the
    /// last problem of a list that was cut.
    pub rule: &'static str,
    /// Where, in the names that users write: `spec.http[1].route[0].weight`, `metadata.name`.
    pub path: String,
    /// What is wrong and what would be right, in one sentence.
    pub message: String,
    /// Whether the object is refused for it.
    pub severity: Severity,
    /// Details, if a rule or match of a VirtualService is never used.
    pub shadow: Option<Shadow>,
}

/// A rule or match of a VirtualService that earlier ones shadow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shadow {
    /// A rule that no request reaches.
    Unreachable {
        /// Its name in quotes, or `#` and its index.
        rule: String,
        /// Why.
        reason: &'static str,
    },
    /// A match that changes nothing.
    Ineffective {
        /// Rule that it is in.
        rule: String,
        /// Its name in quotes, or `#` and its index.
        matched: String,
        /// The rule, or the match of a rule, that matches its requests first.
        duplicate: String,
    },
}

const SPEC: At<'static> = At::root("spec");

/// Every problem of one object, errors and warnings, in order of path.
///
/// At most 100 are listed; if there are more, a last one says how many. Errors then come first, so
/// that an object is refused exactly if one of the listed problems is an error.
#[must_use]
pub fn validate(object: &Object) -> Vec<Problem> {
    let mut check = Check::new(&object.meta);
    metadata::validate(&mut check, object.collection);
    let kind = object.collection.kind;
    match (object.collection.group, kind) {
        ("networking.istio.io", "VirtualService") => {
            run(&mut check, object, virtual_service::validate)
        }
        ("networking.istio.io", "DestinationRule") => {
            run(&mut check, object, destination_rule::validate)
        }
        ("networking.istio.io", "Gateway") => run(&mut check, object, gateway::validate),
        ("networking.istio.io", "ServiceEntry") => run(&mut check, object, service_entry::validate),
        ("networking.istio.io", "WorkloadEntry") => {
            run(&mut check, object, workload::validate_entry)
        }
        ("networking.istio.io", "WorkloadGroup") => {
            run(&mut check, object, workload::validate_group)
        }
        ("networking.istio.io", "Sidecar") => run(&mut check, object, sidecar::validate),
        ("networking.istio.io", "EnvoyFilter") => run(&mut check, object, envoy_filter::validate),
        ("networking.istio.io", "ProxyConfig") => run(&mut check, object, proxy_config::validate),
        ("security.istio.io", "AuthorizationPolicy") => {
            run(&mut check, object, authorization_policy::validate)
        }
        ("security.istio.io", "PeerAuthentication") => {
            run(&mut check, object, authentication::validate_peer)
        }
        ("security.istio.io", "RequestAuthentication") => {
            run(&mut check, object, authentication::validate_request)
        }
        ("telemetry.istio.io", "Telemetry") => run(&mut check, object, telemetry::validate),
        ("extensions.istio.io", "WasmPlugin") => run(&mut check, object, wasm_plugin::validate),
        ("extensions.istio.io", "TrafficExtension") => {
            run(&mut check, object, wasm_plugin::validate_extension)
        }
        ("authentication.istio.io", "Policy") => run(&mut check, object, legacy::policy::validate),
        ("authentication.istio.io", "MeshPolicy") => {
            run(&mut check, object, legacy::policy::validate_mesh)
        }
        ("rbac.istio.io", "ServiceRole") => run(&mut check, object, legacy::rbac::validate_role),
        ("rbac.istio.io", "ServiceRoleBinding") => {
            run(&mut check, object, legacy::rbac::validate_binding)
        }
        ("rbac.istio.io", "ClusterRbacConfig") => {
            run(&mut check, object, legacy::rbac::validate_config)
        }
        ("rbac.istio.io", "RbacConfig") => {
            run(&mut check, object, legacy::rbac::validate_old_config)
        }
        // 1.30 does not have these kinds and no rule is left: they need only decode.
        (_, "HTTPAPISpec") => run(&mut check, object, |_, _: &mixer::HttpapiSpec| {}),
        (_, "HTTPAPISpecBinding") => run(&mut check, object, |_, _: &mixer::HttpapiSpecBinding| {}),
        (_, "QuotaSpec") => run(&mut check, object, |_, _: &mixer::QuotaSpec| {}),
        (_, "QuotaSpecBinding") => run(&mut check, object, |_, _: &mixer::QuotaSpecBinding| {}),
        _ => {}
    }
    check.finish()
}

fn run<T: Message + Default>(
    check: &mut Check<'_>,
    object: &Object,
    rules: impl FnOnce(&mut Check<'_>, &T),
) {
    match object.decode::<T>() {
        Ok(spec) => rules(check, &spec),
        Err(error) => check.error(
            "DECODE",
            &SPEC,
            format!(
                "the body cannot be decoded ({error}): want an encoded {}",
                object.collection.message
            ),
        ),
    }
}
