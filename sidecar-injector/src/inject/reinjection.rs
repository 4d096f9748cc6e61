//! Traces of an earlier injection in a Pod, and the user's overrides of injected containers: both
//! are needed so that a second injection changes nothing.

use super::strategic_merge;
use crate::pod::{self, INIT, List, PROXY, VALIDATION};
use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Annotation with the names of everything that was injected.
pub(super) const STATUS: &str = "sidecar.istio.io/status";
const OVERRIDES: &str = "proxy.istio.io/overrides";
/// Image that stands for the injected one.
const AUTO_IMAGE: &str = "auto";
const LISTS: [List; 2] = [List::Containers, List::InitContainers];

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    init_containers: Option<Vec<String>>,
    containers: Option<Vec<String>>,
    volumes: Option<Vec<String>>,
    image_pull_secrets: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Overrides {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Value>,
}

impl Overrides {
    fn list(&self, list: List) -> &Vec<Value> {
        match list {
            List::Containers => &self.containers,
            List::InitContainers => &self.init_containers,
        }
    }

    fn list_mut(&mut self, list: List) -> &mut Vec<Value> {
        match list {
            List::Containers => &mut self.containers,
            List::InitContainers => &mut self.init_containers,
        }
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.containers
            .iter()
            .chain(&self.init_containers)
            .find(|c| pod::name(c) == name)
    }
}

/// Content of an earlier injection's annotations.
#[derive(Debug, Default)]
pub(super) struct Record {
    status: Option<Status>,
    overrides: Overrides,
}

impl Record {
    pub(super) fn read(pod: &Value) -> Result<Self, Refusal> {
        let read_error = |annotation| {
            move |error: serde_json::Error| Refusal::Record {
                annotation,
                message: error.to_string(),
            }
        };
        let status = pod::annotation(pod, STATUS)
            .filter(|text| !text.is_empty())
            .map(|text| serde_json::from_str(text).map_err(read_error(STATUS)))
            .transpose()?;
        let overrides = match pod::annotation(pod, OVERRIDES) {
            Some(text) => serde_json::from_str(text).map_err(read_error(OVERRIDES))?,
            None => Overrides::default(),
        };
        Ok(Self { status, overrides })
    }

    fn injected(&self, list: List, name: &str) -> bool {
        let Some(status) = &self.status else {
            return false;
        };
        let names = match list {
            List::Containers => &status.containers,
            List::InitContainers => &status.init_containers,
        };
        names.iter().flatten().any(|injected| injected == name)
    }

    fn injected_anywhere(&self, name: &str) -> bool {
        LISTS.iter().any(|list| self.injected(*list, name))
    }
}

/// The Pod without injected parts but with the user's overrides, as templates see it.
pub(super) fn stripped(original: &Value, record: &Record) -> Value {
    let mut pod = original.clone();
    if record.status.is_some() {
        for list in LISTS {
            if !pod::containers(&pod, list).is_empty() {
                pod::containers_mut(&mut pod, list)
                    .retain(|container| !record.injected(list, pod::name(container)));
            }
        }
        let annotations = pod
            .get_mut("metadata")
            .and_then(|metadata| metadata.get_mut("annotations"))
            .and_then(Value::as_object_mut);
        if let Some(annotations) = annotations {
            annotations.remove(STATUS);
            if annotations
                .get("prometheus.io/path")
                .and_then(Value::as_str)
                == Some("/stats/prometheus")
            {
                for name in [
                    "prometheus.io/path",
                    "prometheus.io/port",
                    "prometheus.io/scrape",
                ] {
                    annotations.remove(name);
                }
            }
        }
    }
    for list in LISTS {
        for container in record.overrides.list(list) {
            if pod::find(&pod, list, pod::name(container)).is_none() {
                pod::containers_mut(&mut pod, list).push(container.clone());
            }
        }
    }
    pod
}

/// The proxy's user and group id as set by the user, if not 0: capture must exempt them.
pub(super) fn proxy_ids(stripped: &Value) -> Option<(i64, i64)> {
    let context = pod::proxy(stripped)?.get("securityContext")?;
    let uid = context
        .get("runAsUser")
        .and_then(Value::as_i64)
        .filter(|uid| *uid > 0)?;
    Some((uid, super::PROXY_ID))
}

/// Removes parts of an earlier injection that this one does not add.
pub(super) fn drop_stale(merged: &mut Value, injected: &Value, record: &Record) {
    for list in LISTS {
        if pod::containers(merged, list).is_empty() {
            continue;
        }
        pod::containers_mut(merged, list).retain(|container| {
            let name = pod::name(container);
            !record.injected(list, name)
                || LISTS
                    .iter()
                    .any(|l| pod::find(injected, *l, name).is_some())
        });
    }
}

