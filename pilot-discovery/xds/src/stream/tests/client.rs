//! A client that follows the protocol, and detects when the server does not.

use pilot_networking::kind::Kind;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use istio_api::{
    envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
    google::rpc::Status,
};
use prost::Message as _;

use super::world::Refs;
use crate::{
    request::{Request, read_delta, read_sotw},
    stream::{Response, Stream, Variant},
    view::View,
};

type Held = BTreeMap<String, (u64, Vec<u8>)>;

/// One proxy with its connection.
#[derive(Debug)]
pub(super) struct Client {
    variant: Variant,
    /// Held resources of the types that it subscribed to.
    held: BTreeMap<Kind, Held>,
    /// Names subscribed to, of the types that are subscribed to by name.
    names: BTreeMap<Kind, BTreeSet<String>>,
    /// Names that may be sent even if they are held, and how many times: they were requested.
    asked: BTreeMap<Kind, BTreeMap<String, u32>>,
    /// Clusters received since their endpoints last arrived.
    warming: BTreeSet<String>,
    nonces: BTreeMap<Kind, String>,
    /// Types with a response on this stream.
    answered: BTreeSet<Kind>,
    /// Something was rejected: resources that refer to it may arrive before it.
    pub refused: bool,
    to_server: VecDeque<Request>,
    to_client: VecDeque<Response>,
    stream: Stream,
    log: Vec<String>,
}

impl Drop for Client {
    /// Prints what led to a failure.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log.join("\n"));
        }
    }
}

impl Client {
    pub(super) fn connect(variant: Variant, view: View) -> Self {
        let mut client = Self {
            variant,
            held: BTreeMap::new(),
            names: BTreeMap::new(),
            asked: BTreeMap::new(),
            warming: BTreeSet::new(),
            nonces: BTreeMap::new(),
            answered: BTreeSet::new(),
            refused: false,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            stream: Stream::new(variant, view),
            log: Vec::new(),
        };
        client.open();
        client
    }

    /// Loses the connection with all messages in flight, and opens another one to a server without
    /// any state.
    pub(super) fn reconnect(&mut self, view: View) {
        self.to_server.clear();
        self.to_client.clear();
        self.nonces.clear();
        self.asked.clear();
        self.warming.clear();
        self.answered.clear();
        self.stream = Stream::new(self.variant, view);
        self.open();
    }

    fn open(&mut self) {
        for kind in [Kind::Cluster, Kind::Endpoint, Kind::Listener, Kind::Route] {
            let names = self.names.get(&kind).cloned().unwrap_or_default();
            if !kind.is_wildcard() && names.is_empty() {
                continue;
            }
            let held = self.held.entry(kind).or_default().clone();
            // A state-of-the-world stream knows nothing about earlier streams.
            let lacking = names
                .iter()
                .filter(|name| self.variant == Variant::Sotw || !held.contains_key(*name));
            let lacking = lacking.map(|name| (name.clone(), 1)).collect();
            self.asked.insert(kind, lacking);
            match self.variant {
                Variant::Sotw => self.wish(kind, None),
                Variant::Delta => self.send_delta(DeltaDiscoveryRequest {
                    type_url: kind.type_url().into(),
                    resource_names_subscribe: names.into_iter().collect(),
                    initial_resource_versions: held
                        .into_iter()
                        .map(|(name, (version, _))| (name, format!("{version:016x}")))
                        .collect(),
                    ..Default::default()
                }),
            }
        }
    }

    pub(super) fn view(&mut self, view: View) {
        let responses = self.stream.on_view(view);
        self.to_client.extend(responses);
    }

    /// The server reads the next request, if there is one.
    pub(super) fn take(&mut self) -> bool {
        let Some(request) = self.to_server.pop_front() else {
            return false;
        };
        self.log.push(format!("server took {request:?}"));
        let (_, responses) = self.stream.on_request(request);
        self.to_client.extend(responses);
        true
    }

    /// Subscribes to a name that nothing refers to, or unsubscribes from it.
    pub(super) fn toggle(&mut self, kind: Kind, name: &str) {
        let names = self.names.entry(kind).or_default().clone();
        if names.contains(name) {
            self.follow(kind, &BTreeSet::new(), &BTreeSet::from([name.to_owned()]));
        } else {
            self.follow(kind, &BTreeSet::from([name.to_owned()]), &BTreeSet::new());
        }
    }

    /// The client reads the next response, if there is one.
    pub(super) fn deliver(&mut self, accept: bool) -> bool {
        let Some(response) = self.to_client.pop_front() else {
            return false;
        };
        let names: Vec<_> = response.resources.iter().map(|r| &*r.name).collect();
        let (kind, nonce, removed) = (response.kind, &response.nonce, &response.removed);
        self.log.push(format!(
            "client took {kind:?} {nonce} {names:?} -{removed:?} {accept}"
        ));
        self.check(&response);
        let kind = response.kind;
        self.nonces.insert(kind, response.nonce.clone());
        if !accept {
            self.refused = true;
            self.answer(kind, &response.nonce, Some("refused"));
            return true;
        }
        self.apply(&response);
        self.answer(kind, &response.nonce, None);
        true
    }

