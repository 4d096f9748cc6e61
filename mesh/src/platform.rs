//! What tasks and load need of the place where a mesh runs, be it this machine or a cluster.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::BoxFuture;
use serde_json::Value;

use crate::manifest::{Key, Source};
use crate::stream::Stream;

/// What a command in a Pod did.
#[derive(Clone, Debug)]
pub struct ExecOutput {
    /// Exit code, 128 + signal for a killed command.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A place where a mesh runs. A Pod is named by its own name or its Deployment's, with or
/// without `namespace/`.
pub trait Platform: Debug + Send + Sync {
    /// Makes objects what the manifests say.
    fn apply<'a>(&'a self, sources: &'a [Source]) -> BoxFuture<'a, Result<()>>;

    /// Deletes the objects of manifests; those that are not there are not an error.
    fn delete<'a>(&'a self, sources: &'a [Source]) -> BoxFuture<'a, Result<()>>;

    /// The object as somebody would apply it again, if it is there.
    fn object<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Value>>>;

    /// Replaces text in an object where galley reads it; when the change was handed over.
    fn rewrite<'a>(
        &'a self,
        key: &'a Key,
        from: &'a str,
        into: &'a str,
    ) -> BoxFuture<'a, Result<Instant>>;

    /// Waits until every Pod that should be there is ready.
    fn settle(&self, limit: Duration) -> BoxFuture<'_, Result<()>>;

    /// A TCP connection made inside a Pod: captured and resolved as for its own processes.
    fn dial<'a>(&'a self, pod: &'a str, to: &'a str) -> BoxFuture<'a, Result<Stream>>;

    /// Runs a command in a container to its end; without a name in the application's.
    fn exec<'a>(
        &'a self,
        pod: &'a str,
        container: Option<&'a str>,
        command: &'a [&'a str],
        limit: Duration,
    ) -> BoxFuture<'a, Result<ExecOutput>>;

    /// The base URL by which this machine reaches a port of a Service of type LoadBalancer.
    fn published_url<'a>(&'a self, service: &'a str, port: u16) -> BoxFuture<'a, Result<String>>;
}

/// A place, and what follows from it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct World(Arc<dyn Platform>);

impl World {
    /// Of a place.
    pub fn new(platform: impl Platform + 'static) -> Self {
        Self(Arc::new(platform))
    }
}

impl std::ops::Deref for World {
    type Target = dyn Platform;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}
