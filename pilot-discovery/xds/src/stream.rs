//! The protocol of one ADS stream, state-of-the-world or delta, without any IO.
//!
//! ```text
//! request ──► on_request ─┐                      ┌─► responses, in the order of sending
//! view    ──► on_view    ─┴─► state ─► advance ──┘
//! ```
//!
//! Make before break: clusters are sent first, followed at once by their endpoints; listeners,
//! routes and secrets wait until the proxy acknowledged the clusters (it does so when they are
//! warm); unused clusters are removed last, when listeners and routes are acknowledged. Endpoint
//! changes never wait. Each type has at most one unacknowledged response, unless names are
//! subscribed to meanwhile; further changes are merged into the next response. A rejected response
//! is not repeated: its changes are sent again with the next change.

use pilot_networking::kind::Kind;
mod push;
mod resumed;
mod version;

use std::sync::Arc;

use pilot_networking::resource::Resource;

use super::{
    names::Marks,
    request::{Names, Request, Versions, Wish},
    view::{Sets, View},
    watch::{Watch, empty},
};

use resumed::{held_before, known_by_version, version_held};
pub use version::hex;

/// Protocol variant of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// State of the world.
    Sotw,
    /// Differences only.
    Delta,
}

/// A response to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Type of the resources.
    pub kind: Kind,
    /// Version of the snapshot.
    pub version: u64,
    /// Identifies the response in the proxy's answer.
    pub nonce: String,
    /// New and changed resources; with state of the world all of them.
    pub resources: Vec<Arc<Resource>>,
    /// Names of removed resources; delta only.
    pub removed: Vec<Arc<str>>,
}

/// The meaning of a request, for metrics and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new or changed subscription.
    Subscribed(Kind),
    /// The last response was accepted.
    Ack(Kind),
    /// The last response was rejected, with the reason.
    Nack(Kind, String),
    /// It answers an earlier response than the last.
    Stale(Kind),
    /// The subscription to the type ended.
    Unsubscribed(Kind),
    /// The type is not supported.
    Unknown(String),
}

/// State of one stream.
#[derive(Debug)]
pub struct Stream {
    variant: Variant,
    view: View,
    watches: [Option<Watch>; Kind::COUNT],
    /// Clusters that were sent while their endpoints have not followed yet.
    warming: Vec<Arc<str>>,
    sequence: u64,
}

impl Stream {
    /// A stream without subscriptions.
    pub fn new(variant: Variant, view: View) -> Self {
        Self {
            variant,
            view,
            watches: Default::default(),
            warming: Vec::new(),
            sequence: 0,
        }
    }

    /// Protocol variant.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// The resources that the proxy should hold.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The subscription to one type.
    pub fn watch(&self, kind: Kind) -> Option<&Watch> {
        self.watches.get(kind.index_of()).and_then(Option::as_ref)
    }

    fn watch_mut(&mut self, kind: Kind) -> Option<&mut Watch> {
        self.watches
            .get_mut(kind.index_of())
            .and_then(Option::as_mut)
    }

    /// Whether a part of the view was not sent yet.
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

    /// Whether the proxy accepted all resources of a type in the newest view. For types subscribed
    /// to by name, it may have subscribed to none.
    pub fn has_taken(&self, kind: Kind) -> bool {
        let Some(watch) = self.watch(kind) else {
            return !kind.is_wildcard();
        };
        let is_free = matches!(kind, Kind::Cluster | Kind::Endpoint);
        watch.is_settled() && (is_free || !self.awaits_clusters())
    }

    /// Version of the newest view of which the proxy accepted all resources of a type; `None`
    /// before the first.
    pub fn taken(&self, kind: Kind) -> Option<u64> {
        if self.has_taken(kind) {
            return Some(self.view.version);
        }
        self.watch(kind).and_then(|watch| watch.taken)
    }

    /// Sets the newest view; earlier ones that were not sent are skipped.
    pub fn on_view(&mut self, view: View) -> Vec<Response> {
        self.view = view;
        self.advance()
    }

    /// Processes a request.
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
        // Without a nonce it was sent before the first response arrived and does not answer any.
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
            // The proxy has replaced this list of names already, or will.
            return request
                .error
                .map_or(Event::Stale(kind), |error| Event::Nack(kind, error));
        }
        if !kind.is_wildcard() && names.is_empty() {
            self.unsubscribe(kind);
            return Event::Unsubscribed(kind);
        }
        let mut marks = Marks::new(self.view.outbound.names(kind));
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
                // All subscribed names are answered.
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
            watch.pending_names.insert(name);
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
        // Use the shared names of the view, so that streams share them. (Not of its index, which
        // would be rebuilt after every change.)
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
        // Subscriptions count even in a request with a stale nonce or a rejection.
        let mut grown = false;
        for name in unsubscribe.iter() {
            if name == "*" {
                watch.wildcard = false;
            } else {
                watch.leave(name);
            }
        }
        if subscribe.iter().any(|name| name == "*") && !watch.wildcard {
            // The proxy holds nothing that it did not subscribe to by name.
            let names = std::mem::take(&mut watch.names);
            watch.sent = watch.sent.only(|name| names.contains(name));
            watch.names = names;
            watch.wildcard = true;
            watch.pending_answer = true;
            grown = true;
        }
        for name in named {
            watch.names.insert(name.clone());
            watch.pending_names.insert(name);
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

    /// The first subscription to a type on a delta stream. `initial` is what the proxy holds from
    /// earlier streams.
    fn first(
        &self,
        kind: Kind,
        subscribe: &Names,
        unsubscribe: &Names,
        initial: &Versions,
    ) -> Watch {
        let index = self.view.outbound.names(kind);
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
            return Watch::new(
                true,
                names.clone(),
                names,
                held_before(index, view, initial),
            );
        }
        let mut pending_names = names.clone();
        let mut sent = view;
        for (name, version) in initial.iter() {
            // The proxy stays subscribed to what it holds.
            names.mark(name);
            pending_names.clear(name);
            let now = match index.get(name) {
                Some((_, slot)) => Some(slot.version),
                None => sent.get(name).map(|resource| resource.version),
            };
            let now = now.or_else(|| empty(kind, name).map(|resource| resource.version));
            let held = version_held(version, now);
            if now != Some(held) {
                sent.keep(known_by_version(name, held));
            }
        }
        for name in unsubscribe.iter() {
            names.clear(name);
            pending_names.clear(name);
        }
        Watch::new(false, names.into_set(), pending_names.into_set(), sent)
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
}

#[cfg(test)]
mod tests;
