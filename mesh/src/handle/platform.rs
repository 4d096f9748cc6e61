//! A mesh on this machine as a [`Platform`].

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::Mesh;
use crate::manifest::{Key, Source};
use crate::platform::{ExecOutput, Platform};
use crate::stream::Stream;

impl Platform for Mesh {
    fn apply<'a>(&'a self, sources: &'a [Source]) -> BoxFuture<'a, Result<()>> {
        async move { self.apply_sources(sources).await.map(drop) }.boxed()
    }

    fn delete<'a>(&'a self, sources: &'a [Source]) -> BoxFuture<'a, Result<()>> {
        async move { self.delete_sources(sources).await.map(drop) }.boxed()
    }

    fn object<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<serde_json::Value>>> {
        self.object(key).boxed()
    }

    /// In galley's directory.
    fn rewrite<'a>(
        &'a self,
        key: &'a Key,
        from: &'a str,
        into: &'a str,
    ) -> BoxFuture<'a, Result<std::time::Instant>> {
        async move {
            let path = self.layout().objects().join(key.file_name());
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("read {}", path.display()))?;
            ensure!(text.contains(from), "{} has no {from:?}", path.display());
            let begun = std::time::Instant::now();
            std::fs::write(&path, text.replace(from, into))
                .with_context(|| format!("write {}", path.display()))?;
            Ok(begun)
        }
        .boxed()
    }

    fn settle(&self, limit: Duration) -> BoxFuture<'_, Result<()>> {
        async move { self.wait_settled(limit).await.map(drop) }.boxed()
    }

    fn dial<'a>(&'a self, pod: &'a str, to: &'a str) -> BoxFuture<'a, Result<Stream>> {
        self.dial(pod, to).boxed()
    }

    fn exec<'a>(
        &'a self,
        pod: &'a str,
        container: Option<&'a str>,
        command: &'a [&'a str],
        limit: Duration,
    ) -> BoxFuture<'a, Result<ExecOutput>> {
        self.exec(pod, container, command, limit).boxed()
    }

    fn published_url<'a>(&'a self, service: &'a str, port: u16) -> BoxFuture<'a, Result<String>> {
        self.published_url(service, port).boxed()
    }
}
