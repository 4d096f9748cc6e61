//! Analysis of the whole configuration after changes, at a limited rate: on immutable snapshots,
//! outside of the task that publishes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use istio_api::collections::{self, COLLECTIONS, Collection, SYNTHETIC_SERVICE_ENTRIES};
use istio_api::manifest::Key;
use istio_api::mcp::v1alpha1::Resource;
use istio_api::networking::v1alpha3::ServiceEntry;
use istio_api::object::{Object, ObjectError};
use istio_rules::analysis::catalogue::Code;
use istio_rules::analysis::{self, Builder, Message, Request, Status};
use mesh_common::drain;
use mesh_common::mcp::source::Snapshots;
use mesh_core::mcp::Snapshot;
use mesh_core::yaml;
use serde_json::Value;
use tokio::sync::watch;

use super::Metrics;

/// Kinds that analyzers need and that galley does not read, or not with all that they need.
const UNKNOWN: [&str; 7] = [
    "ConfigMap",
    "Deployment",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "Pod",
    "Secret",
];

/// A message of the analysis about one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Code of the message.
    pub code: &'static Code,
    /// Text of the message.
    pub text: String,
}

impl Finding {
    /// URL of the page that explains the code.
    pub(super) fn url(&self) -> String {
        let message = Message {
            code: self.code,
            parameters: Vec::new(),
            origin: None,
            field: String::new(),
            line: None,
        };
        message.documentation_url()
    }
}

/// The findings of an analysis, by object.
pub type Findings = BTreeMap<Key, Arc<[Finding]>>;

/// Settings of the analysis.
#[derive(Debug, Clone)]
pub struct Analysis {
    /// Namespace of the control plane.
    pub namespace: String,
    /// Kinds that are excluded from reading.
    pub excluded: BTreeSet<String>,
    /// Minimum time from the start of one analysis to the start of the next.
    pub interval: Duration,
}

impl Analysis {
    /// Analyzes the newest snapshot, again and again, until the process drains.
    pub(crate) async fn follow(
        self,
        mut snapshots: Snapshots,
        findings: watch::Sender<Option<Arc<Findings>>>,
        metrics: Metrics,
        drain: drain::Watch,
    ) {
        let signaled = drain.signaled();
        tokio::pin!(signaled);
        let analysis = Arc::new(self);
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let next = tokio::time::Instant::now() + analysis.interval;
            if let Some(snapshot) = snapshot {
                let analysis = analysis.clone();
                let timer = metrics.analysis_seconds.start_timer();
                let work = tokio::task::spawn_blocking(move || analysis.run(&snapshot));
                tokio::select! {
                    // A running analysis is not waited for.
                    () = &mut signaled => return,
                    found = work => match found {
                        Ok(found) => {
                            timer.observe_duration();
                            findings.send_replace(Some(Arc::new(found)));
                        }
                        Err(error) => {
                            tracing::error!(error = %error, "the analysis has failed");
                        }
                    },
                }
                tokio::select! {
                    () = &mut signaled => return,
                    () = tokio::time::sleep_until(next) => {}
                }
            }
            tokio::select! {
                () = &mut signaled => return,
                changed = snapshots.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }

    /// Analyzes a snapshot.
    pub fn run(&self, snapshot: &Snapshot) -> Findings {
        let mut builder = Builder::new();
        UNKNOWN.into_iter().for_each(|kind| builder.without(kind));
        self.excluded.iter().for_each(|kind| builder.without(kind));
        for row in COLLECTIONS {
            for resource in resources(snapshot, row) {
                if let Some(object) = usable(Object::from_mcp(row, resource.clone())) {
                    builder.add(object, Status::default(), None);
                }
            }
        }
        for resource in resources(snapshot, &SYNTHETIC_SERVICE_ENTRIES) {
            if let Some(object) = service(resource) {
                builder.add(object, Status::default(), None);
            }
        }
        let resources = builder.build(&self.namespace, "", parse);
        let outcome = analysis::analyze(&resources, &Request::default());
        by_object(outcome.messages)
    }
}

fn resources<'a>(
    snapshot: &'a Snapshot,
    row: &Collection,
) -> impl Iterator<Item = &'a Resource> + use<'a> {
    let collection = snapshot.get(row.name).into_iter();
    collection.flat_map(|collection| collection.resources.values().map(|resource| &**resource))
}

/// Galley made what it distributes, so that an error here is a bug.
fn usable(object: Result<Object, ObjectError>) -> Option<Object> {
    object
        .inspect_err(|error| tracing::error!(error = %error, "cannot analyze an object"))
        .ok()
}

