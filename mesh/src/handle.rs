//! A running mesh as a program sees it: the library behind the commands and the tests.

mod client;
mod platform;

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::Method;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use self::client::{encode, query};
use crate::admin::Envoy;
use crate::http::Http;
use crate::layout::Layout;
use crate::manifest::{Key, Source};
use crate::node::api::Applied;
use crate::node::report::Status;
use crate::platform::{ExecOutput, World};
use crate::state::RunState;
use crate::stream::Stream;

/// A handle on a mesh that is up. Cheap to clone; calls may run at the same time.
#[derive(Clone, Debug)]
pub struct Mesh {
    layout: Layout,
    node_pid: u32,
}

impl Mesh {
    /// Attaches to the mesh of a state directory.
    ///
    /// # Errors
    /// When none is up there; the text says how to start one.
    pub fn attach(layout: Layout) -> Result<Self> {
        match RunState::running(&layout)? {
            Some(state) => Ok(Self {
                layout,
                node_pid: state.node_pid,
            }),
            None => bail!(
                "no mesh is up in {}: start one with `cargo mesh up`",
                layout.root().display()
            ),
        }
    }

    /// Its files.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Pid of the node as the host sees it.
    #[must_use]
    pub fn node_pid(&self) -> u32 {
        self.node_pid
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T> {
        client::call(&self.layout, method, path, body).await
    }

    /// The mesh at this moment; with `usage` also memory and CPU of each process.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn status(&self, usage: bool) -> Result<Status> {
        self.call(Method::GET, &format!("/status?usage={usage}"), Bytes::new())
            .await
    }

