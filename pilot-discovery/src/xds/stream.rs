//! The protocol of one ADS stream, state-of-the-world or delta, without any IO.
//!
//! ```text
//! request ──► on_request ─┐                      ┌─► responses, in the order of sending
//! view    ──► on_view    ─┴─► state ─► advance ──┘
//! ```
//!
//! Make before break: clusters are put first and their endpoints follow at once; listeners,
//! routes and secrets wait until the proxy acknowledged the clusters (it does so when they are
//! warm); clusters that nothing needs any more go last, when listeners and routes are
//! acknowledged. Endpoint changes wait for nothing. Of each type at most one response is
//! unanswered; what changes meanwhile is merged into the next one.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use pilot_networking::{endpoint, manifest::Difference, resource::Resource, route};

use super::{
    kind::{Kind, Sets, View},
    request::{Request, Wish},
    watch::Watch,
};

/// Protocol variant of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// State of the world.
    Sotw,
    Delta,
}

/// A response to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub kind: Kind,
    /// Version of the snapshot.
    pub version: u64,
    pub nonce: String,
    pub resources: Vec<Arc<Resource>>,
    /// Delta only.
    pub removed: Vec<Arc<str>>,
}

/// What a request turned out to be; for counters and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Subscribed(Kind),
    Ack(Kind),
    Nack(Kind, String),
    /// It answers an older response than the last.
    Stale(Kind),
    Unsubscribed(Kind),
    /// A type that is not served.
    Unknown(String),
}

/// State of one stream.
#[derive(Debug)]
pub struct Stream {
    variant: Variant,
    view: View,
    watches: [Option<Watch>; Kind::ALL.len()],
    /// Clusters that were put while their endpoints are still to follow.
    warming: BTreeSet<Arc<str>>,
    sequence: u64,
}

impl Stream {
    pub fn new(variant: Variant, view: View) -> Self {
        Self {
            variant,
            view,
            watches: Default::default(),
            warming: BTreeSet::new(),
            sequence: 0,
        }
    }

    pub fn variant(&self) -> Variant {
        self.variant
    }

    pub fn view(&self) -> &View {
        &self.view
    }

    pub fn watch(&self, kind: Kind) -> Option<&Watch> {
        self.watches.get(kind.index()).and_then(Option::as_ref)
    }

    fn watch_mut(&mut self, kind: Kind) -> Option<&mut Watch> {
        self.watches.get_mut(kind.index()).and_then(Option::as_mut)
    }

    /// Takes the newest view; older ones that were not sent are skipped.
    pub fn on_view(&mut self, view: View) -> Vec<Response> {
        self.view = view;
        self.advance()
    }

    /// Takes a request.
    pub fn on_request(&mut self, request: Request) -> (Event, Vec<Response>) {
        let Some(kind) = Kind::from_type_url(&request.type_url) else {
            return (Event::Unknown(request.type_url), Vec::new());
        };
        let event = match self.variant {
            Variant::Sotw => self.on_names(kind, request),
            Variant::Delta => self.on_delta(kind, request),
        };
        (event, self.advance())
    }

    fn on_names(&mut self, kind: Kind, request: Request) -> Event {
        let Wish::Names(names) = request.wish else {
            return Event::Unknown(request.type_url);
        };
        if let Some(error) = request.error {
            return self.refuse(kind, &request.nonce, error);
        }
        if !kind.is_wildcard() && names.is_empty() {
            self.unsubscribe(kind);
            return Event::Unsubscribed(kind);
        }
        let names: BTreeSet<Arc<str>> = names
            .iter()
            .filter(|name| *name != "*")
            .map(|name| self.intern(kind, name))
            .collect();
        let wildcard = kind.is_wildcard() && names.is_empty();
        let watch = match self.watch_mut(kind) {
            Some(watch) if !request.nonce.is_empty() => watch,
            _ => {
                // First subscription, or one that starts over: everything named is answered.
                self.set(
                    kind,
                    Watch {
                        wildcard,
                        owed: names.clone(),
                        names,
                        owed_answer: true,
                        ..Watch::default()
                    },
                );
                return Event::Subscribed(kind);
            }
        };
        if request.nonce != watch.nonce {
            return Event::Stale(kind);
        }
        watch.settle(None);
        let added: Vec<Arc<str>> = names.difference(&watch.names).cloned().collect();
        watch.wildcard = wildcard;
        watch.names = names;
        if added.is_empty() {
            return Event::Ack(kind);
        }
        watch.owed.extend(added);
        Event::Subscribed(kind)
    }