    /// Checks everything that the protocol promises for one response.
    fn check(&mut self, response: &Response) {
        let kind = response.kind;
        let held = self.held.entry(kind).or_default();
        let asked = self.asked.entry(kind).or_default();
        let mut seen = BTreeSet::new();
        let complete = self.variant == Variant::Sotw && kind.is_wildcard();
        for resource in &response.resources {
            let name = resource.name.to_string();
            assert!(seen.insert(name.clone()), "{kind:?} {name} twice");
            let known = held.get(&name).is_some_and(|(v, _)| *v == resource.version);
            let may = complete
                || (kind == Kind::Endpoint && self.warming.contains(&name))
                // After a rejection the server does not know which part of it was kept.
                || self.refused;
            if known && !may {
                let times = asked.get_mut(&name).filter(|times| **times > 0);
                *times.unwrap_or_else(|| panic!("{kind:?} {name} again")) -= 1;
            }
        }
        if self.refused {
            return;
        }
        for name in &response.removed {
            assert!(
                held.contains_key(&**name),
                "{kind:?} {name} removed, not held"
            );
        }
        let clusters = self.held.get(&Kind::Cluster).cloned().unwrap_or_default();
        if matches!(kind, Kind::Listener | Kind::Route) {
            for resource in &response.resources {
                for cluster in Refs::of(&text(&resource.body)).clusters {
                    let name = &resource.name;
                    assert!(clusters.contains_key(&cluster), "{name} before {cluster}");
                }
            }
        }
        self.answered.insert(kind);
        // A state-of-the-world server cannot know what a proxy holds from earlier streams.
        let blind = self.variant == Variant::Sotw
            && ![Kind::Listener, Kind::Route]
                .iter()
                .all(|kind| self.answered.contains(kind));
        if kind == Kind::Cluster && !blind {
            let gone: BTreeSet<String> = if complete {
                clusters
                    .keys()
                    .filter(|name| !seen.contains(*name))
                    .cloned()
                    .collect()
            } else {
                response.removed.iter().map(ToString::to_string).collect()
            };
            for kind in [Kind::Listener, Kind::Route] {
                let names = self.names.get(&kind);
                for (name, (_, body)) in self.held.get(&kind).into_iter().flatten() {
                    if names.is_some_and(|names| !names.contains(name)) {
                        continue;
                    }
                    for cluster in Refs::of(body).clusters {
                        assert!(!gone.contains(&cluster), "{cluster} gone under {name}");
                    }
                }
            }
        }
    }

    fn apply(&mut self, response: &Response) {
        let kind = response.kind;
        let held = self.held.entry(kind).or_default();
        if self.variant == Variant::Sotw && kind.is_wildcard() {
            held.clear();
        }
        let wanted = self.names.get(&kind);
        for resource in &response.resources {
            let name = resource.name.to_string();
            // Resources that were unsubscribed from meanwhile are dropped, unless the server may
            // never learn of it: stale state-of-the-world requests are ignored.
            if self.variant == Variant::Sotw
                || kind.is_wildcard()
                || wanted.is_some_and(|names| names.contains(&name))
            {
                held.insert(name.clone(), (resource.version, text(&resource.body)));
            }
            if kind == Kind::Cluster {
                self.warming.insert(name);
            } else if kind == Kind::Endpoint {
                self.warming.remove(&name);
            }
        }
        for name in &response.removed {
            held.remove(&**name);
        }
        let refs: Vec<(String, Refs)> = held
            .iter()
            .map(|(name, (_, body))| (name.clone(), Refs::of(body)))
            .collect();
        let (next, wanted): (Kind, BTreeSet<String>) = match kind {
            Kind::Cluster => {
                let eds = refs.into_iter().filter(|(_, refs)| refs.eds);
                (Kind::Endpoint, eds.map(|(name, _)| name).collect())
            }
            Kind::Listener => {
                let routes = refs.into_iter().flat_map(|(_, refs)| refs.routes);
                (Kind::Route, routes.collect())
            }
            _ => return,
        };
        let names = self.names.entry(next).or_default();
        let own = |name: &&String| *name == LONE || *name == LONE_ROUTE;
        let joins = wanted.difference(names).cloned().collect();
        let leaves = names
            .difference(&wanted)
            .filter(|name| !own(name))
            .cloned()
            .collect();
        self.follow(next, &joins, &leaves);
    }

    /// Changes the subscribed names.
    fn follow(&mut self, kind: Kind, joins: &BTreeSet<String>, leaves: &BTreeSet<String>) {
        if joins.is_empty() && leaves.is_empty() {
            return;
        }
        let names = self.names.entry(kind).or_default();
        let asked = self.asked.entry(kind).or_default();
        let held = self.held.entry(kind).or_default();
        for name in leaves {
            names.remove(name);
            if self.variant == Variant::Delta {
                held.remove(name);
            }
        }
        names.extend(joins.iter().cloned());
        for name in joins {
            *asked.entry(name.clone()).or_default() += 1;
        }
        match self.variant {
            Variant::Sotw => self.wish(kind, None),
            Variant::Delta => self.send_delta(DeltaDiscoveryRequest {
                type_url: kind.type_url().into(),
                resource_names_subscribe: joins.iter().cloned().collect(),
                resource_names_unsubscribe: leaves.iter().cloned().collect(),
                ..Default::default()
            }),
        }
    }

