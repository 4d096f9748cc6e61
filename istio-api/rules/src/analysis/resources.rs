//! Everything that is analyzed together, with the indexes that analyzers use.
//!
//! A [`Builder`] takes objects in any order, from documents or from memory; of two with the same
//! kind, namespace and name the later one wins. A lookup costs what it finds, whatever the total.

pub(super) mod hosts;
pub(super) mod mesh;
pub(super) mod workloads;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message;
use serde_json::Value;

use super::kubernetes::{Deployment, Native, Pod, Secret, Service, Webhook};
use super::origin::{Origin, Place};
use super::selection::Labels;
use hosts::Hosts;
use istio_api::collections::Collection;
use istio_api::manifest::{self, FieldError, Found, Item, Key, Metadata};
use istio_api::networking::v1alpha3::{
    DestinationRule, EnvoyFilter, Gateway, ServiceEntry, Sidecar, VirtualService, WorkloadEntry,
};
use istio_api::networking::v1beta1::ProxyConfig;
use istio_api::object::Object;
use istio_api::security::v1beta1::{AuthorizationPolicy, RequestAuthentication};
use istio_api::telemetry::v1alpha1::Telemetry;
use mesh::{Injector, Mesh};
use workloads::{Services, Workloads};

/// Parses YAML that people wrote inside other documents.
pub type ParseYaml = fn(&str) -> Result<Option<Value>, String>;

/// What analyzers look at in an object's `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Conditions that are false, or only partly true.
    pub negative: Vec<Condition>,
    /// Whether addresses were assigned to it.
    pub has_addresses: bool,
}

/// A condition of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Type.
    pub name: String,
    /// Reason in one word.
    pub reason: String,
    /// Reason as a sentence.
    pub message: String,
}

impl Status {
    /// Reads `status` of an object. Other writers may use other forms, which are ignored.
    #[must_use]
    pub fn read(object: &Value) -> Self {
        let list = |member: &str| object.pointer(member).and_then(Value::as_array);
        let negative = list("/status/conditions").into_iter().flatten();
        let negative = negative.filter_map(|condition| {
            let word = |member: &str| {
                let text = condition.get(member).and_then(Value::as_str);
                text.unwrap_or_default().to_owned()
            };
            let reason = word("reason");
            (word("status") == "False" || reason == "PartiallyInvalid").then(|| Condition {
                name: word("type"),
                message: word("message"),
                reason,
            })
        });
        Self {
            negative: negative.collect(),
            has_addresses: list("/status/addresses").is_some_and(|list| !list.is_empty()),
        }
    }
}

/// What every object has.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) origin: Arc<Origin>,
    pub(super) labels: Labels,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) status: Status,
}

/// An object.
#[derive(Debug)]
pub(super) struct Resource<T> {
    pub(super) head: Arc<Head>,
    pub(super) spec: T,
}

impl<T> Resource<T> {
    pub(super) fn namespace(&self) -> &str {
        &self.head.origin.namespace
    }

    pub(super) fn name(&self) -> &str {
        &self.head.origin.name
    }

    pub(super) fn full_name(&self) -> String {
        self.head.origin.full_name()
    }

    /// Whether it is part of the control plane, whose own workloads follow other rules.
    pub(super) fn is_control_plane(&self) -> bool {
        self.head.labels.contains_key("istio")
            || self.head.labels.get("release").map(String::as_str) == Some("istio")
    }
}

/// A document, or an object of it, that cannot be analyzed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// What is known of the object.
    pub object: String,
    /// Line of the field, if the document knows lines.
    pub line: Option<usize>,
    /// Field and reason.
    pub error: FieldError,
}