/// Before injection the user can list the proxy only among the containers, but a native sidecar is
/// an init container. Moves the user's entry to the list of the template.
pub(super) fn move_to_template_list(merged: &mut Value, injected: &Value) {
    let (from, to) = if pod::find(injected, List::InitContainers, PROXY).is_some() {
        (List::Containers, List::InitContainers)
    } else {
        (List::InitContainers, List::Containers)
    };
    if pod::find(injected, to, PROXY).is_none() || pod::find(merged, from, PROXY).is_none() {
        return;
    }
    let source = pod::containers_mut(merged, from);
    let Some(place) = source
        .iter()
        .position(|container| pod::name(container) == PROXY)
    else {
        return;
    };
    let container = source.remove(place);
    if pod::find(merged, to, PROXY).is_none() {
        pod::containers_mut(merged, to).push(container);
    }
}

/// Removes the image `auto`, so that the injected image is used.
pub(super) fn clear_auto_images(merged: &mut Value) {
    for list in LISTS {
        if !pod::containers(merged, list).is_empty() {
            pod::containers_mut(merged, list)
                .iter_mut()
                .for_each(clear_auto_image);
        }
    }
}

fn clear_auto_image(container: &mut Value) {
    if container.get("image").and_then(Value::as_str) == Some(AUTO_IMAGE) {
        let container = pod::as_object(container);
        container.remove("image");
        // Default of the API server for an image without a tag, not set by the user.
        container.remove("imagePullPolicy");
    }
}

/// Merges the user's overrides of injected containers into those of the templates, and records them
/// at the first injection, as later they cannot be distinguished from the template.
pub(super) fn apply_overrides(
    merged: &mut Value,
    original: &Value,
    injected: &Value,
    record: &Record,
    proxy_config: &Value,
) {
    let mut overrides = Overrides::default();
    for list in LISTS {
        for container in pod::containers(injected, list) {
            let name = pod::name(container);
            let own = record.overrides.find(name).or_else(|| {
                if record.injected_anywhere(name) {
                    return None;
                }
                // The proxy may be in the other list than in the template.
                let elsewhere = LISTS.into_iter().filter(|_| name == PROXY);
                [list]
                    .into_iter()
                    .chain(elsewhere)
                    .find_map(|list| pod::find(original, list, name))
            });
            let Some(mut own) = own.cloned() else {
                continue;
            };
            clear_auto_image(&mut own);
            let overlay = json!({"spec": {list.member(): [own.clone()]}});
            *merged = strategic_merge(merged.take(), &overlay);
            overrides.list_mut(list).push(own);
        }
    }
    let recorded = record.status.is_some() || pod::annotation(original, OVERRIDES).is_some();
    let any = LISTS.iter().any(|list| !overrides.list(*list).is_empty());
    if any && !recorded {
        let text = json!(overrides);
        pod::set_metadata(merged, "annotations", OVERRIDES, pod::sorted_json(&text));
    }
    adjust_ids(merged, proxy_config);
}

/// TPROXY needs root whatever the user requests; the container that validates capture must run as
/// the proxy.
fn adjust_ids(merged: &mut Value, proxy_config: &Value) {
    const MODE: &str = "sidecar.istio.io/interceptionMode";
    let mode = pod::annotation(merged, MODE)
        .or_else(|| proxy_config.get("interceptionMode").and_then(Value::as_str));
    let tproxy = mode == Some("TPROXY");
    let captured = LISTS.iter().any(|list| {
        [INIT, VALIDATION]
            .iter()
            .any(|name| pod::find(merged, *list, name).is_some())
    });
    if !tproxy || !captured {
        return;
    }
    if let Some(proxy) = pod::proxy_mut(merged) {
        pod::object(proxy, "securityContext").insert("runAsUser".to_owned(), json!(0));
    }
}

/// Value of the status annotation: the names in the rendered templates, with members in a fixed
/// order.
pub(super) fn status(injected: &Value, revision: &str) -> String {
    let names = |member: &str| {
        let items = injected
            .get("spec")
            .and_then(|spec| spec.get(member))
            .and_then(Value::as_array);
        items.filter(|items| !items.is_empty()).map(|items| {
            items
                .iter()
                .map(|item| pod::name(item).to_owned())
                .collect::<Vec<_>>()
        })
    };
    let status = Status {
        init_containers: names("initContainers"),
        containers: names("containers"),
        volumes: names("volumes"),
        image_pull_secrets: names("imagePullSecrets"),
        revision: Some(revision.to_owned()),
    };
    serde_json::to_string(&status).unwrap_or_default()
}