    fn answer(&mut self, kind: Kind, nonce: &str, error: Option<&str>) {
        match self.variant {
            Variant::Sotw => self.wish(kind, error),
            Variant::Delta => self.send_delta(DeltaDiscoveryRequest {
                type_url: kind.type_url().into(),
                response_nonce: nonce.into(),
                error_detail: error.map(status),
                ..Default::default()
            }),
        }
    }

    fn send_delta(&mut self, request: DeltaDiscoveryRequest) {
        let (_, request) = read_delta(&request.encode_to_vec().into()).unwrap();
        self.to_server.push_back(request);
    }

    /// State of the world: sends the complete list again.
    fn wish(&mut self, kind: Kind, error: Option<&str>) {
        let names = self.names.get(&kind).cloned().unwrap_or_default();
        let request = DiscoveryRequest {
            type_url: kind.type_url().into(),
            response_nonce: self.nonces.get(&kind).cloned().unwrap_or_default(),
            resource_names: names.into_iter().collect(),
            error_detail: error.map(status),
            ..Default::default()
        };
        let (_, request) = read_sotw(&request.encode_to_vec().into()).unwrap();
        self.to_server.push_back(request);
    }

    /// All messages in flight arrive and are accepted.
    pub(super) fn settle(&mut self) {
        for _ in 0..200 {
            let took = self.take();
            let delivered = self.deliver(true);
            if !took && !delivered {
                return;
            }
        }
        panic!("client and server never stop sending");
    }

    /// Whether the server considers everything accepted, and no request that it has not read is in
    /// flight.
    pub(super) fn has_taken_all(&self) -> bool {
        let kinds = [Kind::Cluster, Kind::Endpoint, Kind::Listener, Kind::Route];
        self.to_server.is_empty() && kinds.into_iter().all(|kind| self.stream.has_taken(kind))
    }

    /// Checks that what the server counts as accepted up to some view, the client has from that
    /// view or a newer one. `views` has all of them, by version.
    pub(super) fn has_what_is_counted(&self, views: &BTreeMap<u64, View>) {
        for kind in [Kind::Cluster, Kind::Listener] {
            let Some(taken) = self.stream.taken(kind) else {
                continue;
            };
            let held = self.held.get(&kind).unwrap();
            let since: Vec<&View> = views.range(taken..).map(|(_, view)| view).collect();
            for resource in since[0].sets(kind).iter() {
                let name = &*resource.name;
                let held = held.get(name).map(|(version, _)| *version);
                let fits = since.iter().any(|view| match view.get(kind, name) {
                    Some(then) => Some(then.version) == held,
                    // It may be kept for as long as something refers to it.
                    None => true,
                });
                assert!(fits, "{kind:?} {name} of {taken}");
            }
        }
    }

    /// Checks that the client holds exactly what it subscribed to.
    pub(super) fn holds(&self, view: &View) {
        for kind in [Kind::Cluster, Kind::Listener] {
            let wanted: Held = view
                .sets(kind)
                .iter()
                .map(|r| (r.name.to_string(), (r.version, text(&r.body))))
                .collect();
            assert_eq!(self.held.get(&kind).unwrap(), &wanted, "{kind:?}");
        }
        for kind in [Kind::Endpoint, Kind::Route] {
            let names = self.names.get(&kind).cloned().unwrap_or_default();
            let mut held = self.held.get(&kind).cloned().unwrap_or_default();
            held.retain(|name, _| names.contains(name));
            let holds: BTreeSet<String> = held.keys().cloned().collect();
            assert_eq!(holds, names, "{kind:?}: every name is answered");
            for (name, (version, _)) in held {
                match view.get(kind, &name) {
                    Some(now) => assert_eq!(version, now.version, "{kind:?} {name}"),
                    None if kind == Kind::Endpoint => {
                        let empty = pilot_networking::endpoint::empty(&name);
                        assert_eq!(version, empty.version, "{name} is not empty");
                    }
                    // A removed route configuration is kept while something subscribes to it.
                    None => {}
                }
            }
        }
    }
}

/// An assignment and a route configuration that nothing refers to.
pub(super) const LONE: &str = "lone";
pub(super) const LONE_ROUTE: &str = "r0-alone";

fn status(message: &str) -> Status {
    Status {
        code: 3,
        message: message.into(),
        details: Vec::new(),
    }
}

/// Bodies of the world are text; those of empty resources are not.
fn text(body: &[u8]) -> Vec<u8> {
    let known = body.first().is_some_and(u8::is_ascii_digit);
    if known { body.to_vec() } else { b"0".to_vec() }
}
