//! Faulty and hostile sinks: what they can make the source send and store.

use std::collections::BTreeMap;

use super::*;
use crate::mcp::source::{MAX_NAME_BYTES, MAX_REASON_BYTES, MAX_TOLD_BYTES};

fn of(collection: &str, request: RequestResources) -> RequestResources {
    RequestResources {
        collection: collection.to_owned(),
        ..request
    }
}

fn told(versions: BTreeMap<String, String>) -> RequestResources {
    RequestResources {
        initial_resource_versions: versions,
        ..delta(subscribe())
    }
}

#[test]
fn a_sink_that_never_answers_is_sent_one_response_a_collection() {
    let mut table = Table::new(Some(snapshot("1", &[("a", "1")])));
    let others = ["x/1", "x/2", "x/3"];
    table.ask(subscribe());
    for other in others {
        table.ask(of(other, subscribe()));
    }
    let mut sent = 0;
    for version in 2..200 {
        while table.next().is_some() {
            sent += 1;
        }
        let version = version.to_string();
        table.set(snapshot(&version, &[("a", &version)]));
    }
    assert_eq!(sent, 1 + others.len());
    assert!(!table.source.is_due(table.now));
}

#[test]
fn a_sink_that_refuses_everything_is_sent_each_version_once() {
    let mut table = Table::new(Some(snapshot("1", &[("a", "1")])));
    table.ask(subscribe());
    for version in 2..50 {
        let sent = table.next().unwrap();
        for _ in 0..3 {
            table.ask(nack(&sent.nonce));
            assert_eq!(table.next(), None);
        }
        assert_eq!(table.source.progress_of(C).unwrap().acked, "");
        let version = version.to_string();
        table.set(snapshot(&version, &[("a", &version)]));
    }
}

#[test]
fn the_text_of_a_refusal_is_cut_between_characters() {
    let mut table = Table::new(Some(snapshot("1", &[("a", "1")])));
    table.ask(subscribe());
    table.next().unwrap();
    let mut refusal = nack("1");
    refusal.error_detail.as_mut().unwrap().message = "é".repeat(MAX_REASON_BYTES);
    table.ask(refusal);
    let kept = table.source.progress_of(C).unwrap().nack.clone().unwrap();
    assert_eq!(kept, "é".repeat(MAX_REASON_BYTES / 2));
}

#[test]
fn versions_of_things_that_there_are_not_are_taken_back() {
    let mut table = Table::new(Some(snapshot("1", &[("a", "1"), ("b", "1")])));
    let lies = [("a", "forged"), ("ghost", "1"), ("b", "1")];
    let lies = lies.map(|(name, version)| (name.to_owned(), version.to_owned()));
    table.ask(told(lies.into()));
    let first = table.next().unwrap();
    assert_eq!(names(&first), ["a"]);
    assert_eq!(first.removed_resources, ["ghost"]);
}

#[test]
fn versions_are_told_by_the_first_request_of_a_collection_only() {
    let mut table = Table::new(Some(snapshot("1", &[("a", "1")])));
    table.ask(delta(subscribe()));
    table.next().unwrap();
    let lies = BTreeMap::from([("b".to_owned(), "1".to_owned())]);
    let answer = RequestResources {
        response_nonce: "1".to_owned(),
        ..told(lies)
    };
    table.ask(answer);
    table.set(snapshot("2", &[("a", "1"), ("b", "1")]));
    assert_eq!(names(&table.next().unwrap()), ["b"]);
}

#[test]
fn versions_beyond_the_bound_of_a_stream_are_not_kept() {
    let mut table = Table::new(None);
    let large = BTreeMap::from([("n".repeat(MAX_TOLD_BYTES / 4), String::new())]);
    for collection in ["x/0", "x/1", "x/2", "x/3", "x/4"] {
        table.ask(of(collection, told(large.clone())));
    }
    table.set(snapshot("1", &[]));
    let incremental = std::iter::from_fn(|| table.next()).filter(|sent| sent.incremental);
    // Each takes a little more than a quarter, including overhead.
    assert_eq!(incremental.count(), 3);
}

#[test]
fn a_name_without_measure_ends_the_stream() {
    let mut table = Table::new(Some(Snapshot::default()));
    let longest = "x".repeat(MAX_NAME_BYTES);
    assert_eq!(table.ask(of(&longest, subscribe())), Verdict::Subscribe);
    let longer = format!("{longest}x");
    assert_eq!(table.ask(of(&longer, subscribe())), Verdict::LongName);
}

#[test]
fn foreign_nonces_change_nothing_however_many_there_are() {
    let mut table = Table::new(Some(snapshot("1", &[("a", "1")])));
    for nonce in 0..1000 {
        let nonce = format!("foreign-{nonce}");
        assert_eq!(table.ask(ack(&nonce)), Verdict::Stale { nack: None });
    }
    assert_eq!(table.source.progress().count(), 0);
    table.ask(subscribe());
    let first = table.next().unwrap();
    table.ask(ack("foreign"));
    table.set(snapshot("2", &[("a", "2")]));
    assert_eq!(table.next(), None, "the first is not answered yet");
    table.ask(ack(&first.nonce));
    assert_eq!(table.next().unwrap().system_version_info, "2");
}
