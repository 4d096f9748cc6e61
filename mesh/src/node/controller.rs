//! The one writer of the cluster's state: applies objects, keeps the wanted Pods running,
//! derives endpoints, names and the objects that the control plane reads.

mod exported;
mod services;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use self::exported::Exported;
use self::services::ServiceAddresses;
use self::views::publish;
pub use self::views::{ClusterView, PodView, Views};
use super::Context;
use super::cluster_ip::ClusterIps;
use super::dns::Table;
use super::export::{Exporter, is_credential};
use super::network::Addresses;
use super::pod::status::Phase;
use super::pod::{self, Handle, Order};
use super::publish::Routes;
use super::service::{self, Backend};
use super::store::Outcome;
use super::workload::{self, Workload};
use crate::manifest::Key;

/// ConfigMap with the mesh root that every namespace gets.
const ROOT_CONFIG_MAP: &str = "istio-ca-root-cert";
/// Namespace of the control plane.
pub const CONTROL_PLANE: &str = "istio-system";

/// What a client asks of the controller.
#[derive(Debug)]
pub enum Request {
    /// Add or replace objects, all or none.
    Apply {
        /// What to apply.
        objects: Vec<(Key, Value)>,
        /// What became of each.
        reply: oneshot::Sender<Result<Vec<(Key, Outcome)>>>,
    },
    /// Remove objects.
    Delete {
        /// Which.
        keys: Vec<Key>,
        /// The keys that were there.
        reply: oneshot::Sender<Vec<Key>>,
    },
    /// Change `spec.replicas` of a Deployment.
    Scale {
        /// Which.
        key: Key,
        /// Wanted number of Pods.
        replicas: u32,
        /// An error when there is none.
        reply: oneshot::Sender<Result<()>>,
    },
}

/// Gives a client its answer.
type Answer = Box<dyn FnOnce() + Send>;

#[derive(Debug)]
struct Entry {
    workload: Key,
    hash: String,
    handle: Handle,
    ip: Ipv4Addr,
    leaving: bool,
}

impl Entry {
    fn order(&self, order: Order) {
        // A full queue holds an earlier order of the same effect; a closed one a Pod that ends.
        if let Err(error) = self.handle.orders.try_send(order) {
            tracing::debug!("{error}");
        }
    }
}

/// Owns all state of the cluster.
#[derive(Debug)]
pub struct Controller {
    context: Arc<Context>,
    views: Views,
    exporter: Exporter,
    credentials: Exporter,
    pods: Vec<Entry>,
    next_index: u64,
    pod_addresses: Addresses,
    service_addresses: ServiceAddresses,
    exported: Exported,
    generation: u64,
}

impl Controller {
    /// A controller without any object.
    #[must_use]
    pub fn new(context: Arc<Context>, views: Views) -> Self {
        let exporter = Exporter::new(context.layout.objects());
        let credentials = Exporter::new(context.layout.secrets());
        Self {
            context,
            views,
            exporter,
            credentials,
            pods: Vec::new(),
            next_index: 1,
            pod_addresses: Addresses::pods(),
            service_addresses: ServiceAddresses::new(),
            exported: Exported::default(),
            generation: 0,
        }
    }

