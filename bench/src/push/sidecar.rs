//! One simulated sidecar: subscribes, follows names and acknowledges as Envoy does.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, ensure};
use istio_api::envoy::{config::core::v3::Node, service::discovery::v3::DeltaDiscoveryRequest};
use prost_types::{Struct, Value, value::Kind as ValueKind};
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;

use super::{
    decode::{Content, Decoder, Resource},
    fixture::Fixture,
    held::{Entry, Expectation, Held},
    kind::Kind,
};

mod delta;
mod sotw;

/// Protocol variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    Delta,
    Sotw,
}

/// Counts of all sidecars together.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes of response messages.
    pub bytes: AtomicU64,
    /// Bytes of the resources in them.
    pub resource_bytes: AtomicU64,
    pub responses: AtomicU64,
    /// Resources that the sidecar held already, byte for byte.
    pub resent: AtomicU64,
}

/// What a sidecar reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It knows the expectation of a round, and does not meet it yet.
    Waiting(u64),
    /// It met the expectation before anything was changed: the round would prove nothing.
    Early(u64),
    /// Its first responses on this stream are in, and the expectation of the round is met.
    Met(u64),
}

/// A sidecar.
#[derive(Debug)]
pub struct Sidecar {
    pub index: usize,
    pub namespace: String,
    pub mode: Mode,
    pub decoder: Arc<Decoder>,
    pub counters: Arc<Counters>,
    pub expectation: watch::Receiver<Expectation>,
    pub reports: mpsc::Sender<Report>,
    /// Kept over reconnects.
    pub held: Held,
    /// Last round that was reported as met.
    pub met: u64,
    /// Requests that the next delta stream begins with.
    pub prepared: Vec<DeltaDiscoveryRequest>,
}

/// A resource of a response, whichever variant.
struct Received {
    /// Empty in state-of-the-world mode, which has it in the body only.
    name: String,
    version: String,
    body: Vec<u8>,
}

/// What a response changed.
#[derive(Debug, Default)]
struct Taken {
    put: Vec<Arc<Resource>>,
    removed: Vec<Arc<Resource>>,
}

/// State of one stream, beside what is held.
#[derive(Debug, Default)]
struct Session {
    /// Types that were answered.
    answered: BTreeSet<Kind>,
    /// Names that were asked for, of the types that are asked for by name.
    asked: BTreeMap<Kind, BTreeSet<Arc<str>>>,
}

/// How the names of one type changed.
#[derive(Debug, Default)]
struct Names {
    subscribe: Vec<Arc<str>>,
    unsubscribe: Vec<Arc<str>>,
}

impl Session {
    /// Every type was answered once.
    fn is_up(&self) -> bool {
        self.answered.len() == Kind::ALL.len()
    }

    /// What clusters ask of EDS or listeners of RDS after a response; `None` when it is the same
    /// as before.
    fn follow(&mut self, of: Kind, taken: &Taken, held: &mut Held) -> Option<(Kind, Names)> {
        let next = match of {
            Kind::Cluster => Kind::Endpoint,
            Kind::Listener => Kind::Route,
            Kind::Endpoint | Kind::Route => return None,
        };
        let asked = self.asked.entry(next).or_default();
        let mut names = Names::default();
        for name in taken.put.iter().flat_map(|resource| names_in(resource)) {
            if asked.insert(name.clone()) {
                names.subscribe.push(name);
            }
        }
        // Listeners may share a route configuration; there are few of them.
        let shared: BTreeSet<Arc<str>> = match of {
            Kind::Listener => held
                .of(of)
                .values()
                .flat_map(|e| names_in(&e.resource))
                .collect(),
            _ => BTreeSet::new(),
        };
        for name in taken.removed.iter().flat_map(|resource| names_in(resource)) {
            if !shared.contains(&name) && asked.remove(&name) {
                held.of_mut(next).remove(&name);
                names.unsubscribe.push(name);
            }
        }
        let same = names.subscribe.is_empty() && names.unsubscribe.is_empty();
        (!same).then_some((next, names))
    }
}

/// Names of the resources that a resource asks for.
fn names_in(resource: &Resource) -> Vec<Arc<str>> {
    match &resource.content {
        Content::Cluster { assignment, .. } => {
            assignment.iter().map(|name| name.as_str().into()).collect()
        }
        Content::Listener(routes) => routes.iter().map(|name| name.as_str().into()).collect(),
        Content::Assignment(_) | Content::Route(_) => Vec::new(),
    }
}

