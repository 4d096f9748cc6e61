//! Objects that the API server is asked about while something happens to its webhooks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, PostParams};
use mesh_common::args::KubeArgs;
use mesh_common::kubeclient::{self, Client};
use serde_json::json;
use time::OffsetDateTime as Time;
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};

use crate::fixture::Machine;

/// Questions a second, to each webhook in turn.
const RATE: u32 = 20;
/// Errors that are printed.
const MAX_PRINTED: usize = 20;

/// Dry runs until they are stopped: a Pod that is to be injected, then a route that is to be refused.
pub(crate) struct Questions {
    stop: Arc<AtomicBool>,
    asked: JoinHandle<Result<(usize, Vec<String>)>>,
    begun: Instant,
}

impl Questions {
    pub(crate) fn start(machine: &Machine, runtime: &Runtime) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let kubeconfig = machine.cluster().layout().kubeconfig();
        let kubeconfig = kubeconfig.display().to_string();
        let asked = runtime.spawn(ask(kubeconfig, Arc::clone(&stop)));
        Self {
            stop,
            asked,
            begun: Instant::now(),
        }
    }

    /// Waits for the last answers; every question must have been answered by its webhook.
    pub(crate) fn stop(self, runtime: &Runtime) -> Result<()> {
        let elapsed = self.begun.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        let (asked, wrong) = runtime.block_on(self.asked)??;
        let failed = wrong.len();
        println!("{elapsed:.0} s: {asked} questions to webhooks, {failed} failed");
        let printed = wrong.into_iter().take(MAX_PRINTED).collect::<Vec<_>>();
        ensure!(failed == 0, "{}", printed.join("\n"));
        #[expect(clippy::cast_precision_loss, reason = "some thousand questions")]
        let share = asked as f64 / (f64::from(RATE) * elapsed);
        ensure!(share > 0.9, "{asked} questions in {elapsed:.0} s");
        Ok(())
    }
}

async fn ask(kubeconfig: String, stop: Arc<AtomicBool>) -> Result<(usize, Vec<String>)> {
    let config = kubeclient::config(&KubeArgs { kubeconfig }, "e2e").await?;
    let client = kubeclient::client(config)?;
    let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
    let mut answers = JoinSet::new();
    let (mut asked, mut wrong) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let client = client.clone();
        let is_pod = asked % 2 == 0;
        answers.spawn(async move {
            match is_pod {
                true => injected(client).await,
                false => refused(client).await,
            }
        });
        asked += 1;
        while let Some(answer) = answers.try_join_next() {
            note(answer.context("a question's task died")?, &mut wrong);
        }
    }
    while let Some(answer) = answers.join_next().await {
        note(answer.context("a question's task died")?, &mut wrong);
    }
    Ok((asked, wrong))
}

fn note(answer: Result<()>, wrong: &mut Vec<String>) {
    if let Err(error) = answer {
        wrong.push(format!("{} {error:#}", Time::now_utc()));
    }
}

fn dry_run() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}

/// A Pod of a namespace that is injected, whose answer tells that it was.
async fn injected(client: Client) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "asked", "labels": {"app": "asked"}},
        "spec": {"containers": [{"name": "app", "image": "keelson/samples:0.1.0"}]},
    }))
    .context("a Pod")?;
    let made = pods.create(&dry_run(), &pod).await.context("make a Pod")?;
    let spec = made.spec.unwrap_or_default();
    let mut containers = spec.init_containers.iter().flatten();
    ensure!(
        containers.any(|container| container.name == "istio-proxy"),
        "a Pod was made without a proxy"
    );
    Ok(())
}

/// A route that only the validator knows to be wrong.
async fn refused(client: Client) -> Result<()> {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
    let kind = ApiResource::from_gvk_with_plural(&kind, "virtualservices");
    let routes: Api<DynamicObject> = Api::namespaced_with(client, "default", &kind);
    let route = serde_json::from_value(json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "asked"},
        "spec": {"hosts": ["*.*"], "http": [{"route": [{"destination": {"host": "one"}}]}]},
    }))
    .context("a route")?;
    match routes.create(&dry_run(), &route).await {
        Ok(_) => bail!("a wrong route was taken"),
        Err(kube::Error::Api(status)) if status.message.contains("denied the request") => Ok(()),
        Err(error) => Err(error).context("make a route"),
    }
}