type Id = (&'static str, Arc<str>, Arc<str>);

/// Collects what is analyzed.
#[derive(Debug)]
pub struct Builder {
    istio: BTreeMap<Id, Resource<Object>>,
    native: BTreeMap<Id, Resource<Native>>,
    absent: BTreeSet<String>,
    mesh: Option<(String, Place)>,
    replaced: Vec<(Arc<Origin>, Arc<Origin>)>,
}

impl Builder {
    /// An empty builder.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            istio: BTreeMap::new(),
            native: BTreeMap::new(),
            absent: BTreeSet::new(),
            mesh: None,
            replaced: Vec::new(),
        }
    }

    /// Objects that several documents hold, each with the one that replaces it.
    #[must_use]
    pub fn replaced(&self) -> &[(Arc<Origin>, Arc<Origin>)] {
        &self.replaced
    }

    /// Marks a kind as not known: analyzers that need it are skipped.
    pub fn without(&mut self, kind: &str) {
        self.absent.insert(kind.to_owned());
    }

    /// Whether an object of the kind was added.
    #[must_use]
    pub fn holds(&self, kind: &str) -> bool {
        let is_kind = |id: &Id| id.0 == kind;
        self.istio.keys().any(is_kind) || self.native.keys().any(is_kind)
    }

    /// Whether there is a Namespace of that name.
    #[must_use]
    pub fn holds_namespace(&self, name: &str) -> bool {
        self.native
            .contains_key(&("Namespace", "".into(), name.into()))
    }

    /// Adds everything of another builder.
    pub fn append(&mut self, mut other: Self) {
        self.istio.append(&mut other.istio);
        self.native.append(&mut other.native);
        self.absent.append(&mut other.absent);
        self.replaced.append(&mut other.replaced);
        self.mesh = other.mesh.or_else(|| self.mesh.take());
    }

    /// Settings of the mesh that replace those of the config map.
    pub fn mesh_config(&mut self, text: String, place: Place) {
        self.mesh = Some((text, place));
    }

    /// Adds the objects of a document; returns those that cannot be used. Kinds that no analyzer
    /// looks at are ignored.
    #[must_use]
    pub fn read(&mut self, document: &Value, place: Option<&Place>) -> Vec<Unusable> {
        let mut unusable = Vec::new();
        for (prefix, found) in manifest::read::<Native>(document) {
            let place = place.map(|place| Place {
                prefix: prefix.clone(),
                ..place.clone()
            });
            let mut fail = |object: String, errors: Vec<FieldError>| {
                for error in errors {
                    unusable.push(Unusable {
                        object: object.clone(),
                        line: place.as_ref().and_then(|place| place.line(&error.path)),
                        error,
                    });
                }
            };
            match found {
                Found::Other(_) => {}
                Found::Nothing { object, error } => fail(object, vec![error]),
                Found::Object { key, item, .. } => match item {
                    Err(errors) => fail(key.to_string(), errors),
                    Ok(item) => {
                        let object = inside(document, &prefix);
                        self.add_item(&key, item, object, place);
                    }
                },
            }
        }
        unusable
    }

    fn add_item(&mut self, key: &Key, item: Item<Native>, object: &Value, place: Option<Place>) {
        match item {
            Item::Config(config) => self.add((&config).into(), Status::read(object), place),
            Item::Native(native) => {
                // It was read before, so reading it again does not fail.
                let root = manifest::Field::root(object);
                let metadata = Metadata::read(&root, !key.namespace.is_empty());
                let (labels, annotations) = metadata
                    .map(|metadata| (metadata.labels, metadata.annotations))
                    .unwrap_or_default();
                let mut origin = Origin::new(
                    key.kind,
                    key.namespace.clone(),
                    key.name.clone(),
                    &annotations,
                );
                origin.place = place;
                let head = Head {
                    origin: Arc::new(origin),
                    labels,
                    annotations,
                    status: Status::read(object),
                };
                let head = Arc::new(head);
                let resource = Resource {
                    head: head.clone(),
                    spec: native,
                };
                let id = (key.kind, key.namespace.clone(), key.name.clone());
                if let Some(before) = self.native.insert(id, resource) {
                    self.note(&before.head, &head);
                }
            }
        }
    }

    /// Adds an object of Istio's kinds.
    pub fn add(&mut self, mut object: Object, status: Status, place: Option<Place>) {
        let kind = object.collection.kind;
        let labels = std::mem::take(&mut object.meta.labels);
        let annotations = std::mem::take(&mut object.meta.annotations);
        let namespace: Arc<str> = object.meta.namespace.as_str().into();
        let name: Arc<str> = object.meta.name.as_str().into();
        let mut origin = Origin::new(kind, namespace.clone(), name.clone(), &annotations);
        origin.place = place;
        let head = Arc::new(Head {
            origin: Arc::new(origin),
            labels,
            annotations,
            status,
        });
        let resource = Resource {
            head: head.clone(),
            spec: object,
        };
        if let Some(before) = self.istio.insert((kind, namespace, name), resource) {
            self.note(&before.head, &head);
        }
    }

    fn note(&mut self, before: &Head, after: &Head) {
        let (before, after) = (&before.origin, &after.origin);
        if before.place.is_some() && after.place.is_some() {
            self.replaced.push((before.clone(), after.clone()));
        }
    }

    /// Decodes and indexes everything. `revision` is the control plane's, empty if it has none;
    /// `yaml` parses texts in config maps and annotations.
    #[must_use]
    pub fn build(self, istio_namespace: &str, revision: &str, yaml: ParseYaml) -> Resources {
        let mut native = Natives::default();
        for (_, resource) in self.native {
            native.add(resource);
        }
        let Natives {
            config_maps,
            deployments,
            webhooks,
            namespaces,
            nodes,
            pods,
            secrets,
            services,
        } = native;
        let mut absent = self.absent;
        if absent.contains("ConfigMap") {
            absent.insert("MeshNetworks".to_owned());
            if self.mesh.is_none() {
                absent.insert("MeshConfig".to_owned());
            }
        }
        let own = |map: &&Resource<_>| map.namespace() == istio_namespace;
        let mesh = Mesh::read(
            self.mesh,
            config_maps.iter().filter(own),
            istio_namespace,
            revision,
            yaml,
        );
        let injectors = mesh::injectors(config_maps.iter().filter(own), yaml);
        let service_entries = decoded(&self.istio, "ServiceEntry");
        let hosts = Hosts::new(&services, &service_entries);
        let services = Services::new(services);
        let workloads = Workloads::new(pods, &nodes, &namespaces);
        Resources {
            virtual_services: decoded(&self.istio, "VirtualService"),
            destination_rules: decoded(&self.istio, "DestinationRule"),
            gateways: decoded(&self.istio, "Gateway"),
            service_entries,
            workload_entries: decoded(&self.istio, "WorkloadEntry"),
            sidecars: decoded(&self.istio, "Sidecar"),
            envoy_filters: decoded(&self.istio, "EnvoyFilter"),
            proxy_configs: decoded(&self.istio, "ProxyConfig"),
            authorization_policies: decoded(&self.istio, "AuthorizationPolicy"),
            request_authentications: decoded(&self.istio, "RequestAuthentication"),
            telemetries: decoded(&self.istio, "Telemetry"),
            objects: self.istio.into_values().collect(),
            deployments,
            webhooks,
            namespaces,
            secrets,
            services,
            workloads,
            hosts,
            mesh,
            injectors,
            istio_namespace: istio_namespace.to_owned(),
            absent,
            yaml,
        }
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

/// The object at a path that [`manifest::read`] gave: `items[0].items[1]`.
fn inside<'a>(document: &'a Value, path: &str) -> &'a Value {
    let mut value = document;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        let index = step
            .strip_prefix("items[")
            .and_then(|rest| rest.strip_suffix(']'))
            .and_then(|index| index.parse::<usize>().ok());
        let items = value.get("items");
        match index.and_then(|index| items?.get(index)) {
            Some(item) => value = item,
            None => return &Value::Null,
        }
    }
    value
}

