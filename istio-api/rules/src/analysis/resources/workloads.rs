//! Pods and Services by label.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Resource;
use crate::analysis::kubernetes::{Pod, Service};
use crate::analysis::selection::{Labels, selects};
use istio_api::well_known::labels;

/// Labels of a node that say where its Pods are.
const LOCALITY: [&str; 3] = [labels::REGION, labels::ZONE, labels::SUBZONE];

/// A Pod and what follows from its namespace and node.
#[derive(Debug)]
pub(in crate::analysis) struct Workload {
    pub(in crate::analysis) pod: Resource<Pod>,
    /// Whether it has a sidecar, or gets one.
    pub(in crate::analysis) is_in_mesh: bool,
    /// Labels of its node that say where it is.
    locality: Labels,
}

impl Workload {
    pub(in crate::analysis) fn labels(&self) -> &Labels {
        &self.pod.head.labels
    }
}

/// All Pods.
#[derive(Debug, Default)]
pub(in crate::analysis) struct Workloads {
    all: Vec<Workload>,
    by_label: HashMap<(String, String), Vec<usize>>,
    by_namespace: BTreeMap<String, Vec<usize>>,
}

impl Workloads {
    pub(super) fn new(
        pods: Vec<Resource<Pod>>,
        nodes: &BTreeMap<String, Resource<()>>,
        namespaces: &BTreeMap<String, Resource<()>>,
    ) -> Self {
        let mut workloads = Self::default();
        for (index, pod) in pods.into_iter().enumerate() {
            let node = nodes.get(&pod.spec.node);
            let locality: Labels = LOCALITY
                .iter()
                .filter_map(|key| {
                    let value = node?.head.labels.get(*key)?;
                    Some(((*key).to_owned(), value.clone()))
                })
                .collect();
            let mut postings: BTreeSet<(String, String)> = BTreeSet::new();
            for (key, value) in pod.head.labels.iter().chain(&locality) {
                postings.insert((key.clone(), value.clone()));
            }
            for posting in postings {
                workloads.by_label.entry(posting).or_default().push(index);
            }
            let namespace = pod.namespace().to_owned();
            let is_in_mesh = is_in_mesh(
                &pod.spec,
                &pod.head.labels,
                &pod.head.annotations,
                namespaces.get(&namespace),
            );
            workloads
                .by_namespace
                .entry(namespace)
                .or_default()
                .push(index);
            workloads.all.push(Workload {
                pod,
                is_in_mesh,
                locality,
            });
        }
        workloads
    }

    pub(in crate::analysis) fn all(&self) -> &[Workload] {
        &self.all
    }

    /// Pods of a namespace, in order of name.
    pub(in crate::analysis) fn of<'a>(
        &'a self,
        namespace: &str,
    ) -> impl Iterator<Item = &'a Workload> {
        let indices = self.by_namespace.get(namespace).into_iter().flatten();
        indices.filter_map(|index| self.all.get(*index))
    }

    /// Pods with all labels of `selector`, of one namespace or of all, in order.
    pub(in crate::analysis) fn selected<'a>(
        &'a self,
        namespace: Option<&'a str>,
        selector: &'a Labels,
    ) -> impl Iterator<Item = &'a Workload> {
        self.candidates(namespace, selector)
            .filter(move |one| selects(selector, one.labels()))
    }

    /// As [`Self::selected`] in all namespaces, where labels of nodes count, too.
    pub(in crate::analysis) fn located<'a>(
        &'a self,
        selector: &'a Labels,
    ) -> impl Iterator<Item = &'a Workload> {
        self.candidates(None, selector).filter(move |one| {
            selector.iter().all(|(key, value)| {
                one.labels().get(key).or_else(|| one.locality.get(key)) == Some(value)
            })
        })
    }

    /// The shortest list that holds all Pods in question.
    fn candidates<'a>(
        &'a self,
        namespace: Option<&'a str>,
        selector: &Labels,
    ) -> impl Iterator<Item = &'a Workload> {
        const NONE: &[usize] = &[];
        let of_namespace =
            namespace.map(|name| self.by_namespace.get(name).map_or(NONE, Vec::as_slice));
        let of_labels = selector.iter().map(|(key, value)| {
            let posting = self.by_label.get(&(key.clone(), value.clone()));
            posting.map_or(NONE, Vec::as_slice)
        });
        let shortest = of_labels.chain(of_namespace).min_by_key(|list| list.len());
        let (listed, rest) = match shortest {
            Some(list) => (list, [].as_slice()),
            None => (NONE, self.all.as_slice()),
        };
        listed
            .iter()
            .filter_map(|index| self.all.get(*index))
            .filter(move |one| namespace.is_none_or(|name| one.pod.namespace() == name))
            .chain(rest)
    }
}

/// Whether a Pod has a sidecar, or would get one when it is created.
pub(in crate::analysis) fn is_in_mesh(
    pod: &Pod,
    labels: &Labels,
    annotations: &BTreeMap<String, String>,
    namespace: Option<&Resource<()>>,
) -> bool {
    if pod.proxy().is_some_and(|proxy| !proxy.image.is_empty()) {
        return true;
    }
    let wish = labels
        .get(labels::INJECT)
        .or_else(|| annotations.get(labels::INJECT));
    if let Some(wish) = wish {
        return wish == "true";
    }
    let namespace = namespace.and_then(|namespace| namespace.head.labels.get(labels::INJECTION));
    namespace.map(String::as_str) == Some("enabled")
}

/// All Services.
#[derive(Debug, Default)]
pub(in crate::analysis) struct Services {
    all: Vec<Resource<Service>>,
    /// By namespace and the first label of the selector.
    by_label: HashMap<(String, String, String), Vec<usize>>,
    names: BTreeSet<(String, String)>,
}

impl Services {
    pub(super) fn new(all: Vec<Resource<Service>>) -> Self {
        let mut by_label: HashMap<_, Vec<usize>> = HashMap::new();
        let mut names = BTreeSet::new();
        for (index, service) in all.iter().enumerate() {
            let namespace = service.namespace().to_owned();
            names.insert((namespace.clone(), service.name().to_owned()));
            if let Some((key, value)) = service.spec.selector.first_key_value() {
                by_label
                    .entry((namespace, key.clone(), value.clone()))
                    .or_default()
                    .push(index);
            }
        }
        Self {
            all,
            by_label,
            names,
        }
    }

    pub(in crate::analysis) fn all(&self) -> &[Resource<Service>] {
        &self.all
    }

    pub(in crate::analysis) fn exists(&self, namespace: &str, name: &str) -> bool {
        self.names
            .contains(&(namespace.to_owned(), name.to_owned()))
    }

    /// Services of a namespace that select a Pod with these labels, in order of name.
    pub(in crate::analysis) fn selecting(
        &self,
        namespace: &str,
        labels: &Labels,
    ) -> Vec<&Resource<Service>> {
        let mut found = BTreeSet::new();
        for (key, value) in labels {
            let posting = (namespace.to_owned(), key.clone(), value.clone());
            found.extend(self.by_label.get(&posting).into_iter().flatten().copied());
        }
        found
            .into_iter()
            .filter_map(|index| self.all.get(index))
            .filter(|service| selects(&service.spec.selector, labels))
            .collect()
    }
}
