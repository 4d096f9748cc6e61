//! Messages of the configuration protocol, from an untrusted peer.

use std::time::{Duration, Instant};

use istio_api::collections::{COLLECTIONS, by_gvk};
use istio_api::distribution::{self, Distribution};
use istio_api::mcp::v1alpha1::{Metadata, RequestResources, Resource, Resources};
use mesh_core::mcp::source::{Dialect, Verdict};
use mesh_core::mcp::{Collection, Snapshot, sink, source};
use prost::Message;
use prost_types::Any;

/// Maximum number of messages in one input.
const MESSAGES: usize = 64;

/// The messages in an input: each is preceded by its length in two bytes.
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

/// Arbitrary messages of a sink, of either service: each collection has at most one outstanding
/// response, deltas are only sent on request, and the stream ends or its memory is bounded.
pub(crate) fn source(bytes: &[u8]) {
    let requests: Vec<RequestResources> = messages(bytes);
    for dialect in [Dialect::Resources, Dialect::Aggregated] {
        stream(dialect, &requests);
    }
}

fn stream(dialect: Dialect, requests: &[RequestResources]) {
    let mut machine = source::Machine::new(dialect, dialect == Dialect::Resources);
    let mut now = Instant::now();
    for (version, request) in requests.iter().enumerate() {
        let snapshot = snapshot(version / 3);
        now += Duration::from_millis(400);
        let verdict = machine.request(request.clone(), Some(&snapshot), now);
        let is_stale = match verdict {
            Verdict::TooMany | Verdict::LongName => return,
            // What a stale request asks for does not count.
            Verdict::Stale { .. } => true,
            Verdict::Subscribe | Verdict::Ack { .. } | Verdict::Nack { .. } => false,
        };
        machine.snapshot(&snapshot);
        while let Some(outgoing) = machine.next(&snapshot, now) {
            let message = outgoing.message;
            assert!(!message.nonce.is_empty());
            let wants_delta = dialect == Dialect::Resources
                && (message.collection != request.collection || request.incremental || is_stale);
            assert!(
                !message.incremental || wants_delta,
                "an unrequested delta of {:?}",
                message.collection
            );
        }
        assert!(machine.progress().count() <= source::MAX_COLLECTIONS);
    }
}

/// A report of a pilot is rejected, or is plausible and about an Istio object.
fn report(resource: &Resource) {
    let Ok((key, said)) = Distribution::from_mcp(resource) else {
        return;
    };
    let Some(row) = by_gvk(key.group, key.kind) else {
        panic!("{key:?} is not an Istio kind");
    };
    let name = distribution::resource_name(row, &key.namespace, &key.name);
    assert_eq!(name, self::name(resource));
    assert!(said.held <= said.reached);
}

/// Arbitrary messages of a source: each is answered, and what is held is what was accepted.
pub(crate) fn sink(bytes: &[u8]) {
    let received: Vec<Resources> = messages(bytes);
    received
        .iter()
        .flat_map(|message| &message.resources)
        .for_each(report);
    let mut now = Instant::now();
    let rows = COLLECTIONS.iter().map(|row| row.name);
    let names = rows.chain([distribution::COLLECTION]).map(str::to_owned);
    let mut machine = sink::Machine::new("fuzz", names, true);
    machine.open(now);
    for (index, message) in received.into_iter().enumerate() {
        now += Duration::from_millis(400);
        match machine.receive(message).step {
            sink::Step::Reply(_) => {}
            sink::Step::Apply(change, commit) => {
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
