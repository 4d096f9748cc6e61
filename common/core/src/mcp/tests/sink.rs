//! The sink's machine.

use super::*;
use crate::mcp::sink::{Change, Machine as Sink, Reconnect, Step, UNSUPPORTED_RETRY};

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
    // The same content again: acknowledged without a change.
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
    let later = now + UNSUPPORTED_RETRY;
    assert_eq!(sink.retry_at(), Some(later));
    assert_eq!(sink.open(later).len(), 2);
    assert_eq!(sink.retry_at(), None);
    // It is still missing; then the connection moves, perhaps to a source that has it.
    assert_eq!(sink.closed(reason, later), Reconnect::Now);
    assert_eq!(sink.open(later).len(), 1);
    assert_eq!(sink.closed("connection reset", later), Reconnect::Later);
    assert_eq!(sink.open(later).len(), 2);
    assert_eq!(sink.missing(), [C], "it is not waited for meanwhile");
    let found = Resources {
        collection: "new/one".to_owned(),
        ..message("1", "n1", &[])
    };
    apply(&mut sink, found);
    assert!(!sink.status()["new/one"].unsupported);
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
