//! Sidecars that are missing, or of another version than expected.

use std::collections::{BTreeMap, BTreeSet};

use super::super::catalogue::{
    IMAGE_AUTO_WITHOUT_INJECTION_ERROR, IMAGE_AUTO_WITHOUT_INJECTION_WARNING,
    NAMESPACE_INJECTION_ENABLED_BY_DEFAULT, NAMESPACE_MULTIPLE_INJECTION_LABELS,
    NAMESPACE_NOT_INJECTED, POD_MISSING_PROXY, PODS_ISTIO_PROXY_IMAGE_MISMATCH_IN_NAMESPACE,
};
use super::super::kubernetes::{PROXY, Pod, Webhook};
use super::super::message::names;
use super::super::report::Report;
use super::super::resources::workloads::Workload;
use super::super::resources::{Resource, Resources};
use super::super::selection::Labels;
use istio_api::well_known::annotations::{PROXY_IMAGE, PROXY_IMAGE_TYPE};
use istio_api::well_known::labels::{INJECT, INJECTION, REVISION};

/// Namespaces of Kubernetes itself, which are never part of a mesh.
pub(super) const KUBERNETES_NAMESPACES: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];
/// Label that puts a namespace into the mesh without sidecars.
const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
/// Label that every namespace has.
const NAME: &str = "kubernetes.io/metadata.name";
/// Image that the injector replaces.
const AUTOMATIC: &str = "auto";

fn label<'a>(namespace: &'a Resource<()>, key: &str) -> Option<&'a str> {
    namespace.head.labels.get(key).map(String::as_str)
}

pub(super) fn labels(resources: &Resources, report: &mut Report) {
    let is_default = resources.injectors.values().any(|one| one.is_default);
    for (name, namespace) in &resources.namespaces {
        if *name == resources.istio_namespace || KUBERNETES_NAMESPACES.contains(&name.as_str()) {
            continue;
        }
        let origin = &namespace.head.origin;
        let injection = label(namespace, INJECTION);
        if injection.is_none_or(|value| value == "enabled") {
            let found = [INJECTION, REVISION, DATAPLANE_MODE].into_iter();
            let found: Vec<String> = found
                .filter_map(|key| Some(format!("{key}={}", label(namespace, key)?)))
                .collect();
            if found.len() > 1 {
                let code = &NAMESPACE_MULTIPLE_INJECTION_LABELS;
                report.add(code, origin, "metadata.labels", [found.join(", ")]);
            }
        }
        let is_ambient = label(namespace, DATAPLANE_MODE) == Some("ambient");
        if injection.is_none() && label(namespace, REVISION).is_none() && !is_ambient {
            if is_default {
                let code = &NAMESPACE_INJECTION_ENABLED_BY_DEFAULT;
                report.add(code, origin, "metadata.name", []);
            } else {
                let parameters = [name.clone(), name.clone()];
                report.add(&NAMESPACE_NOT_INJECTED, origin, "metadata.name", parameters);
            }
        }
        if injection == Some("enabled") {
            for workload in resources.workloads.of(name) {
                if lacks_proxy(workload) {
                    let pod = &workload.pod;
                    let parameters = [pod.name().to_owned()];
                    report.add(
                        &POD_MISSING_PROXY,
                        &pod.head.origin,
                        "metadata.name",
                        parameters,
                    );
                }
            }
        }
    }
}

fn lacks_proxy(workload: &Workload) -> bool {
    let head = &workload.pod.head;
    let says_no = |map: &BTreeMap<String, String>| map.get(INJECT).is_some_and(|it| it == "false");
    !workload.pod.spec.host_network
        && workload.pod.spec.proxy().is_none()
        && !says_no(&head.labels)
        && !says_no(&head.annotations)
}