    /// Serves requests and reacts to changes until the node ends.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let changed = Arc::clone(&self.context.changed);
        let mut answer: Option<Answer> = None;
        loop {
            self.reconcile();
            // Whoever is answered sees what came of it: files, Pods, a mesh that is not settled.
            if let Some(answer) = answer.take() {
                answer();
            }
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => answer = Some(self.serve(request)),
                    None => return,
                },
                () = changed.notified() => {}
            }
        }
    }

    /// Does what is asked; the answer is for when everything derived is in line with it.
    fn serve(&mut self, request: Request) -> Answer {
        fn later<T: Send + 'static>(reply: oneshot::Sender<T>, value: T) -> Answer {
            // A client that went away needs no answer.
            Box::new(move || drop(reply.send(value)))
        }
        match request {
            Request::Apply { objects, reply } => later(reply, self.apply(objects)),
            Request::Delete { keys, reply } => {
                let gone: Vec<Key> = keys
                    .into_iter()
                    .filter(|key| self.context.store.remove(key))
                    .collect();
                self.store_changed();
                later(reply, gone)
            }
            Request::Scale {
                key,
                replicas,
                reply,
            } => later(reply, self.scale(&key, replicas)),
        }
    }

    fn store_changed(&self) {
        self.views
            .generation
            .send_modify(|generation| *generation += 1);
        for entry in &self.pods {
            entry.order(Order::RefreshVolumes);
        }
    }

    fn apply(&mut self, objects: Vec<(Key, Value)>) -> Result<Vec<(Key, Outcome)>> {
        for (key, object) in &objects {
            match (key.group.as_str(), key.kind.as_str()) {
                ("apps", "Deployment") | ("", "Pod") => {
                    workload::read(key, object)?;
                }
                ("", "Service") => {
                    services::read(object).with_context(|| key.to_string())?;
                }
                ("apps", "StatefulSet" | "DaemonSet" | "ReplicaSet") | ("batch", _) => {
                    anyhow::bail!("{key}: only Deployments and Pods are run here");
                }
                _ => {}
            }
        }
        let outcomes = objects
            .into_iter()
            .map(|(key, object)| {
                let outcome = self.context.store.apply(key.clone(), object);
                (key, outcome)
            })
            .collect();
        self.store_changed();
        Ok(outcomes)
    }

    fn scale(&mut self, key: &Key, replicas: u32) -> Result<()> {
        let held = self
            .context
            .store
            .get(key)
            .with_context(|| format!("{key} does not exist"))?;
        let mut object = (*held).clone();
        let spec = object
            .get_mut("spec")
            .and_then(Value::as_object_mut)
            .with_context(|| format!("{key} has no spec"))?;
        spec.insert("replicas".to_owned(), json!(replicas));
        self.context.store.put(key.clone(), object);
        self.store_changed();
        Ok(())
    }

    /// Brings everything derived in line with the objects and the Pods.
    fn reconcile(&mut self) {
        self.spread_root_certificate();
        self.pods
            .retain(|entry| entry.handle.status.borrow().phase != Phase::Ended);
        let settled = self.reconcile_workloads();
        let backends = self.backends();
        let services = self.service_addresses.services(&self.context.store);
        let mut names = Table::new();
        let mut routes = Routes::new();
        let mut cluster_ips = ClusterIps::new();
        for service in services.values() {
            service::add_names(&mut names, service, &backends);
            services::add_routes(&mut routes, service, &backends);
            services::add_cluster_ips(&mut cluster_ips, service, &backends);
        }
        let injector = routes.iter().find(|((namespace, name, port), addresses)| {
            namespace == CONTROL_PLANE
                && name == "istio-sidecar-injector"
                && *port == 443
                && !addresses.is_empty()
        });
        publish(
            &self.views.injector,
            injector.and_then(|(_, found)| found.first().copied()),
        );
        publish(&self.views.names, Arc::new(names));
        publish(&self.views.routes, Arc::new(routes));
        publish(&self.views.cluster_ips, Arc::new(cluster_ips));
        let exported =
            self.exported
                .objects(&self.context.store, self.namespaces(), &services, &backends);
        let credentials = self.context.store.all().into_iter();
        let credentials = credentials
            .filter(|(key, object)| is_credential(key, object))
            .map(|(key, object)| (key, (*object).clone()))
            .collect();
        for synced in [
            self.exporter.sync(&exported),
            self.credentials.sync(&credentials),
        ] {
            if let Err(error) = synced {
                tracing::error!("{error:#}");
            }
        }
        self.generation += 1;
        let mut pods: Vec<PodView> = self
            .pods
            .iter()
            .map(|entry| PodView {
                workload: entry.workload.clone(),
                status: entry.handle.status.borrow().clone(),
            })
            .collect();
        pods.sort_by_cached_key(|view| {
            let metadata = &view.status.pod.metadata;
            (metadata.namespace.clone(), metadata.name.clone())
        });
        let view = ClusterView {
            generation: self.generation,
            settled,
            pods,
        };
        self.views.cluster.send_replace(Arc::new(view));
    }

    fn namespaces(&self) -> BTreeSet<String> {
        let mut namespaces = BTreeSet::from(["default".to_owned(), CONTROL_PLANE.to_owned()]);
        for (key, _) in self.context.store.all() {
            if key.kind == "Namespace" && key.group.is_empty() {
                namespaces.insert(key.name);
            } else if !key.namespace.is_empty() {
                namespaces.insert(key.namespace);
            }
        }
        namespaces
    }

    /// As citadel does on a cluster: the root in a ConfigMap of every namespace.
    fn spread_root_certificate(&self) {
        let Ok(root) = std::fs::read_to_string(self.context.layout.root_certificate()) else {
            return;
        };
        let mut news = false;
        for namespace in self.namespaces() {
            let key = Key::core("ConfigMap", &namespace, ROOT_CONFIG_MAP);
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": ROOT_CONFIG_MAP, "namespace": namespace},
                "data": {"root-cert.pem": root},
            });
            news |= self.context.store.apply(key, object) != Outcome::Unchanged;
        }
        if news {
            self.store_changed();
        }
    }

    /// Starts missing Pods and ends superfluous ones; whether all is as wanted.
    fn reconcile_workloads(&mut self) -> bool {
        let mut wanted: BTreeMap<Key, Workload> = BTreeMap::new();
        let deployments = self.context.store.of_kind("apps", "Deployment");
        for (key, object) in deployments
            .into_iter()
            .chain(self.context.store.of_kind("", "Pod"))
        {
            match workload::read(&key, &object) {
                Ok(workload) => {
                    wanted.insert(key, workload);
                }
                Err(error) => tracing::error!("{error:#}"),
            }
        }
        let mut settled = true;
        for entry in self
            .pods
            .iter_mut()
            .filter(|entry| !wanted.contains_key(&entry.workload))
        {
            settled = false;
            leave(entry);
        }
        for workload in wanted.values() {
            settled &= self.reconcile_workload(workload);
        }
        settled
    }

    fn reconcile_workload(&mut self, workload: &Workload) -> bool {
        let of_workload = |entry: &&mut Entry| entry.workload == workload.key;
        let (mut current, old): (Vec<&mut Entry>, Vec<&mut Entry>) = self
            .pods
            .iter_mut()
            .filter(of_workload)
            .partition(|entry| entry.hash == workload.hash && !entry.leaving);
        let ready = current
            .iter()
            .filter(|entry| entry.handle.status.borrow().is_ready())
            .count();
        let others = old.len();
        let is_pod = workload.key.kind == "Pod";
        // A new template takes over only when its Pods are ready; a Pod object has one name, so
        // the old one must go first.
        if ready >= workload.replicas || is_pod {
            old.into_iter().for_each(leave);
        }
        // Pods that are not ready go first.
        current.sort_by_key(|entry| !entry.handle.status.borrow().is_ready());
        let superfluous = current.len().saturating_sub(workload.replicas);
        current
            .iter_mut()
            .rev()
            .take(superfluous)
            .for_each(|entry| leave(entry));
        let missing = workload.replicas.saturating_sub(current.len());
        if !(is_pod && others > 0) {
            for _ in 0..missing {
                self.start_pod(workload);
            }
        }
        others == 0 && superfluous == 0 && missing == 0 && ready == workload.replicas
    }

    fn start_pod(&mut self, workload: &Workload) {
        let pods = &self.pods;
        let Some(ip) = self
            .pod_addresses
            .take(|ip| pods.iter().any(|entry| entry.ip == ip))
        else {
            tracing::error!("all Pod addresses are in use");
            return;
        };
        let index = self.next_index;
        self.next_index += 1;
        let handle = pod::start(Arc::clone(&self.context), workload.pod(), ip, index);
        self.pods.push(Entry {
            workload: workload.key.clone(),
            hash: workload.hash.clone(),
            handle,
            ip,
            leaving: false,
        });
    }

    fn backends(&self) -> Vec<Backend> {
        self.pods
            .iter()
            .filter_map(|entry| {
                let status = entry.handle.status.borrow();
                (status.phase != Phase::Ended).then(|| Backend {
                    pod: Arc::clone(&status.pod),
                    ip: entry.ip,
                    ready: status.is_ready() && !entry.leaving,
                    terminating: entry.leaving || status.phase == Phase::Terminating,
                })
            })
            .collect()
    }
}

fn leave(entry: &mut Entry) {
    if !entry.leaving {
        entry.leaving = true;
        entry.order(Order::Terminate);
    }
}