    fn on_delta(&mut self, kind: Kind, request: Request) -> Event {
        let Wish::Delta {
            subscribe,
            unsubscribe,
            initial,
        } = request.wish
        else {
            return Event::Unknown(request.type_url);
        };
        if let Some(error) = request.error {
            return self.refuse(kind, &request.nonce, error);
        }
        let star = |names: &[String]| names.iter().any(|name| name == "*");
        let (joins, leaves) = (star(&subscribe), star(&unsubscribe));
        let named = |stream: &Self, names: &[String]| -> BTreeSet<Arc<str>> {
            names
                .iter()
                .filter(|n| *n != "*")
                .map(|n| stream.intern(kind, n))
                .collect()
        };
        let added = named(self, &subscribe);
        let removed = named(self, &unsubscribe);
        let Some(watch) = self.watch_mut(kind) else {
            let legacy = kind.is_wildcard() && subscribe.is_empty();
            let wildcard = (joins || legacy) && !leaves;
            let mut names = added;
            if !wildcard {
                let held: Vec<String> = initial.keys().cloned().collect();
                names.extend(held.iter().map(|name| self.intern(kind, name)));
            }
            names.retain(|name| !removed.contains(name));
            self.set(
                kind,
                Watch {
                    wildcard,
                    owed: names.clone(),
                    names,
                    owed_answer: true,
                    initial,
                    ..Watch::default()
                },
            );
            return Event::Subscribed(kind);
        };
        let stale = !request.nonce.is_empty() && request.nonce != watch.nonce;
        let ack = !request.nonce.is_empty() && !stale;
        if ack {
            watch.settle(None);
        }
        // A subscription counts even when it travels with a stale nonce.
        for name in &removed {
            watch.names.remove(name);
            watch.owed.remove(name);
        }
        if leaves {
            watch.wildcard = false;
        }
        if joins && !watch.wildcard {
            watch.wildcard = true;
            watch.owed_answer = true;
            watch.sent = Sets::default();
        }
        let grown = !added.is_empty();
        watch.owed.extend(added.iter().cloned());
        watch.names.extend(added);
        match (stale, ack, grown || joins) {
            (_, _, true) => Event::Subscribed(kind),
            (true, ..) => Event::Stale(kind),
            (_, true, _) => Event::Ack(kind),
            _ => Event::Unsubscribed(kind),
        }
    }

    fn refuse(&mut self, kind: Kind, nonce: &str, error: String) -> Event {
        if let Some(watch) = self.watch_mut(kind)
            && watch.nonce == nonce
        {
            watch.settle(Some(error.clone()));
        }
        Event::Nack(kind, error)
    }

    fn unsubscribe(&mut self, kind: Kind) {
        if let Some(slot) = self.watches.get_mut(kind.index()) {
            *slot = None;
        }
    }

    fn set(&mut self, kind: Kind, watch: Watch) {
        if let Some(slot) = self.watches.get_mut(kind.index()) {
            *slot = Some(watch);
        }
    }

    /// The name as the manifest holds it, so that streams share its text.
    fn intern(&self, kind: Kind, name: &str) -> Arc<str> {
        self.view
            .sets(kind)
            .get(name)
            .map_or_else(|| name.into(), |resource| resource.name.clone())
    }

    /// Everything that may be sent now.
    fn advance(&mut self) -> Vec<Response> {
        let mut out = Vec::new();
        self.send(Kind::Cluster, &mut out);
        self.send(Kind::Endpoint, &mut out);
        let warming = self
            .watch(Kind::Cluster)
            .is_some_and(|clusters| clusters.in_flight && clusters.in_flight_puts);
        if warming {
            return out;
        }
        for kind in [Kind::Listener, Kind::Route, Kind::Secret] {
            self.send(kind, &mut out);
        }
        let settled = |kind| self.watch(kind).is_none_or(|watch| !watch.in_flight);
        if settled(Kind::Cluster) && settled(Kind::Listener) && settled(Kind::Route) {
            self.withdraw(&mut out);
        }
        out
    }

    /// Sends what changed of one type, and what is owed.
    fn send(&mut self, kind: Kind, out: &mut Vec<Response>) {
        if self
            .watch(kind)
            .is_none_or(|watch| watch.in_flight && !watch.owes())
        {
            return;
        }
        let view = self.view.sets(kind);
        let variant = self.variant;
        let warming = match kind {
            Kind::Endpoint => std::mem::take(&mut self.warming),
            _ => BTreeSet::new(),
        };
        let Some(watch) = self.watch_mut(kind) else {
            return;
        };
        let Pending {
            mut puts,
            mut removed,
        } = watch.changes(kind, &view);
        for name in warming {
            if watch.wants(&name) && !puts.iter().any(|put| put.name == name) {
                puts.extend(resource_or_empty(kind, &view, &name));
            }
        }
        if kind == Kind::Cluster {
            for name in std::mem::take(&mut removed) {
                watch.lingering.entry(name).or_insert(None);
            }
            for put in &puts {
                watch.lingering.remove(&put.name);
            }
        }
        watch.sent = view.clone();
        // Envoy waits for the first answer, even one without anything; for a secret that is not
        // there it is better to wait for the secret.
        let answer = std::mem::take(&mut watch.owed_answer) && kind != Kind::Secret;
        if puts.is_empty() && removed.is_empty() && !answer {
            return;
        }
        let any_put = !puts.is_empty();
        let endpoints = Kind::Endpoint.of(&self.view.outbound);
        if kind == Kind::Cluster {
            let names = puts.iter().map(|put| &put.name);
            self.warming
                .extend(names.filter(|name| endpoints.contains_key(*name)).cloned());
        }
        let resources = match (variant, self.watch(kind)) {
            (Variant::Sotw, Some(watch)) if kind.is_wildcard() => watch.complete(&view),
            _ => puts,
        };
        if variant == Variant::Sotw {
            removed.clear();
        }
        out.push(self.respond(kind, resources, removed, any_put));
    }

