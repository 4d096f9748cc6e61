//! Decides what is sent next, and in which order.

use std::{fmt::Write as _, sync::Arc};

use pilot_networking::{kind::Kind, resource::Resource};

use super::{Response, Stream, Variant};
use crate::{
    view::Sets,
    watch::{Pending, Undo},
};

impl Stream {
    /// All responses that may be sent now.
    pub(super) fn advance(&mut self) -> Vec<Response> {
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

    /// Whether listeners, routes and secrets wait for clusters, including those that could not be
    /// sent yet because of an earlier response.
    pub(super) fn awaits_clusters(&self) -> bool {
        let clusters = self.view.sets(Kind::Cluster);
        self.watch(Kind::Cluster).is_some_and(|watch| {
            watch.puts_in_flight() || (watch.in_flight() && !watch.sent.is_same(&clusters))
        })
    }

    /// Sends the changes of one type and its `pending_names`.
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
        // Envoy waits for the first response, even if it is empty. For a missing secret it is
        // better to wait until the secret exists.
        let answer = std::mem::take(&mut watch.pending_answer) && kind != Kind::Secret;
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

    /// Adds the endpoints of clusters that were sent: Envoy waits for them, changed or not.
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

    /// Removes the clusters that listeners and routes no longer refer to.
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
