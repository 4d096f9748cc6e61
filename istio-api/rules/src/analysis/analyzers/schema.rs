//! What validation reports of each object.

use super::super::catalogue::{
    SCHEMA_VALIDATION_ERROR, SCHEMA_WARNING, VIRTUAL_SERVICE_INEFFECTIVE_MATCH,
    VIRTUAL_SERVICE_UNREACHABLE_RULE,
};
use super::super::report::Report;
use super::super::resources::Resources;
use super::super::resources::mesh::Settings;
use crate::validation::{Severity, Shadow, validate};

pub(super) fn objects(kind: &str, resources: &Resources, report: &mut Report) {
    for object in resources.of(kind) {
        let origin = &object.head.origin;
        for problem in validate(&object.spec) {
            let field = problem.path.clone();
            match (problem.shadow, problem.severity) {
                (Some(Shadow::Unreachable { rule, reason }), _) => report.add(
                    &VIRTUAL_SERVICE_UNREACHABLE_RULE,
                    origin,
                    field,
                    [rule, reason.to_owned()],
                ),
                (
                    Some(Shadow::Ineffective {
                        rule,
                        matched,
                        duplicate,
                    }),
                    _,
                ) => report.add(
                    &VIRTUAL_SERVICE_INEFFECTIVE_MATCH,
                    origin,
                    field,
                    [rule, matched, duplicate],
                ),
                (None, severity) => {
                    let code = match severity {
                        Severity::Error => &SCHEMA_VALIDATION_ERROR,
                        Severity::Warning => &SCHEMA_WARNING,
                    };
                    let text = if field.is_empty() {
                        problem.message
                    } else {
                        format!("{field}: {}", problem.message)
                    };
                    report.add(code, origin, field, [text]);
                }
            }
        }
    }
}

/// Settings have no rules here, but they must decode.
pub(super) fn mesh_config(resources: &Resources, report: &mut Report) {
    settings(&resources.mesh.config, "data.mesh", report);
}

pub(super) fn mesh_networks(resources: &Resources, report: &mut Report) {
    settings(&resources.mesh.networks, "data.meshNetworks", report);
}

fn settings<T>(settings: &Settings<T>, field: &str, report: &mut Report) {
    let Some(origin) = &settings.origin else {
        return;
    };
    for error in &settings.errors {
        report.add(&SCHEMA_VALIDATION_ERROR, origin, field, [error.clone()]);
    }
}
