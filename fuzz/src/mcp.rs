//! Messages of the configuration protocol, from a peer that may say anything.

use std::time::{Duration, Instant};

use istio_api::collections::COLLECTIONS;
use istio_api::mcp::v1alpha1::{Metadata, RequestResources, Resource, Resources};
use mesh_common::mcp::{Collection, Snapshot, sink, source};
use prost::Message;
use prost_types::Any;

/// More messages than this are not taken from one input.
const MESSAGES: usize = 64;

/// The messages of an input: each is preceded by its length as two bytes.
fn messages<T: Message + Default>(mut bytes: &[u8]) -> Vec<T> {
    let mut found = Vec::new();
    while let Some((length, rest)) = bytes.split_at_checked(2) {
        let length: usize = length
            .iter()
            .fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
        let (message, rest) = rest.split_at(length.min(rest.len()));
        bytes = rest;
        if let Ok(message) = T::decode(message) {
            found.push(message);
        }
        if found.len() == MESSAGES {
            break;
        }
    }
    found
}

fn snapshot(version: usize) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for row in COLLECTIONS {
        let mut collection = Collection {
            version: version.to_string().into(),
            ..Collection::default()
        };
        for name in ["a/a", "a/b"] {
            let resource = Resource {
                metadata: Some(Metadata {
                    name: name.to_owned(),
                    version: version.to_string(),
                    ..Metadata::default()
                }),
                body: Some(Any::default()),
            };
            collection.resources.insert(name.into(), resource.into());
        }
        snapshot.insert(row.name, collection);
    }
    snapshot
}

/// A sink says anything: at most one response of a collection is under way, none is a delta that
/// was not asked for, and the stream ends or its memory is bounded.
pub(crate) fn source(bytes: &[u8]) {
    let requests: Vec<RequestResources> = messages(bytes);
    let mut machine = source::Machine::new(true);
    let mut now = Instant::now();
    for (version, request) in requests.into_iter().enumerate() {
        let snapshot = snapshot(version / 3);
        let wants_deltas = request.incremental;
        let collection = request.collection.clone();
        now += Duration::from_millis(400);
        let verdict = machine.request(request, Some(&snapshot), now);
        if verdict == source::Verdict::TooMany {
            return;
        }
        // What a stale request wants does not count.
        let may_be_any = matches!(verdict, source::Verdict::Stale { .. });
        machine.snapshot(&snapshot);
        while let Some(outgoing) = machine.next(&snapshot, now) {
            let message = outgoing.message;
            assert!(!message.nonce.is_empty());
            let is_delta = message.incremental && message.collection == collection;
            assert!(
                !is_delta || wants_deltas || may_be_any,
                "a delta of {collection:?} that was not asked for"
            );
        }
        let progress = machine.progress().count();
        assert!(progress <= source::machine::MAX_COLLECTIONS);
    }
}

/// A source says anything: every message is answered, and what is held is what was accepted.
pub(crate) fn sink(bytes: &[u8]) {
    let received: Vec<Resources> = messages(bytes);
    let mut now = Instant::now();
    let names = COLLECTIONS.iter().map(|row| row.name.to_owned());
    let mut machine = sink::Machine::new("fuzz", names, true);
    machine.open(now);
    for (index, message) in received.into_iter().enumerate() {
        now += Duration::from_millis(400);
        match machine.receive(message).step {
            sink::machine::Step::Reply(_) => {}
            sink::machine::Step::Apply(change, commit) => {
                assert!(change.added.is_sorted_by_key(|one| name(one).to_owned()));
                assert!(change.removed.is_sorted());
                let removed = change.removed.clone();
                let collection = change.collection.clone();
                let applied = if index % 5 == 4 {
                    Err("no".to_owned())
                } else {
                    Ok(())
                };
                let is_applied = applied.is_ok();
                machine.commit(commit, applied);
                let held = machine.versions(&collection);
                if is_applied {
                    assert!(removed.iter().all(|name| !held.contains_key(name)));
                    assert!(change.added.iter().all(|one| held.contains_key(name(one))));
                }
            }
        }
        if index % 7 == 6 {
            machine.closed("gone", now);
            machine.open(now);
        }
    }
}

fn name(resource: &Resource) -> &str {
    let metadata = resource.metadata.as_ref();
    metadata.map_or("", |metadata| metadata.name.as_str())
}
