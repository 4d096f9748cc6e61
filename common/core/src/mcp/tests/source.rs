//! The source's machine.

use super::*;
use crate::mcp::source::{MAX_COLLECTIONS, RESUBSCRIBE_INTERVAL};

#[test]
fn a_subscription_is_answered_in_full_and_then_on_change_only() {
    let mut table = Table::new(Some(snapshot("1", &[("b", "1"), ("a", "1")])));
    assert_eq!(table.ask(subscribe()), Verdict::Subscribe);
    let first = table.next().unwrap();
    assert_eq!((names(&first), first.incremental), (vec!["a", "b"], false));
    assert_eq!(first.nonce, "1");
    assert_eq!(table.next(), None);
    // Nothing is sent while a response is outstanding.
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
    // Also before anything was sent.
    assert_eq!(table.ask(ack("7")), Verdict::Stale { nack: None });
    assert_eq!(table.next(), None);
    table.ask(subscribe());
    table.next().unwrap();
    assert_eq!(table.ask(nack("7")), Verdict::Stale { nack: Some(3) });
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
    // It may become known later.
    table.set(super::snapshot("5", &[("a", "1")]));
    assert_eq!(names(&table.next().unwrap()), ["a"]);
}

#[test]
fn too_many_collections_end_the_stream() {
    let mut table = Table::new(None);
    for i in 0..MAX_COLLECTIONS {
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
    // An equal state is sent all the same: the sink waits for it.
    let mut table = Table::new(table.snapshot);
    table.ask(told(&[("a", "1"), ("b", "2")]));
    let first = table.next().unwrap();
    assert!(first.resources.is_empty() && first.removed_resources.is_empty());
}
