//! The objects of the cluster that are exported to the control plane.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use k8s_openapi::api::core::v1::{Pod, Service};
use serde_json::{Value, json};

use crate::manifest::Key;
use crate::node::OUTSIDE;
use crate::node::export::is_exported;
use crate::node::network::NODE_IP;
use crate::node::service::{self, Backend};
use crate::node::store::Store;

/// Makes the objects that are exported to the control plane.
#[derive(Debug, Default)]
pub(super) struct Exported {
    /// Creation times of those that bring none.
    created: BTreeMap<Key, String>,
}

impl Exported {
    /// The objects that are exported to the control plane.
    pub(super) fn objects(
        &mut self,
        store: &Store,
        namespaces: BTreeSet<String>,
        services: &BTreeMap<Key, Service>,
        backends: &[Backend],
    ) -> BTreeMap<Key, Value> {
        let visible =
            |namespace: &str| store.namespace_label(namespace, OUTSIDE).as_deref() != Some("true");
        let mut objects = BTreeMap::new();
        for namespace in namespaces
            .into_iter()
            .filter(|namespace| visible(namespace))
        {
            let key = Key::core("Namespace", "", &namespace);
            objects.insert(
                key,
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
            );
        }
        for (key, object) in store.all() {
            let own = matches!(
                (key.group.as_str(), key.kind.as_str()),
                ("", "Pod" | "Service")
            );
            let namespace = if key.kind == "Namespace" {
                &key.name
            } else {
                &key.namespace
            };
            if is_exported(&key) && !own && visible(namespace) {
                objects.insert(key, (*object).clone());
            }
        }
        for (key, service) in services.iter().filter(|(key, _)| visible(&key.namespace)) {
            insert(&mut objects, key.clone(), service, "v1", "Service");
            for slice in service::endpoint_slices(service, backends) {
                if let Ok(key) = Key::of(&slice) {
                    objects.insert(key, slice);
                }
            }
        }
        for backend in backends {
            let metadata = &backend.pod.metadata;
            let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else {
                continue;
            };
            if visible(namespace) {
                let key = Key::core("Pod", namespace, name);
                insert(&mut objects, key, &with_status(backend), "v1", "Pod");
            }
        }
        self.stamp(&mut objects);
        objects
    }

    /// Gives every object a creation time that stays.
    fn stamp(&mut self, objects: &mut BTreeMap<Key, Value>) {
        self.created.retain(|key, _| objects.contains_key(key));
        for (key, object) in objects {
            let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
                continue;
            };
            if !metadata.contains_key("creationTimestamp") {
                let time = self.created.entry(key.clone()).or_insert_with(now);
                metadata.insert("creationTimestamp".to_owned(), json!(time));
            }
        }
    }
}

fn insert(
    objects: &mut BTreeMap<Key, Value>,
    key: Key,
    object: &impl serde::Serialize,
    version: &str,
    kind: &str,
) {
    match serde_json::to_value(object) {
        Ok(Value::Object(mut map)) => {
            map.insert("apiVersion".to_owned(), json!(version));
            map.insert("kind".to_owned(), json!(kind));
            objects.insert(key, Value::Object(map));
        }
        Ok(_) => {}
        Err(error) => tracing::error!("{key}: {error}"),
    }
}

fn with_status(backend: &Backend) -> Pod {
    use k8s_openapi::api::core::v1::{PodCondition, PodIP, PodStatus};
    let mut pod = (*backend.pod).clone();
    let ready = if backend.ready { "True" } else { "False" };
    pod.status = Some(PodStatus {
        phase: Some("Running".to_owned()),
        pod_ip: Some(backend.ip.to_string()),
        pod_ips: Some(vec![PodIP {
            ip: backend.ip.to_string(),
        }]),
        host_ip: Some(NODE_IP.to_string()),
        conditions: Some(vec![PodCondition {
            type_: "Ready".to_owned(),
            status: ready.to_owned(),
            ..PodCondition::default()
        }]),
        ..PodStatus::default()
    });
    pod
}

fn now() -> String {
    time::OffsetDateTime::from(SystemTime::now())
        .replace_nanosecond(0)
        .ok()
        .and_then(|time| {
            time.format(&time::format_description::well_known::Rfc3339)
                .ok()
        })
        .unwrap_or_default()
}