impl Sidecar {
    fn node(&self) -> Node {
        let text = |text: String| Value {
            kind: Some(ValueKind::StringValue(text)),
        };
        let fields = [
            ("NAMESPACE".to_owned(), text(self.namespace.clone())),
            ("ISTIO_VERSION".to_owned(), text("1.30.0".to_owned())),
            ("CLUSTER_ID".to_owned(), text("Kubernetes".to_owned())),
        ];
        Node {
            id: format!(
                "sidecar~{address}~load-{}.{ns}~{ns}.svc.cluster.local",
                self.index,
                address = Fixture::address(self.index, 0),
                ns = self.namespace
            ),
            metadata: Some(Struct {
                fields: fields.into_iter().collect(),
            }),
            ..Node::default()
        }
    }

    /// Runs one stream until `stop` turns true.
    ///
    /// # Errors
    /// When the stream fails or a response is not what the protocol allows.
    pub async fn run(
        &mut self,
        channel: Channel,
        stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        // What is expected now is looked at after the first responses.
        self.expectation.mark_unchanged();
        match self.mode {
            Mode::Delta => self.delta(channel, stop).await,
            Mode::Sotw => self.sotw(channel, stop).await,
        }
    }

    /// A new expectation: says whether it is still to come.
    async fn consider(&mut self) -> anyhow::Result<()> {
        let expectation = self.expectation.borrow_and_update().clone();
        let report = if expectation.is_met(&self.held) {
            Report::Early(expectation.round)
        } else {
            Report::Waiting(expectation.round)
        };
        Ok(self.reports.send(report).await?)
    }

    /// After a response: says when the expectation is met for the first time.
    async fn check(&mut self) -> anyhow::Result<()> {
        let expectation = self.expectation.borrow().clone();
        if expectation.round > self.met && expectation.is_met(&self.held) {
            self.met = expectation.round;
            self.reports.send(Report::Met(expectation.round)).await?;
        }
        Ok(())
    }

    /// Takes a response over.
    ///
    /// # Errors
    /// When a resource cannot be decoded, has another name than announced, is in the response
    /// twice, or is taken away without being held.
    fn take(
        &mut self,
        kind: Kind,
        bytes: usize,
        resources: Vec<Received>,
        removed: Vec<String>,
    ) -> anyhow::Result<Taken> {
        let body: usize = resources.iter().map(|resource| resource.body.len()).sum();
        let counters = &self.counters;
        counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        counters
            .resource_bytes
            .fetch_add(body as u64, Ordering::Relaxed);
        counters.responses.fetch_add(1, Ordering::Relaxed);
        let complete = self.mode == Mode::Sotw && !kind.is_named();
        let mut taken = Taken::default();
        let mut seen: HashSet<Arc<str>> = HashSet::new();
        let mut resent = 0;
        for received in resources {
            let resource = self
                .decoder
                .decode(kind, &received.body)
                .with_context(|| format!("{kind:?} {}", received.name))?;
            let name = resource.name.clone();
            if self.mode == Mode::Delta {
                ensure!(
                    *name == *received.name,
                    "{kind:?} {name} came under the name {}",
                    received.name
                );
            }
            ensure!(seen.insert(name.clone()), "{kind:?} {name} came twice");
            taken.put.push(resource.clone());
            let entry = Entry {
                version: received.version.into(),
                resource: resource.clone(),
            };
            let old = self.held.of_mut(kind).insert(name, entry);
            let same = old.is_some_and(|old| Arc::ptr_eq(&old.resource, &resource));
            resent += u64::from(same);
        }
        self.counters.resent.fetch_add(resent, Ordering::Relaxed);
        let mut gone: Vec<Arc<str>> = removed.into_iter().map(Arc::from).collect();
        if complete {
            let names = self.held.of(kind).keys();
            gone.extend(names.filter(|name| !seen.contains(*name)).cloned());
        }
        for name in gone {
            let old = self.held.of_mut(kind).remove(&name);
            let old =
                old.with_context(|| format!("{kind:?} {name} was taken away and not held"))?;
            taken.removed.push(old.resource);
        }
        Ok(taken)
    }

    /// Versions held, by name.
    fn versions(&self, kind: Kind) -> BTreeMap<String, String> {
        let held = self.held.of(kind).iter();
        held.map(|(name, entry)| (name.to_string(), entry.version.to_string()))
            .collect()
    }
}

/// The type of a response.
fn kind_of(type_url: &str) -> anyhow::Result<Kind> {
    Kind::from_type_url(type_url).with_context(|| format!("unexpected type {type_url}"))
}
