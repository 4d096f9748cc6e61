//! Annotations that are unknown, on the wrong kind, or have an invalid value.

mod known;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::catalogue::{
    DEPRECATED_ANNOTATION, INVALID_ANNOTATION, MISPLACED_ANNOTATION, UNKNOWN_ANNOTATION,
};
use super::super::origin::Origin;
use super::super::report::Report;
use super::super::resources::{ParseYaml, Resources};
use super::super::selection::Labels;
use istio_api::well_known::annotations::{INGRESS_CLASS, INJECT};

pub(super) fn analyze(resources: &Resources, report: &mut Report) {
    let mut checker = Checker {
        report,
        yaml: resources.yaml,
    };
    let metadata = "metadata.annotations";
    for namespace in resources.namespaces.values() {
        let head = &namespace.head;
        checker.all(
            "Namespace",
            &head.origin,
            metadata,
            &head.annotations,
            &head.labels,
        );
    }
    for service in resources.services.all() {
        let head = &service.head;
        checker.all(
            "Service",
            &head.origin,
            metadata,
            &head.annotations,
            &head.labels,
        );
    }
    for workload in resources.workloads.all() {
        let head = &workload.pod.head;
        checker.all(
            "Pod",
            &head.origin,
            metadata,
            &head.annotations,
            &head.labels,
        );
    }
    for deployment in &resources.deployments {
        let head = &deployment.head;
        checker.all(
            "Deployment",
            &head.origin,
            metadata,
            &head.annotations,
            &head.labels,
        );
        // A mistake here is repeated in each of its Pods.
        let spec = &deployment.spec;
        let field = "spec.template.metadata.annotations";
        checker.all("Pod", &head.origin, field, &spec.annotations, &spec.labels);
    }
}

fn is_ours(name: &str) -> bool {
    let owner = name.split('/').next().unwrap_or_default();
    owner.ends_with("istio.io") || name == INGRESS_CLASS
}

struct Checker<'a> {
    report: &'a mut Report,
    yaml: ParseYaml,
}

impl Checker<'_> {
    fn all(
        &mut self,
        kind: &str,
        origin: &Arc<Origin>,
        field: &str,
        annotations: &BTreeMap<String, String>,
        labels: &Labels,
    ) {
        for (name, value) in annotations.iter().filter(|(name, _)| is_ours(name)) {
            let field = format!("{field}[{name}]");
            let Some(row) = known::find(name) else {
                let parameters = [name.clone()];
                self.report
                    .add(&UNKNOWN_ANNOTATION, origin, field, parameters);
                continue;
            };
            let is_doubled = name == INJECT && labels.contains_key(INJECT);
            if row.is_deprecated && !is_doubled {
                let extra = if name == INJECT {
                    format!(": use the label {INJECT}")
                } else {
                    String::new()
                };
                let parameters = [name.clone(), extra];
                self.report
                    .add(&DEPRECATED_ANNOTATION, origin, field.clone(), parameters);
            }
            if row.kinds == [known::ANY] {
                continue;
            }
            if !row.kinds.contains(&kind) {
                let parameters = [name.clone(), row.kinds.join(", ")];
                self.report
                    .add(&MISPLACED_ANNOTATION, origin, field, parameters);
            } else if let Err(problem) = value::check(name, value, self.yaml) {
                let parameters = [name.clone(), problem];
                self.report
                    .add(&INVALID_ANNOTATION, origin, field, parameters);
            }
        }
    }
}