pub(super) fn images(resources: &Resources, report: &mut Report) {
    for (name, namespace) in &resources.namespaces {
        let revision = match (label(namespace, INJECTION), label(namespace, REVISION)) {
            (Some("enabled"), _) => "default",
            (None, Some(revision)) => revision,
            _ => continue,
        };
        let injector = resources.injectors.get(revision);
        let Some(image) = injector.and_then(|injector| injector.image.as_deref()) else {
            continue;
        };
        let types = image_types(resources, name);
        let is_expected = |workload: &&Workload, found: &str| {
            let own = workload.pod.head.annotations.get(PROXY_IMAGE_TYPE);
            let mut types = types.iter().copied().chain(own.map(String::as_str));
            found == image || types.any(|kind| found == format!("{image}-{kind}"))
        };
        let wrong = resources.workloads.of(name).filter(|workload| {
            let has_own = workload.pod.head.annotations.contains_key(PROXY_IMAGE);
            let proxy = workload.pod.spec.proxy();
            // Images that are still to be injected are reported elsewhere.
            let other = proxy.is_some_and(|proxy| {
                proxy.image != AUTOMATIC && !is_expected(workload, &proxy.image)
            });
            !has_own && other
        });
        let wrong: Vec<&str> = wrong.map(|workload| workload.pod.name()).collect();
        if !wrong.is_empty() {
            report.add(
                &PODS_ISTIO_PROXY_IMAGE_MISMATCH_IN_NAMESPACE,
                &namespace.head.origin,
                "metadata.name",
                [names(wrong)],
            );
        }
    }
}

/// Variants of the image that are requested in a namespace.
fn image_types<'a>(resources: &'a Resources, namespace: &str) -> BTreeSet<&'a str> {
    let mesh = resources.mesh.config.spec.default_config.as_ref();
    let of_mesh = mesh.and_then(|config| config.image.as_ref());
    let near = resources.proxy_configs.iter().filter(|config| {
        config.namespace() == namespace || config.namespace() == resources.mesh.root_namespace
    });
    let own = near.filter_map(|config| config.spec.image.as_ref());
    of_mesh
        .map(|image| image.image_type.as_str())
        .into_iter()
        .chain(own.map(|image| image.image_type.as_str()))
        .filter(|kind| !kind.is_empty())
        .collect()
}

fn automatic(pod: &Pod) -> Option<String> {
    let lists = [
        ("containers", &pod.containers),
        ("initContainers", &pod.init_containers),
    ];
    lists.into_iter().find_map(|(member, list)| {
        let index = list
            .iter()
            .position(|one| one.name == PROXY && one.image == AUTOMATIC)?;
        Some(format!("{member}[{index}].image"))
    })
}

pub(super) fn automatic_images(resources: &Resources, report: &mut Report) {
    for workload in resources.workloads.all() {
        if let Some(field) = automatic(&workload.pod.spec) {
            let pod = &workload.pod;
            report.add(
                &IMAGE_AUTO_WITHOUT_INJECTION_ERROR,
                &pod.head.origin,
                format!("spec.{field}"),
                ["Pod".to_owned(), pod.name().to_owned()],
            );
        }
    }
    let webhooks: Vec<&Webhook> = resources
        .webhooks
        .iter()
        .flat_map(|configuration| &configuration.spec)
        .filter(|webhook| webhook.name.ends_with("istio.io"))
        .collect();
    for deployment in &resources.deployments {
        let Some(field) = automatic(&deployment.spec.template) else {
            continue;
        };
        let namespace = resources.namespaces.get(deployment.namespace());
        let mut labels: Labels = namespace
            .map(|namespace| namespace.head.labels.clone())
            .unwrap_or_default();
        labels.insert(NAME.to_owned(), deployment.namespace().to_owned());
        let is_called = webhooks.iter().any(|webhook| {
            webhook.namespaces.matches(&labels) && webhook.objects.matches(&deployment.spec.labels)
        });
        if !is_called {
            report.add(
                &IMAGE_AUTO_WITHOUT_INJECTION_WARNING,
                &deployment.head.origin,
                format!("spec.template.spec.{field}"),
                ["Deployment".to_owned(), deployment.name().to_owned()],
            );
        }
    }
}