    /// Takes back the clusters that listeners and routes no longer point at.
    fn withdraw(&mut self, out: &mut Vec<Response>) {
        let view = self.view.sets(Kind::Cluster);
        let variant = self.variant;
        let Some(watch) = self.watch_mut(Kind::Cluster) else {
            return;
        };
        if watch.lingering.is_empty() {
            return;
        }
        let gone: Vec<Arc<str>> = std::mem::take(&mut watch.lingering).into_keys().collect();
        let response = match variant {
            Variant::Delta => self.respond(Kind::Cluster, Vec::new(), gone, false),
            Variant::Sotw => {
                let resources = view.iter().cloned().collect();
                self.respond(Kind::Cluster, resources, Vec::new(), false)
            }
        };
        out.push(response);
    }

    fn respond(
        &mut self,
        kind: Kind,
        resources: Vec<Arc<Resource>>,
        removed: Vec<Arc<str>>,
        puts: bool,
    ) -> Response {
        self.sequence += 1;
        let mut nonce = String::new();
        // Writing to a String cannot fail.
        let _ok = write!(nonce, "{:x}-{:x}", self.view.version, self.sequence);
        if let Some(watch) = self.watch_mut(kind) {
            watch.nonce.clone_from(&nonce);
            watch.in_flight = true;
            watch.in_flight_puts = puts;
        }
        Response {
            kind,
            version: self.view.version,
            nonce,
            resources,
            removed,
        }
    }
}

/// What a watch is to be told.
#[derive(Debug, Default)]
struct Pending {
    puts: Vec<Arc<Resource>>,
    removed: Vec<Arc<str>>,
}

impl Watch {
    /// What leads from what was sent to `view`, as far as it is subscribed to.
    fn changes(&mut self, kind: Kind, view: &Sets) -> Pending {
        let initial = std::mem::take(&mut self.initial);
        let owed = std::mem::take(&mut self.owed);
        let mut pending = Pending::default();
        if self.owed_answer && self.wildcard {
            // A first answer: compare with what the proxy brought along.
            pending.puts.extend(
                view.iter()
                    .filter(|put| {
                        initial
                            .get(&*put.name)
                            .is_none_or(|v| *v != hex(put.version))
                    })
                    .cloned(),
            );
            pending.removed.extend(
                initial
                    .keys()
                    .filter(|name| view.get(name).is_none())
                    .map(|n| n.as_str().into()),
            );
            return pending;
        }
        let mut differing = self.sent.differences(view);
        if self.refused && !differing.is_empty() {
            // Something changed since a refusal: start again from what the proxy holds.
            differing = self.accepted.differences(view);
            self.refused = false;
        }
        for difference in differing {
            match difference {
                // What is owed is put below; a first answer holds only that.
                Difference::Put(put)
                    if self.wants(&put.name) && !owed.contains(&put.name) && !self.owed_answer =>
                {
                    pending.puts.push(put);
                }
                Difference::Removed(name) if self.wants(&name) && !self.owed_answer => {
                    if kind.is_wildcard() {
                        if kind == Kind::Cluster
                            && let Some(resource) = self.sent.get(&name)
                        {
                            self.lingering.insert(name.clone(), Some(resource.clone()));
                        }
                        pending.removed.push(name);
                    } else if kind == Kind::Endpoint {
                        pending.puts.push(Arc::new(endpoint::empty(&name)));
                    }
                }
                _ => {}
            }
        }
        for name in owed {
            let held = initial.get(&*name);
            match resource_or_empty(kind, view, &name) {
                Some(put) if held.is_none_or(|held| *held != hex(put.version)) => {
                    pending.puts.push(put);
                }
                None if kind.is_wildcard() => pending.removed.push(name),
                _ => {}
            }
        }
        pending
    }

    /// Every subscribed resource, with those that linger: a complete state of the world.
    fn complete(&self, view: &Sets) -> Vec<Arc<Resource>> {
        view.iter()
            .filter(|resource| self.wants(&resource.name))
            .chain(
                self.lingering
                    .iter()
                    .filter(|(name, _)| view.get(name).is_none())
                    .filter_map(|(_, resource)| resource.as_ref()),
            )
            .cloned()
            .collect()
    }
}

/// The resource, or for the types that must always be answered an empty one.
fn resource_or_empty(kind: Kind, view: &Sets, name: &Arc<str>) -> Option<Arc<Resource>> {
    view.get(name).cloned().or_else(|| match kind {
        Kind::Endpoint => Some(Arc::new(endpoint::empty(name))),
        Kind::Route => Some(Arc::new(route::outbound::empty(name))),
        _ => None,
    })
}

/// A version as it stands on the wire: 16 hex digits.
pub fn hex(version: u64) -> String {
    format!("{version:016x}")
}