    /// The mesh as soon as something has changed since generation `after`.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn next_status(&self, after: u64) -> Result<Status> {
        self.call(Method::GET, &format!("/status?after={after}"), Bytes::new())
            .await
    }

    /// Waits until `condition` holds for the status; event-driven.
    ///
    /// # Errors
    /// After `limit`; the text says `what` was waited for and what the Pods wait for.
    pub async fn wait_status(
        &self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&Status) -> bool,
    ) -> Result<Status> {
        let mut status = self.status(false).await?;
        let deadline = Instant::now() + limit;
        while !condition(&status) {
            match tokio::time::timeout_at(deadline, self.next_status(status.generation)).await {
                Ok(next) => status = next?,
                Err(_) => bail!("{what}: not within {limit:?}; {}", waiting_pods(&status)),
            }
        }
        Ok(status)
    }

    /// Waits until every wanted Pod runs and is ready and no other one is left.
    ///
    /// # Errors
    /// After `limit`; the text says which Pods are not ready and why.
    pub async fn wait_settled(&self, limit: Duration) -> Result<Status> {
        self.wait_status("all Pods ready", limit, |status| status.settled)
            .await
    }

    /// Applies YAML: objects are added or replaced, all or none.
    ///
    /// # Errors
    /// When a document is not understood; the text names it.
    pub async fn apply(&self, yaml: &str) -> Result<Vec<Applied>> {
        self.apply_sources(&[Source {
            origin: "applied text".to_owned(),
            text: yaml.to_owned(),
        }])
        .await
    }

    /// Applies several texts at once.
    ///
    /// # Errors
    /// When a document is not understood; the text names file and document.
    pub async fn apply_sources(&self, sources: &[Source]) -> Result<Vec<Applied>> {
        let body = serde_json::to_vec(sources).context("encode the manifests")?;
        self.call(Method::POST, "/apply", body.into()).await
    }

    /// The object as it was applied last.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn object(&self, key: &Key) -> Result<Option<serde_json::Value>> {
        let pairs = query(&[
            ("group", Some(&key.group)),
            ("kind", Some(&key.kind)),
            ("namespace", Some(&key.namespace)),
            ("name", Some(&key.name)),
        ]);
        self.call(Method::GET, &format!("/object?{pairs}"), Bytes::new())
            .await
    }

    /// Deletes the objects of a YAML text; those that are not there are left out of the answer.
    ///
    /// # Errors
    /// When a document is not understood.
    pub async fn delete(&self, yaml: &str) -> Result<Vec<Applied>> {
        self.delete_sources(&[Source {
            origin: "text".to_owned(),
            text: yaml.to_owned(),
        }])
        .await
    }

    /// Deletes the objects of several texts.
    ///
    /// # Errors
    /// When a document is not understood.
    pub async fn delete_sources(&self, sources: &[Source]) -> Result<Vec<Applied>> {
        let body = serde_json::to_vec(sources).context("encode the manifests")?;
        self.call(Method::POST, "/delete", body.into()).await
    }

    /// Sets the number of Pods of a Deployment (`name` or `namespace/name`).
    ///
    /// # Errors
    /// When there is none.
    pub async fn scale(&self, deployment: &str, replicas: u32) -> Result<()> {
        let path = format!(
            "/scale?deployment={}&replicas={replicas}",
            encode(deployment)
        );
        self.call(Method::POST, &path, Bytes::new()).await
    }

    /// Sends `signal` (default SIGKILL) to the main process of a container, or to its processes
    /// with the name `process`. The node starts an ended container again. Returns the pids.
    ///
    /// # Errors
    /// When there is no such Pod, container, process or signal.
    pub async fn kill(
        &self,
        pod: &str,
        container: Option<&str>,
        process: Option<&str>,
        signal: Option<&str>,
    ) -> Result<Vec<i32>> {
        let pairs = query(&[
            ("pod", Some(pod)),
            ("container", container),
            ("process", process),
            ("signal", signal),
        ]);
        self.call(Method::POST, &format!("/kill?{pairs}"), Bytes::new())
            .await
    }

    /// Ends the mesh and waits until nothing of it is left.
    ///
    /// # Errors
    /// When the node does not answer or does not end in time.
    pub async fn down(&self) -> Result<()> {
        let layout = self.layout.clone();
        self.call::<()>(Method::POST, "/down", Bytes::new()).await?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while RunState::running(&layout)?.is_some() {
            if Instant::now() > deadline {
                bail!(
                    "the node did not end within 10 s; kill pid {}",
                    self.node_pid
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// A TCP connection made inside a Pod: captured and resolved as for its own processes.
    /// `to` is `HOST:PORT`.
    ///
    /// # Errors
    /// When the Pod is not there, the name does not resolve or nobody listens.
    pub async fn dial(&self, pod: &str, to: &str) -> Result<Stream> {
        client::dial(&self.layout, pod, to).await
    }

    /// An HTTP client whose connections start inside `pod`.
    #[must_use]
    pub fn http_from(&self, pod: &str) -> Http {
        World::new(self.clone()).http_from(pod)
    }

    /// The same with a new connection for each request.
    #[must_use]
    pub fn http_from_without_reuse(&self, pod: &str) -> Http {
        World::new(self.clone()).http_from_without_reuse(pod)
    }

    /// An HTTP client of the host, for published addresses.
    #[must_use]
    pub fn http_from_host(&self) -> Http {
        Http::from_host(true)
    }

    /// The base URL of the published port `port` of the Service `name` or `namespace/name`.
    ///
    /// # Errors
    /// When it is not published.
    pub async fn published_url(&self, service: &str, port: u16) -> Result<String> {
        let status = self.status(false).await?;
        let found = status.published.iter().find(|published| {
            let target = &published.target;
            let full = format!("{}/{}", target.namespace, target.service);
            (target.service == service || full == service) && target.port == port
        });
        let found = found.with_context(|| format!("port {port} of {service} is not published"))?;
        let scheme = if port == 443 { "https" } else { "http" };
        Ok(format!("{scheme}://{}", found.address))
    }

    /// The admin interface of the Envoy in `pod`.
    #[must_use]
    pub fn envoy(&self, pod: &str) -> Envoy {
        Envoy::new(self.http_from(pod))
    }

    /// The command that runs `command` in a container, with the caller's terminal.
    ///
    /// # Errors
    /// When the container does not run.
    pub async fn exec_command(
        &self,
        pod: &str,
        container: Option<&str>,
        command: &[String],
    ) -> Result<Command> {
        let status = self.status(false).await?;
        let container = status.pod_named(pod)?.container_named(container)?;
        let crate::node::pod::status::State::Running { pid, .. } = container.state else {
            bail!("container {} of {pod} does not run", container.name);
        };
        // The node's own program: it has the helper whatever this process is.
        let mut helper = Command::new(format!("/proc/{}/exe", self.node_pid));
        helper
            .arg("enter")
            .arg(self.node_pid.to_string())
            .arg(pid.to_string())
            .arg("--")
            .args(command);
        Ok(helper)
    }

    /// Runs `command` in a container to its end; without a container name in the application's.
    ///
    /// # Errors
    /// When it cannot be started or does not end within `limit`.
    pub async fn exec(
        &self,
        pod: &str,
        container: Option<&str>,
        command: &[&str],
        limit: Duration,
    ) -> Result<ExecOutput> {
        let words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let mut helper =
            tokio::process::Command::from(self.exec_command(pod, container, &words).await?);
        helper.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(limit, helper.output())
            .await
            .with_context(|| format!("{command:?} in {pod}: no end within {limit:?}"))?
            .context("start a command in a Pod")?;
        Ok(ExecOutput {
            code: crate::node::exec::exit_code(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// One line a Pod that is not ready: why.
#[must_use]
pub fn waiting_pods(status: &Status) -> String {
    let lines: Vec<String> = status
        .pods
        .iter()
        .filter(|pod| !pod.ready)
        .map(|pod| {
            let containers: Vec<String> = pod
                .containers
                .iter()
                .filter_map(|container| match &container.state {
                    crate::node::pod::status::State::Waiting { reason } => {
                        Some(format!("{}: {reason}", container.name))
                    }
                    crate::node::pod::status::State::Running { .. } if !container.ready => {
                        Some(format!("{} runs but is not ready", container.name))
                    }
                    _ => None,
                })
                .collect();
            let reason = pod.reason.clone().unwrap_or_else(|| containers.join(", "));
            format!("{}/{}: {reason}", pod.namespace, pod.name)
        })
        .collect();
    if lines.is_empty() {
        "all Pods are ready".to_owned()
    } else {
        lines.join("; ")
    }
}