/// A Service, as the ServiceEntry that represents it: its hosts and ports. The prefix of the name
/// keeps it apart from objects of users.
fn service(resource: &Resource) -> Option<Object> {
    let mut object = usable(Object::from_mcp(
        &SYNTHETIC_SERVICE_ENTRIES,
        resource.clone(),
    ))?;
    let entry: ServiceEntry = object.decode().ok()?;
    let entry = ServiceEntry {
        endpoints: Vec::new(),
        ..entry
    };
    object.body = prost::Message::encode_to_vec(&entry).into();
    object.meta.name = format!("service:{}", object.meta.name);
    // Annotations of the Service have no meaning here.
    object.meta.annotations.clear();
    Some(object)
}

fn by_object(messages: Vec<Message>) -> Findings {
    let mut found: BTreeMap<Key, Vec<Finding>> = BTreeMap::new();
    for message in messages {
        let Some(origin) = &message.origin else {
            continue;
        };
        let row = COLLECTIONS.iter().find(|row| row.kind == origin.kind);
        let Some(row) = row.filter(|_| !origin.name.starts_with("service:")) else {
            continue;
        };
        let key = Key {
            group: row.group,
            kind: row.kind,
            namespace: origin.namespace.clone(),
            name: origin.name.clone(),
        };
        let finding = Finding {
            code: message.code,
            text: message.text(),
        };
        found.entry(key).or_default().push(finding);
    }
    let rows = found.into_iter();
    rows.map(|(key, findings)| (key, findings.into())).collect()
}

/// Parses YAML in annotations.
fn parse(text: &str) -> Result<Option<Value>, String> {
    match yaml::split(text).first() {
        Some(document) => yaml::read(document).map_err(|error| error.message),
        None => Ok(None),
    }
}

/// The collection of an Istio kind.
pub(super) fn collection(key: &Key) -> Option<&'static Collection> {
    collections::by_gvk(key.group, key.kind)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use galley_engine::content;
    use galley_engine::engine::Engine;
    use galley_engine::processing::synthesis::Names;
    use galley_engine::update::{FileUpdate, Update};

    fn analyze(text: &str, excluded: &[&str]) -> BTreeMap<String, Vec<&'static str>> {
        let names = Names {
            domain: "cluster.local".to_owned(),
            trust_domain: "cluster.local".to_owned(),
        };
        let mut engine = Engine::new(names, "e");
        let path: Arc<Path> = Path::new("a.yaml").into();
        let content = content::read(&path, text);
        assert_eq!(content.problems, []);
        engine.apply(Update::Files(vec![FileUpdate::Read(path, content)]));
        engine.apply(Update::Synced);
        let analysis = Analysis {
            namespace: "istio-system".to_owned(),
            excluded: excluded.iter().map(|kind| (*kind).to_owned()).collect(),
            interval: Duration::ZERO,
        };
        let found = analysis.run(&engine.publish()).into_iter();
        let codes = |findings: Arc<[Finding]>| findings.iter().map(|one| one.code.code).collect();
        found
            .map(|(key, findings)| (key.to_string(), codes(findings)))
            .collect()
    }

    fn route(name: &str, host: &str) -> String {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: \
             {name}, namespace: shop}}\nspec:\n  hosts: [{name}.test]\n  http: [{{route: \
             [{{destination: {{host: {host}}}}}]}}]\n"
        )
    }

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: \
                           shop}\nspec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]}\n";

    #[test]
    fn services_are_hosts_and_messages_go_to_their_objects() {
        let text = format!(
            "{SERVICE}{}{}",
            route("good", "cart"),
            route("bad", "nobody")
        );
        let found = analyze(&text, &[]);
        let wanted = BTreeMap::from([("VirtualService shop/bad".to_owned(), vec!["IST0101"])]);
        assert_eq!(found, wanted);
        // Unknown hosts are not reported if Services are not read.
        assert_eq!(analyze(&text, &["Service"]), BTreeMap::new());
    }

    #[test]
    fn a_service_and_a_service_entry_of_one_name_are_two() {
        let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: \
                     {name: cart, namespace: shop}\nspec: {hosts: [out.test], resolution: DNS, \
                     ports: [{number: 80, name: http, protocol: HTTP}]}\n";
        let text = format!(
            "{SERVICE}{entry}{}{}",
            route("in", "cart"),
            route("out", "out.test")
        );
        assert_eq!(analyze(&text, &[]), BTreeMap::new());
    }
}
