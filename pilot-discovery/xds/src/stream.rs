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
//! unanswered, unless names are subscribed to meanwhile; what changes is merged into the next.
//! A refused response is not repeated: what it said is said again with the next change.

use pilot_networking::kind::Kind;
use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use pilot_networking::{manifest::Index, resource::Resource};

use super::{
    names::Marks,
    request::{Names, Request, Versions, Wish},
    view::{Sets, View},
    watch::{Pending, Undo, Watch, empty},
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
    watches: [Option<Watch>; Kind::COUNT],
    /// Clusters that were put while their endpoints are still to follow.
    warming: Vec<Arc<str>>,
    sequence: u64,
}

impl Stream {
    pub fn new(variant: Variant, view: View) -> Self {
        Self {
            variant,
            view,
            watches: Default::default(),
            warming: Vec::new(),
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
        self.watches.get(kind.index_of()).and_then(Option::as_ref)
    }

    fn watch_mut(&mut self, kind: Kind) -> Option<&mut Watch> {
        self.watches
            .get_mut(kind.index_of())
            .and_then(Option::as_mut)
    }

    /// Something of the view was not sent yet.
    pub fn lags(&self) -> bool {
        let clusters_first = self
            .watch(Kind::Cluster)
            .is_some_and(|watch| watch.puts_in_flight() || !watch.lingering.is_empty());
        Kind::ALL.into_iter().any(|kind| {
            self.watch(kind).is_some_and(|watch| {
                (clusters_first || watch.in_flight()) && !watch.sent.is_same(&self.view.sets(kind))
            })
        })
    }

    /// The proxy took everything that the newest view gives it of a type. Of one that is asked for
    /// by name it may have asked for nothing.
    pub fn has_taken(&self, kind: Kind) -> bool {
        let Some(watch) = self.watch(kind) else {
            return !kind.is_wildcard();
        };
        let is_free = matches!(kind, Kind::Cluster | Kind::Endpoint);
        watch.is_settled() && (is_free || !self.awaits_clusters())
    }

    /// Version of the newest view of which the proxy took everything of a type; `None` before the
    /// first.
    pub fn taken(&self, kind: Kind) -> Option<u64> {
        if self.has_taken(kind) {
            return Some(self.view.version);
        }
        self.watch(kind).and_then(|watch| watch.taken)
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
        let Wish::Names(names) = &request.wish else {
            return Event::Unknown(request.type_url);
        };
        // Without a nonce it was sent before the first response arrived: it answers none.
        let known = self.watch_mut(kind);
        let started = known.is_some();
        let mut stale = false;
        if let Some(watch) = known
            && !request.nonce.is_empty()
        {
            stale = watch.nonce != request.nonce;
            watch.settle(&request.nonce, request.error.as_deref());
        }
        if stale {
            // The list of names is one that the proxy has replaced since, or will.
            return request
                .error
                .map_or(Event::Stale(kind), |error| Event::Nack(kind, error));
        }
        if !kind.is_wildcard() && names.is_empty() {
            self.unsubscribe(kind);
            return Event::Unsubscribed(kind);
        }
        let mut marks = Marks::new(self.view.outbound.index(kind));
        names
            .iter()
            .filter(|name| *name != "*")
            .for_each(|name| marks.mark(name));
        let names = marks.into_set();
        let wildcard = kind.is_wildcard() && names.is_empty();
        let view = self.view.sets(kind);
        let watch = match self.watch_mut(kind) {
            Some(watch) if started => watch,
            _ => {
                // Everything named is answered.
                let sent = if wildcard { Sets::default() } else { view };
                let watch = Watch::new(wildcard, names.clone(), names, sent);
                self.set(kind, watch);
                return Event::Subscribed(kind);
            }
        };
        let added = names.difference(&watch.names);
        watch.wildcard = wildcard;
        watch.names = names;
        let grown = !added.is_empty();
        for name in added {
            watch.owed.insert(name);
        }
        match request.error {
            Some(error) => Event::Nack(kind, error),
            None if grown => Event::Subscribed(kind),
            None => Event::Ack(kind),
        }
    }

    fn on_delta(&mut self, kind: Kind, request: Request) -> Event {
        let Wish::Delta {
            subscribe,
            unsubscribe,
            initial,
        } = &request.wish
        else {
            return Event::Unknown(request.type_url);
        };
        if self.watch(kind).is_none() {
            let watch = self.first(kind, subscribe, unsubscribe, initial);
            self.set(kind, watch);
            return Event::Subscribed(kind);
        }
        // Names in the text of the view, so that streams share it. (Not by the index: it would be
        // made anew after every change.)
        let named: Vec<Arc<str>> = subscribe
            .iter()
            .filter(|name| *name != "*")
            .map(|name| {
                let known = self.view.get(kind, name);
                known.map_or_else(|| name.into(), |resource| resource.name.clone())
            })
            .collect();
        let Some(watch) = self.watch_mut(kind) else {
            return Event::Unknown(request.type_url);
        };
        let answered = watch.settle(&request.nonce, request.error.as_deref());
        // A subscription counts even when it travels with a stale nonce or with a refusal.
        let mut grown = false;
        for name in unsubscribe.iter() {
            if name == "*" {
                watch.wildcard = false;
            } else {
                watch.leave(name);
            }
        }
        if subscribe.iter().any(|name| name == "*") && !watch.wildcard {
            // Of what was not asked for by name, nothing is held.
            let names = std::mem::take(&mut watch.names);
            watch.sent = watch.sent.only(|name| names.contains(name));
            watch.names = names;
            watch.wildcard = true;
            watch.owed_answer = true;
            grown = true;
        }
        for name in named {
            watch.names.insert(name.clone());
            watch.owed.insert(name);
            grown = true;
        }
        match request.error {
            Some(error) => Event::Nack(kind, error),
            None if grown => Event::Subscribed(kind),
            None if answered => Event::Ack(kind),
            None if request.nonce.is_empty() => Event::Unsubscribed(kind),
            None => Event::Stale(kind),
        }
    }

    /// A subscription that a delta stream begins with. `initial` is what the proxy holds from
    /// streams before.
    fn first(
        &self,
        kind: Kind,
        subscribe: &Names,
        unsubscribe: &Names,
        initial: &Versions,
    ) -> Watch {
        let index = self.view.outbound.index(kind);
        let view = self.view.sets(kind);
        let star = |names: &Names| names.iter().any(|name| name == "*");
        let legacy = kind.is_wildcard() && subscribe.is_empty();
        let wildcard = (star(subscribe) || legacy) && !star(unsubscribe);
        let mut names = Marks::new(index);
        subscribe
            .iter()
            .filter(|name| *name != "*")
            .for_each(|name| names.mark(name));
        if wildcard {
            unsubscribe.iter().for_each(|name| names.clear(name));
            let names = names.into_set();
            return Watch::new(true, names.clone(), names, believed(index, view, initial));
        }
        let mut owed = names.clone();
        let mut sent = view;
        for (name, version) in initial.iter() {
            // What it holds it wants to go on holding.
            names.mark(name);
            owed.clear(name);
            let now = match index.get(name) {
                Some((_, slot)) => Some(slot.version),
                None => sent.get(name).map(|resource| resource.version),
            };
            let now = now.or_else(|| empty(kind, name).map(|resource| resource.version));
            let held = claimed(version, now);
            if now != Some(held) {
                sent.keep(stub(name, held));
            }
        }
        for name in unsubscribe.iter() {
            names.clear(name);
            owed.clear(name);
        }
        Watch::new(false, names.into_set(), owed.into_set(), sent)
    }

    fn unsubscribe(&mut self, kind: Kind) {
        if let Some(slot) = self.watches.get_mut(kind.index_of()) {
            *slot = None;
        }
    }

    fn set(&mut self, kind: Kind, watch: Watch) {
        if let Some(slot) = self.watches.get_mut(kind.index_of()) {
            *slot = Some(watch);
        }
    }

    /// Everything that may be sent now.
    fn advance(&mut self) -> Vec<Response> {
        let mut out = Vec::new();
        self.send(Kind::Cluster, &mut out);
        self.send(Kind::Endpoint, &mut out);
        if self.awaits_clusters() {
            return out;
        }
        for kind in [Kind::Listener, Kind::Route, Kind::Secret] {
            self.send(kind, &mut out);
        }
        let settled = |kind| self.watch(kind).is_none_or(|watch| !watch.in_flight());
        if settled(Kind::Cluster) && settled(Kind::Listener) && settled(Kind::Route) {
            self.withdraw(&mut out);
        }
        out
    }

    /// Listeners, routes and secrets wait for clusters, also while these could not be sent yet
    /// because of a response before them.
    fn awaits_clusters(&self) -> bool {
        let clusters = self.view.sets(Kind::Cluster);
        self.watch(Kind::Cluster).is_some_and(|watch| {
            watch.puts_in_flight() || (watch.in_flight() && !watch.sent.is_same(&clusters))
        })
    }

    /// Sends what changed of one type, and what is owed.
    fn send(&mut self, kind: Kind, out: &mut Vec<Response>) {
        let view = self.view.sets(kind);
        let variant = self.variant;
        let Some(watch) = self.watch_mut(kind) else {
            return;
        };
        if watch.in_flight() && !watch.owes() {
            return;
        }
        let mut pending = watch.advance(kind, &view);
        // Envoy waits for the first answer, even one without anything; for a secret that is not
        // there it is better to wait for the secret.
        let answer = std::mem::take(&mut watch.owed_answer) && kind != Kind::Secret;
        if kind == Kind::Endpoint {
            self.follow_clusters(&view, &mut pending);
        }
        let Pending {
            puts,
            removed,
            undo,
        } = pending;
        if puts.is_empty() && removed.is_empty() && !answer {
            return;
        }
        if kind == Kind::Cluster {
            let endpoints = &self.view.outbound[Kind::Endpoint];
            let names = puts.iter().map(|put| &put.name);
            self.warming
                .extend(names.filter(|name| endpoints.contains_key(*name)).cloned());
        }
        let any_put = !puts.is_empty();
        let (resources, removed) = match (variant, self.watch(kind)) {
            (Variant::Sotw, Some(watch)) if kind.is_wildcard() => {
                (watch.complete(&view), Vec::new())
            }
            (Variant::Sotw, _) => (puts, Vec::new()),
            (Variant::Delta, _) => (puts, removed),
        };
        out.push(self.respond(kind, resources, removed, any_put, undo));
    }

    /// Adds the endpoints of clusters that were put: Envoy waits for them, changed or not.
    fn follow_clusters(&mut self, view: &Sets, pending: &mut Pending) {
        if self.warming.is_empty() {
            return;
        }
        let mut warming = std::mem::take(&mut self.warming);
        let Some(watch) = self.watch_mut(Kind::Endpoint) else {
            return;
        };
        let mut there: Vec<Arc<str>> = pending.puts.iter().map(|put| put.name.clone()).collect();
        there.sort_unstable();
        warming.sort_unstable();
        warming.dedup();
        warming.retain(|name| watch.wants(name) && there.binary_search(name).is_err());
        for put in warming.iter().filter_map(|name| view.get(name)) {
            watch.repeat(put, pending);
        }
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
        let (gone, undo) = watch.withdraw();
        let response = match variant {
            Variant::Delta => self.respond(Kind::Cluster, Vec::new(), gone, false, undo),
            Variant::Sotw => {
                let all = watch.complete(&view);
                self.respond(Kind::Cluster, all, Vec::new(), false, undo)
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
        undo: Undo,
    ) -> Response {
        self.sequence += 1;
        let mut nonce = String::new();
        // Writing to a String cannot fail.
        let _ok = write!(nonce, "{:x}-{:x}", self.view.version, self.sequence);
        let version = self.view.version;
        if let Some(watch) = self.watch_mut(kind) {
            watch.respond(nonce.clone(), version, puts, undo);
        }
        Response {
            kind,
            version,
            nonce,
            resources,
            removed,
        }
    }
}

/// What a proxy holds that came back with `initial`, as far as it is known by name: the
/// difference to `view` is what it lacks.
fn believed(index: &Arc<Index>, view: Sets, initial: &Versions) -> Sets {
    if initial.is_empty() {
        return Sets::default();
    }
    let mut held = Marks::new(index);
    let mut differing: Vec<(&str, u64)> = Vec::new();
    let mut inbound: BTreeSet<&str> = BTreeSet::new();
    for (name, version) in initial.iter() {
        let now = match index.get(name) {
            Some((_, slot)) => {
                held.mark(name);
                Some(slot.version)
            }
            None => {
                let now = view.inbound.get(name).map(|resource| resource.version);
                inbound.extend(now.map(|_| name));
                now
            }
        };
        let version = claimed(version, now);
        if now != Some(version) {
            differing.push((name, version));
        }
    }
    let mut sent = view;
    for name in held.unmarked() {
        sent.outbound.remove(name);
    }
    if inbound.len() < sent.inbound.len() {
        let gone = |name: &&Arc<str>| !inbound.contains(&***name);
        let gone: Vec<Arc<str>> = sent.inbound.keys().filter(gone).cloned().collect();
        for name in gone {
            sent.inbound.remove(&name);
        }
    }
    for (name, version) in differing {
        let set = if inbound.contains(name) {
            &mut sent.inbound
        } else {
            &mut sent.outbound
        };
        let resource = stub(name, version);
        set.insert(resource.name.clone(), resource);
    }
    sent
}

/// Stands for what a proxy holds of which only the version is known.
fn stub(name: &str, version: u64) -> Arc<Resource> {
    Arc::new(Resource {
        name: name.into(),
        version,
        body: Default::default(),
        sources: Arc::new([]),
    })
}

/// A version that a proxy says it holds; one that is none of ours is not that of `now`.
fn claimed(version: &str, now: Option<u64>) -> u64 {
    parse(version).unwrap_or_else(|| !now.unwrap_or(0))
}

/// A version as it stands on the wire: 16 hex digits.
pub fn hex(version: u64) -> [u8; 16] {
    std::array::from_fn(|at| {
        let digit = (version >> (60 - 4 * at)) & 0xf;
        // A digit is below 16.
        b"0123456789abcdef"
            .get(digit as usize)
            .copied()
            .unwrap_or(b'0')
    })
}

/// Reads what [`hex`] wrote.
fn parse(version: &str) -> Option<u64> {
    let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let hex = version.len() == 16 && version.bytes().all(lower);
    hex.then(|| u64::from_str_radix(version, 16).ok()).flatten()
}

#[cfg(test)]
mod tests;
