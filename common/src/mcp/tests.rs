//! Both machines, alone and against each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use istio_api::google::rpc::Status;
use istio_api::mcp::v1alpha1::{Metadata, RequestResources, Resource, Resources};
use proptest::prelude::*;
use prost_types::Any;

use super::sink::machine::{Change, Machine as Sink, Reconnect, Step, UNSUPPORTED_RETRY};
use super::source::machine::{Machine as Source, RESUBSCRIBE_INTERVAL, Verdict};
use super::{Collection, Snapshot};

const C: &str = "istio/networking/v1alpha3/virtualservices";
const TYPE: &str = "type.googleapis.com/istio.networking.v1alpha3.VirtualService";

fn resource(name: &str, version: &str) -> Arc<Resource> {
    Arc::new(Resource {
        metadata: Some(Metadata {
            name: name.to_owned(),
            version: version.to_owned(),
            ..Metadata::default()
        }),
        body: Some(Any {
            type_url: TYPE.to_owned(),
            value: version.as_bytes().to_vec(),
        }),
    })
}

fn snapshot(version: &str, resources: &[(&str, &str)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let resources = resources
        .iter()
        .map(|(name, v)| (*name, resource(name, v)))
        .collect();
    snapshot.insert(
        C,
        Collection {
            version: version.into(),
            resources,
        },
    );
    snapshot
}

fn subscribe() -> RequestResources {
    RequestResources {
        collection: C.to_owned(),
        ..RequestResources::default()
    }
}

fn ack(nonce: &str) -> RequestResources {
    RequestResources {
        response_nonce: nonce.to_owned(),
        ..subscribe()
    }
}

fn nack(nonce: &str) -> RequestResources {
    let error_detail = Some(Status {
        code: 3,
        message: "bad".to_owned(),
        details: vec![],
    });
    RequestResources {
        error_detail,
        ..ack(nonce)
    }
}

fn delta(request: RequestResources) -> RequestResources {
    RequestResources {
        incremental: true,
        ..request
    }
}

fn names(message: &Resources) -> Vec<&str> {
    message
        .resources
        .iter()
        .map(|r| r.metadata.as_ref().unwrap().name.as_str())
        .collect()
}

struct Table {
    source: Source,
    snapshot: Option<Snapshot>,
    now: Instant,
}

impl Table {
    fn new(snapshot: Option<Snapshot>) -> Self {
        Self {
            source: Source::new(true),
            snapshot,
            now: Instant::now(),
        }
    }

    fn ask(&mut self, request: RequestResources) -> Verdict {
        self.source
            .request(request, self.snapshot.as_ref(), self.now)
    }

    fn set(&mut self, snapshot: Snapshot) {
        self.source.snapshot(&snapshot);
        self.snapshot = Some(snapshot);
    }

    fn next(&mut self) -> Option<Resources> {
        Some(self.source.next(self.snapshot.as_ref()?, self.now)?.message)
    }
}

#[test]
fn a_subscription_is_answered_in_full_and_then_on_change_only() {
    let mut table = Table::new(Some(snapshot("1", &[("b", "1"), ("a", "1")])));
    assert_eq!(table.ask(subscribe()), Verdict::Subscribe);
    let first = table.next().unwrap();
    assert_eq!((names(&first), first.incremental), (vec!["a", "b"], false));
    assert_eq!(first.nonce, "1");
    assert_eq!(table.next(), None);
    // Nothing is sent while the answer is outstanding.
    table.set(snapshot("2", &[("a", "1")]));
    assert_eq!(table.next(), None);
    assert!(matches!(table.ask(ack("1")), Verdict::Ack { .. }));
    let second = table.next().unwrap();
    assert_eq!((names(&second), second.nonce.as_str()), (vec!["a"], "2"));
    assert!(matches!(table.ask(ack("2")), Verdict::Ack { .. }));
    assert_eq!(table.next(), None);
}

#[test]
fn a_refused_version_is_not_sent_again() {
    let mut table = Table::new(Some(snapshot("1", &[("a", "1")])));
    table.ask(subscribe());
    table.next().unwrap();
    let verdict = table.ask(nack("1"));
    assert_eq!(
        verdict,
        Verdict::Nack {
            code: 3,
            message: "bad".to_owned()
        }
    );
    assert_eq!(table.next(), None);
    table.set(snapshot("2", &[("a", "2")]));
    assert_eq!(table.next().unwrap().system_version_info, "2");
}

#[test]
fn a_stale_nonce_changes_nothing() {
    let mut table = Table::new(Some(snapshot("1", &[("a", "1")])));
    // Before anything was sent, too.
    assert_eq!(table.ask(ack("7")), Verdict::Stale { nack: false });
    assert_eq!(table.next(), None);
    table.ask(subscribe());
    table.next().unwrap();
    assert_eq!(table.ask(nack("7")), Verdict::Stale { nack: true });
    table.set(snapshot("2", &[("a", "2")]));
    assert_eq!(table.next(), None);
    table.ask(ack("1"));
    assert!(table.next().is_some());
}

#[test]
fn an_empty_nonce_acknowledges_what_is_pending_and_asks_again_otherwise() {
    let mut table = Table::new(Some(snapshot("1", &[("a", "1")])));
    table.ask(subscribe());
    table.next().unwrap();
    assert!(matches!(table.ask(subscribe()), Verdict::Ack { .. }));
    assert_eq!(table.next(), None);
    table.now += RESUBSCRIBE_INTERVAL;
    assert_eq!(table.ask(subscribe()), Verdict::Subscribe);
    assert_eq!(names(&table.next().unwrap()), ["a"]);
}

#[test]
fn repeated_subscriptions_are_answered_once_a_second() {
    let mut table = Table::new(Some(snapshot("1", &[("a", "1")])));
    for _ in 0..5 {
        table.ask(delta(subscribe()));
        if let Some(message) = table.next() {
            assert!(
                !message.incremental,
                "a repeated subscription is answered in full"
            );
            table.ask(delta(ack(&message.nonce)));
        }
    }
    assert_eq!(table.next(), None);
    let wake = table.source.wake().unwrap();
    assert!(wake > table.now && wake <= table.now + RESUBSCRIBE_INTERVAL);
    assert!(!table.source.is_due(table.now));
    table.now = wake;
    assert!(table.next().is_some());
    assert_eq!(table.next(), None);
}

#[test]
fn a_request_before_the_first_snapshot_is_held() {
    let mut table = Table::new(None);
    table.ask(subscribe());
    assert!(!table.source.is_due(table.now));
    table.set(snapshot("1", &[("a", "1")]));
    assert_eq!(names(&table.next().unwrap()), ["a"]);
}

#[test]
fn an_unknown_collection_is_answered_as_empty() {
    let mut table = Table::new(Some(Snapshot::default()));
    table.ask(subscribe());
    let snapshot = table.snapshot.clone().unwrap();
    let sent = table.source.next(&snapshot, table.now).unwrap();
    assert!(sent.unknown && sent.message.resources.is_empty());
    assert_eq!(sent.message.system_version_info, "0");
    table.ask(ack(&sent.message.nonce));
    assert_eq!(table.next(), None);
    // It may become known.
    table.set(self::snapshot("5", &[("a", "1")]));
    assert_eq!(names(&table.next().unwrap()), ["a"]);
}

#[test]
fn too_many_collections_end_the_stream() {
    let mut table = Table::new(None);
    for i in 0..super::source::machine::MAX_COLLECTIONS {
        let request = RequestResources {
            collection: format!("c{i}"),
            ..subscribe()
        };
        assert_eq!(table.ask(request), Verdict::Subscribe);
    }
    assert_eq!(table.ask(subscribe()), Verdict::TooMany);
}

#[test]
fn a_slow_sink_skips_versions() {
    let mut table = Table::new(Some(snapshot("1", &[("a", "1")])));
    table.ask(subscribe());
    let first = table.next().unwrap();
    for version in 2..100 {
        table.set(snapshot(
            &version.to_string(),
            &[("a", &version.to_string())],
        ));
    }
    table.ask(ack(&first.nonce));
    let second = table.next().unwrap();
    assert_eq!(second.system_version_info, "99");
    table.ask(ack(&second.nonce));
    assert_eq!(table.next(), None);
}

#[test]
fn deltas_are_sent_on_request_only() {
    for incremental in [false, true] {
        let request = |r| if incremental { delta(r) } else { r };
        let mut table = Table::new(Some(snapshot("1", &[("a", "1"), ("b", "1"), ("c", "1")])));
        table.ask(request(subscribe()));
        let first = table.next().unwrap();
        assert!(!first.incremental);
        table.ask(request(ack(&first.nonce)));
        table.set(snapshot("2", &[("a", "1"), ("b", "2"), ("d", "1")]));
        let second = table.next().unwrap();
        assert_eq!(second.incremental, incremental);
        if incremental {
            assert_eq!(names(&second), ["b", "d"]);
            assert_eq!(second.removed_resources, ["c"]);
        } else {
            assert_eq!(names(&second), ["a", "b", "d"]);
            assert!(second.removed_resources.is_empty());
        }
    }
}

#[test]
fn a_delta_after_a_refusal_is_against_what_was_accepted() {
    let mut table = Table::new(Some(snapshot("1", &[("a", "1")])));
    table.ask(delta(subscribe()));
    table.next().unwrap();
    table.ask(delta(ack("1")));
    table.set(snapshot("2", &[("a", "1"), ("b", "1")]));
    let second = table.next().unwrap();
    table.ask(delta(nack(&second.nonce)));
    table.set(snapshot("3", &[("a", "1"), ("b", "1"), ("c", "1")]));
    assert_eq!(names(&table.next().unwrap()), ["b", "c"]);
}

#[test]
fn versions_told_on_reconnect_are_not_sent_again() {
    let mut table = Table::new(Some(snapshot("1", &[("a", "1"), ("b", "2")])));
    let told = |pairs: &[(&str, &str)]| RequestResources {
        initial_resource_versions: pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        ..delta(subscribe())
    };
    table.ask(told(&[("a", "1"), ("b", "1"), ("gone", "1")]));
    let first = table.next().unwrap();
    assert!(first.incremental);
    assert_eq!(names(&first), ["b"]);
    assert_eq!(first.removed_resources, ["gone"]);
    // Equal state is answered all the same: the sink waits for it.
    let mut table = Table::new(table.snapshot);
    table.ask(told(&[("a", "1"), ("b", "2")]));
    let first = table.next().unwrap();
    assert!(first.resources.is_empty() && first.removed_resources.is_empty());
}

fn sink() -> Sink {
    Sink::new("pilot-0.istio-system", [C.to_owned()], true)
}

fn message(version: &str, nonce: &str, resources: &[(&str, &str)]) -> Resources {
    Resources {
        system_version_info: version.to_owned(),
        collection: C.to_owned(),
        resources: resources
            .iter()
            .map(|(n, v)| Resource::clone(&resource(n, v)))
            .collect(),
        nonce: nonce.to_owned(),
        ..Resources::default()
    }
}

fn apply(sink: &mut Sink, message: Resources) -> (Option<Change>, RequestResources) {
    match sink.receive(message).step {
        Step::Reply(reply) => (None, reply),
        Step::Apply(change, commit) => {
            let reply = sink.commit(commit, Ok(()));
            (Some(change), reply)
        }
    }
}

fn changed(change: &Change) -> (Vec<&str>, Vec<&str>) {
    let added = change
        .added
        .iter()
        .map(|r| r.metadata.as_ref().unwrap().name.as_str())
        .collect();
    (added, change.removed.iter().map(String::as_str).collect())
}

#[test]
fn a_full_message_is_reduced_to_what_differs() {
    let mut sink = sink();
    assert_eq!(sink.missing(), [C]);
    let (change, reply) = apply(&mut sink, message("1", "n1", &[("n/b", "1"), ("n/a", "1")]));
    let change = change.unwrap();
    assert!(change.first);
    assert_eq!(changed(&change), (vec!["n/a", "n/b"], vec![]));
    assert_eq!(
        (reply.response_nonce.as_str(), reply.error_detail),
        ("n1", None)
    );
    assert!(sink.missing().is_empty());
    // The same again: acknowledged without a change.
    let (change, reply) = apply(&mut sink, message("2", "n2", &[("n/a", "1"), ("n/b", "1")]));
    assert_eq!((change, reply.response_nonce.as_str()), (None, "n2"));
    let (change, _) = apply(&mut sink, message("3", "n3", &[("n/a", "2"), ("n/c", "1")]));
    assert_eq!(changed(&change.unwrap()), (vec!["n/a", "n/c"], vec!["n/b"]));
}

#[test]
fn a_counter_that_starts_again_is_seen_through() {
    let mut sink = sink();
    apply(&mut sink, message("1", "n1", &[("n/a", "v0")]));
    let mut again = message("1", "n2", &[("n/a", "v0")]);
    again.resources[0].body.as_mut().unwrap().value = b"other".to_vec();
    assert!(apply(&mut sink, again).0.is_some());
}

#[test]
fn an_empty_first_message_counts_as_synced() {
    let mut sink = sink();
    let (change, _) = apply(&mut sink, message("0", "n1", &[]));
    assert!(change.unwrap().first);
    assert!(sink.missing().is_empty());
}

#[test]
fn a_refused_change_is_not_held() {
    let mut sink = sink();
    let Step::Apply(_, commit) = sink.receive(message("1", "n1", &[("n/a", "1")])).step else {
        panic!("nothing to apply");
    };
    let reply = sink.commit(commit, Err("no".to_owned()));
    let error = reply.error_detail.unwrap();
    assert_eq!((error.code, error.message.as_str()), (3, "no"));
    assert_eq!(sink.missing(), [C]);
    assert_eq!(sink.status()[C].error.as_deref(), Some("no"));
    assert!(sink.versions(C).is_empty());
    let (change, _) = apply(&mut sink, message("1", "n2", &[("n/a", "1")]));
    assert_eq!(change.unwrap().added.len(), 1);
    assert_eq!(sink.status()[C].error, None);
}

#[test]
fn a_foreign_collection_is_refused_as_unimplemented() {
    let mut sink = sink();
    let other = Resources {
        collection: "x/y".to_owned(),
        ..message("1", "n1", &[])
    };
    let (_, reply) = apply(&mut sink, other);
    let error = reply.error_detail.unwrap();
    assert_eq!(
        (error.code, error.message.as_str()),
        (12, "unsupported collection x/y")
    );
}

#[test]
fn unusable_resources_are_dropped_and_the_last_good_one_stays() {
    let mut sink = sink();
    apply(&mut sink, message("1", "n1", &[("n/a", "1"), ("n/b", "1")]));
    let mut bad = message(
        "2",
        "n2",
        &[("n/a", "2"), ("n/b", "2"), ("a/b/c", "1"), ("/x", "1")],
    );
    bad.resources[0].body.as_mut().unwrap().type_url = "type.googleapis.com/x.Y".to_owned();
    bad.resources.push(Resource {
        metadata: None,
        body: None,
    });
    let received = sink.receive(bad);
    assert_eq!(received.dropped.len(), 4);
    let Step::Apply(change, commit) = received.step else {
        panic!("nothing to apply")
    };
    assert_eq!(changed(&change), (vec!["n/b"], vec![]));
    assert_eq!(sink.commit(commit, Ok(())).error_detail, None);
    let versions = sink.versions(C);
    assert_eq!(
        (versions["n/a"].as_str(), versions["n/b"].as_str()),
        ("1", "2")
    );
}

#[test]
fn a_source_without_a_collection_is_asked_for_the_others() {
    let now = Instant::now();
    let mut sink = Sink::new("", [C.to_owned(), "new/one".to_owned()], true);
    assert_eq!(sink.open(now).len(), 2);
    let reason = "unsupported collection \"new/one\"";
    assert_eq!(sink.closed(reason, now), Reconnect::Now);
    let opened = sink.open(now);
    assert_eq!(
        opened
            .iter()
            .map(|r| r.collection.as_str())
            .collect::<Vec<_>>(),
        [C]
    );
    assert_eq!(sink.missing(), [C]);
    assert!(sink.status()["new/one"].unsupported);
    assert_eq!(sink.closed(reason, now), Reconnect::Later);
    assert_eq!(sink.closed("connection reset", now), Reconnect::Later);
    let later = now + UNSUPPORTED_RETRY;
    assert_eq!(sink.retry_at(), Some(later));
    assert_eq!(sink.open(later).len(), 2);
    assert_eq!(sink.retry_at(), None);
}

#[test]
fn too_many_versions_are_not_told() {
    let mut sink = sink();
    let long = "x".repeat(10_000);
    let named: Vec<_> = (0..100).map(|i| format!("n/{long}{i}")).collect();
    let pairs: Vec<_> = named.iter().map(|name| (name.as_str(), "1")).collect();
    apply(&mut sink, message("1", "n1", &pairs));
    assert!(
        sink.open(Instant::now())[0]
            .initial_resource_versions
            .is_empty()
    );
}

/// What may happen between the two.
#[derive(Debug, Clone)]
enum Event {
    Set(u8, u8),
    Remove(u8),
    Publish,
    Deliver,
    Refuse,
    Reconnect,
    RestartSource,
    Wait,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0u8..12, 0u8..4).prop_map(|(n, v)| Event::Set(n, v)),
        2 => (0u8..12).prop_map(Event::Remove),
        4 => Just(Event::Publish),
        6 => Just(Event::Deliver),
        1 => Just(Event::Refuse),
        1 => Just(Event::Reconnect),
        1 => Just(Event::RestartSource),
        1 => Just(Event::Wait),
    ]
}