/// The objects of a kind whose bodies decode; validation reports the others.
fn decoded<T: Message + Default>(
    objects: &BTreeMap<Id, Resource<Object>>,
    kind: &'static str,
) -> Vec<Resource<T>> {
    let first: Id = (kind, "".into(), "".into());
    objects
        .range(first..)
        .take_while(|(id, _)| id.0 == kind)
        .filter_map(|(_, resource)| {
            Some(Resource {
                head: resource.head.clone(),
                spec: resource.spec.decode().ok()?,
            })
        })
        .collect()
}

#[derive(Default)]
struct Natives {
    config_maps: Vec<Resource<BTreeMap<String, String>>>,
    deployments: Vec<Resource<Deployment>>,
    webhooks: Vec<Resource<Vec<Webhook>>>,
    namespaces: BTreeMap<String, Resource<()>>,
    nodes: BTreeMap<String, Resource<()>>,
    pods: Vec<Resource<Pod>>,
    secrets: BTreeMap<(String, String), Secret>,
    services: Vec<Resource<Service>>,
}

impl Natives {
    fn add(&mut self, resource: Resource<Native>) {
        let Resource { head, spec } = resource;
        let name = head.origin.name.to_string();
        match spec {
            Native::ConfigMap(spec) => self.config_maps.push(Resource { head, spec }),
            Native::Deployment(spec) => self.deployments.push(Resource { head, spec }),
            Native::Webhooks(spec) => self.webhooks.push(Resource { head, spec }),
            Native::Namespace => {
                self.namespaces.insert(name, Resource { head, spec: () });
            }
            Native::Node => {
                self.nodes.insert(name, Resource { head, spec: () });
            }
            Native::Pod(spec) => self.pods.push(Resource { head, spec }),
            Native::Secret(spec) => {
                let namespace = head.origin.namespace.to_string();
                self.secrets.insert((namespace, name), spec);
            }
            Native::Service(spec) => self.services.push(Resource { head, spec }),
        }
    }
}

