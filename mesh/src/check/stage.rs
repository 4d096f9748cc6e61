//! What a task stands on: applying files, waiting for proxies, sending requests, keeping rows.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Row;
use crate::http::{Answer, Http};
use crate::manifest::{self, Key, Source};
use crate::platform::World;
use crate::start::binaries;
use crate::wait::wait_until;

/// How long a change may take to be in a proxy, and a Pod to be ready.
const LIMIT: Duration = Duration::from_secs(30);
/// The Pod that most requests come from.
pub const CLIENT: &str = "default/sleep";

/// What was seen, and whether it is what had to be.
pub type Seen = (bool, String);

/// The stage of one task.
pub struct Stage<'a> {
    /// The mesh.
    pub mesh: World,
    task: &'static str,
    report: &'a mut dyn FnMut(&Row),
    rows: Vec<Row>,
    since: Instant,
    former: BTreeMap<Key, Option<Value>>,
}

impl std::fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage")
            .field("task", &self.task)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl<'a> Stage<'a> {
    pub(super) fn new(mesh: World, task: &'static str, report: &'a mut dyn FnMut(&Row)) -> Self {
        Self {
            mesh,
            task,
            report,
            rows: Vec::new(),
            since: Instant::now(),
            former: BTreeMap::new(),
        }
    }

    /// Notes what was seen; an error is what was seen, too.
    pub fn row(&mut self, check: impl Display, wanted: impl Display, seen: Result<Seen>) {
        let (passed, seen) = seen.unwrap_or_else(|error| (false, format!("{error:#}")));
        let row = Row {
            task: self.task,
            check: check.to_string(),
            wanted: wanted.to_string(),
            seen,
            passed,
            seconds: self.since.elapsed().as_secs_f64(),
        };
        self.since = Instant::now();
        (self.report)(&row);
        self.rows.push(row);
    }

    /// Applies a file below `samples/`.
    ///
    /// # Errors
    /// When it cannot be read or the mesh does not take it.
    pub async fn apply(&mut self, file: &str) -> Result<()> {
        let path: PathBuf = binaries::workspace().join("samples").join(file);
        self.apply_sources(&manifest::read_paths(&[path])?).await
    }

    /// Applies objects that were made here.
    ///
    /// # Errors
    /// When the mesh does not take them.
    pub async fn apply_text(&mut self, text: String) -> Result<()> {
        let origin = format!("task {}", self.task);
        self.apply_sources(&[Source { origin, text }]).await
    }

    async fn apply_sources(&mut self, sources: &[Source]) -> Result<()> {
        for source in sources {
            for (key, _) in manifest::parse(source)? {
                if !self.former.contains_key(&key) {
                    let held = self.mesh.object(&key).await?;
                    self.former.insert(key, held);
                }
            }
        }
        self.mesh.apply(sources).await?;
        Ok(())
    }

    /// Waits until all Pods are ready.
    ///
    /// # Errors
    /// After 30 s; the text says which are not.
    pub async fn settle(&self) -> Result<()> {
        self.mesh.settle(LIMIT).await?;
        Ok(())
    }

    /// Makes every object what it was before and returns the rows.
    pub(super) async fn end(self) -> Result<Vec<Row>> {
        let encode = |values: Vec<Value>| -> Result<Vec<Source>> {
            let text = |value: &Value| serde_yaml::to_string(value).context("encode an object");
            let origin = || "what was there before".to_owned();
            values
                .iter()
                .map(|value| {
                    Ok(Source {
                        origin: origin(),
                        text: text(value)?,
                    })
                })
                .collect()
        };
        let (mut created, mut changed) = (Vec::new(), Vec::new());
        for (key, former) in self.former {
            match former {
                Some(value) => changed.push(value),
                None => created.extend(self.mesh.object(&key).await?),
            }
        }
        self.mesh.delete(&encode(created)?).await?;
        self.mesh.apply(&encode(changed)?).await?;
        self.mesh.settle(LIMIT).await?;
        Ok(self.rows)
    }

    /// Waits until the virtual host `name` of route `route` in the proxy of `pod` is as wanted.
    ///
    /// # Errors
    /// After 30 s; the text holds the virtual host as it was last.
    pub async fn until_routed(
        &self,
        pod: &str,
        route: &str,
        name: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let envoy = self.mesh.envoy(pod);
        wait_until(&format!("routes of {name} in {pod}"), LIMIT, || async {
            agrees(&envoy.virtual_host(route, name).await?, &wanted)
        })
        .await
    }

    /// Waits until the cluster `name` in the proxy of `pod` is as wanted.
    ///
    /// # Errors
    /// After 30 s; the text holds the cluster as it was last.
    pub async fn until_cluster(
        &self,
        pod: &str,
        name: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let envoy = self.mesh.envoy(pod);
        wait_until(&format!("cluster {name} in {pod}"), LIMIT, || async {
            agrees(&envoy.cluster(name).await?, &wanted)
        })
        .await
    }

    /// Waits until the listener `name` in the proxy of `pod` is as wanted.
    ///
    /// # Errors
    /// After 30 s; the text holds the listener as it was last.
    pub async fn until_listener(
        &self,
        pod: &str,
        name: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let envoy = self.mesh.envoy(pod);
        wait_until(&format!("listener {name} in {pod}"), LIMIT, || async {
            agrees(&envoy.listener(name).await?, &wanted)
        })
        .await
    }

    /// Waits until `probe` agrees and returns what it saw then, or saw last.
    ///
    /// # Errors
    /// When `probe` gives errors until the end.
    pub async fn until<F>(&self, limit: Duration, mut probe: impl FnMut() -> F) -> Result<Seen>
    where
        F: Future<Output = Result<Seen>>,
    {
        let deadline = Instant::now() + limit;
        loop {
            let seen = probe().await;
            let agreed = seen.as_ref().is_ok_and(|(agreed, _)| *agreed);
            if agreed || Instant::now() >= deadline {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends the load that `args` of `samples load` describe from `pod`; returns its summary.
    ///
    /// # Errors
    /// When it cannot be sent, or any request had no answer at all.
    pub async fn load(&self, pod: &str, args: &[&str]) -> Result<Summary> {
        let command = [&["samples", "load"], args].concat();
        let output = self
            .mesh
            .exec(pod, None, &command, Duration::from_secs(120))
            .await?;
        ensure!(output.code == 0, "samples load: {}", output.stderr.trim());
        serde_json::from_str(&output.stdout).context("understand the summary of the load")
    }

    /// An HTTP client in a Pod, a new connection for each request.
    #[must_use]
    pub fn http(&self, pod: &str) -> Http {
        self.mesh.http_from_without_reuse(pod)
    }
}

/// The summary that `samples load` prints.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Summary {
    /// Sent.
    pub requests: u64,
    /// Without a whole answer.
    pub failed: u64,
    /// Why there was none.
    #[serde(default)]
    pub failures: BTreeMap<String, u64>,
    /// Answers by status code.
    pub status: BTreeMap<String, u64>,
    /// Answers by what `--count` names.
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
    /// The first that went wrong, with their times.
    #[serde(default)]
    pub errors: Vec<Value>,
}

impl Summary {
    /// Answers whose counted value begins with `prefix`.
    #[must_use]
    pub fn counted(&self, prefix: &str) -> u64 {
        let matching = self
            .counts
            .iter()
            .filter(|(key, _)| key.starts_with(prefix));
        matching.map(|(_, count)| count).sum()
    }

    /// Answers with this status.
    #[must_use]
    pub fn with_status(&self, status: u16) -> u64 {
        self.status.get(&status.to_string()).copied().unwrap_or(0)
    }
}

fn agrees(resource: &Value, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let text = resource.to_string();
    ensure!(wanted(&text), "it is {text:.2000}");
    Ok(())
}

/// Whether the status is the wanted one.
#[must_use]
pub fn status(answer: &Answer, wanted: u16) -> Seen {
    (
        answer.status == wanted,
        format!(
            "{} after {:.2} s",
            answer.status.as_u16(),
            answer.elapsed.as_secs_f64()
        ),
    )
}