struct Pair {
    source: Source,
    sink: Sink,
    current: Snapshot,
    version: u64,
    /// What the updater holds.
    applied: BTreeMap<String, String>,
    now: Instant,
}

impl Pair {
    fn connect(&mut self, incremental: bool) {
        self.source = Source::new(incremental);
        for request in self.sink.open(self.now) {
            self.source.request(request, Some(&self.current), self.now);
        }
    }

    fn deliver(&mut self, accept: bool) -> bool {
        let Some(sent) = self.source.next(&self.current, self.now) else {
            return false;
        };
        let reply = match self.sink.receive(sent.message).step {
            Step::Reply(reply) => reply,
            Step::Apply(_, commit) if !accept => self.sink.commit(commit, Err("no".to_owned())),
            Step::Apply(change, commit) => {
                for resource in &change.added {
                    let metadata = resource.metadata.as_ref().unwrap();
                    self.applied
                        .insert(metadata.name.clone(), metadata.version.clone());
                }
                for name in &change.removed {
                    assert!(
                        self.applied.remove(name).is_some(),
                        "removed what was not there"
                    );
                }
                self.sink.commit(commit, Ok(()))
            }
        };
        self.source.request(reply, Some(&self.current), self.now);
        true
    }
}

proptest! {
    /// Whatever happens, once the stream is quiet and nothing was refused the sink holds what the
    /// source serves, full or incremental, over reconnects and restarts.
    #[test]
    fn the_sink_ends_where_the_source_is(
        events in prop::collection::vec(event(), 0..80),
        incremental: bool,
        source_incremental: bool,
    ) {
        let mut pair = Pair {
            source: Source::new(source_incremental),
            sink: Sink::new("", [C.to_owned()], incremental),
            current: snapshot("0", &[]),
            version: 0,
            applied: BTreeMap::new(),
            now: Instant::now(),
        };
        pair.connect(source_incremental);
        let mut resources = super::Resources::default();
        let publish = |pair: &mut Pair, resources: &super::Resources| {
            pair.version += 1;
            let version = pair.version.to_string().into();
            pair.current.insert(C, Collection { version, resources: resources.clone() });
            let current = pair.current.clone();
            pair.source.snapshot(&current);
        };
        for event in events {
            match event {
                Event::Set(name, version) => {
                    let name = format!("n/{name}");
                    resources.insert(name.as_str().into(), resource(&name, &version.to_string()));
                }
                Event::Remove(name) => { resources.remove(format!("n/{name}").as_str()); }
                Event::Publish => publish(&mut pair, &resources),
                Event::Deliver => { pair.deliver(true); }
                Event::Refuse => { pair.deliver(false); }
                Event::Reconnect => pair.connect(source_incremental),
                Event::RestartSource => {
                    // Versions of resources are content; those of collections begin anew.
                    pair.version += 1000;
                    publish(&mut pair, &resources);
                    pair.connect(source_incremental);
                }
                Event::Wait => pair.now += Duration::from_secs(2),
            }
        }
        publish(&mut pair, &resources);
        let mut rounds = 0;
        while pair.deliver(true) {
            rounds += 1;
            prop_assert!(rounds <= 2, "the stream does not come to rest");
        }
        let wanted: BTreeMap<String, String> = resources
            .iter()
            .map(|(name, r)| (name.to_string(), r.metadata.as_ref().unwrap().version.clone()))
            .collect();
        prop_assert_eq!(&pair.applied, &wanted);
        prop_assert_eq!(pair.sink.versions(C), wanted);
    }
}