/// What is analyzed. Every list is ordered by namespace and name.
#[derive(Debug)]
pub struct Resources {
    pub(super) virtual_services: Vec<Resource<VirtualService>>,
    pub(super) destination_rules: Vec<Resource<DestinationRule>>,
    pub(super) gateways: Vec<Resource<Gateway>>,
    pub(super) service_entries: Vec<Resource<ServiceEntry>>,
    pub(super) workload_entries: Vec<Resource<WorkloadEntry>>,
    pub(super) sidecars: Vec<Resource<Sidecar>>,
    pub(super) envoy_filters: Vec<Resource<EnvoyFilter>>,
    pub(super) proxy_configs: Vec<Resource<ProxyConfig>>,
    pub(super) authorization_policies: Vec<Resource<AuthorizationPolicy>>,
    pub(super) request_authentications: Vec<Resource<RequestAuthentication>>,
    pub(super) telemetries: Vec<Resource<Telemetry>>,
    /// All of Istio's kinds, ordered by kind.
    pub(super) objects: Vec<Resource<Object>>,
    pub(super) deployments: Vec<Resource<Deployment>>,
    pub(super) webhooks: Vec<Resource<Vec<Webhook>>>,
    pub(super) namespaces: BTreeMap<String, Resource<()>>,
    pub(super) secrets: BTreeMap<(String, String), Secret>,
    pub(super) services: Services,
    pub(super) workloads: Workloads,
    pub(super) hosts: Hosts,
    pub(super) mesh: Mesh,
    /// By revision; the one without is `default`.
    pub(super) injectors: BTreeMap<String, Injector>,
    pub(super) yaml: ParseYaml,
    /// Namespace of the control plane.
    pub(super) istio_namespace: String,
    absent: BTreeSet<String>,
}

impl Resources {
    /// Whether the objects of a kind are known.
    pub(super) fn knows(&self, kind: &str) -> bool {
        !self.absent.contains(kind)
    }

    /// The objects of a collection.
    pub(super) fn of(&self, kind: &str) -> &[Resource<Object>] {
        let start = self
            .objects
            .partition_point(|one| one.spec.collection.kind < kind);
        let rest = self.objects.get(start..).unwrap_or_default();
        let end = rest.partition_point(|one| one.spec.collection.kind == kind);
        rest.get(..end).unwrap_or_default()
    }

    /// The Gateway that a VirtualService of `namespace` names.
    pub(super) fn gateway(&self, reference: &str, namespace: &str) -> Option<&Resource<Gateway>> {
        let wanted = reference.split_once('/').unwrap_or((namespace, reference));
        let index = self
            .gateways
            .binary_search_by(|one| (one.namespace(), one.name()).cmp(&wanted))
            .ok()?;
        self.gateways.get(index)
    }
}

/// Kinds of Istio that analyzers look at: all that have rules of validation.
pub fn istio_kinds() -> impl Iterator<Item = &'static Collection> {
    istio_api::collections::COLLECTIONS
        .iter()
        .filter(|row| row.group != "config.istio.io")
}
