//! Both machines, alone and against each other.

mod hostile;
mod legacy;
mod pair;
mod sink;
mod source;

use std::sync::Arc;
use std::time::Instant;

use istio_api::google::rpc::Status;
use istio_api::mcp::v1alpha1::{Metadata, RequestResources, Resource, Resources};
use prost_types::Any;

use super::source::{Dialect, Machine as Source, Request, Verdict};
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

/// A source with its snapshot, clock and transport.
struct Table {
    source: Source,
    snapshot: Option<Snapshot>,
    now: Instant,
}

impl Table {
    fn new(snapshot: Option<Snapshot>) -> Self {
        Self::speaking(Dialect::Resources, snapshot)
    }

    fn speaking(dialect: Dialect, snapshot: Option<Snapshot>) -> Self {
        Self {
            source: Source::new(dialect, true),
            snapshot,
            now: Instant::now(),
        }
    }

    fn ask(&mut self, request: impl Into<Request>) -> Verdict {
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
