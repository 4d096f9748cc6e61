//! Pods that an API server is asked to make, as dry runs: with the webhook, and without it to know
//! what is the API server's own time.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use mesh_common::args::KubeArgs;
use mesh_common::kubeclient::{self, Client};
use serde_json::{Value, json};

use super::table::Row;
use mesh::wait::wait_until;

/// Namespace that is made and removed.
const NAMESPACE: &str = "bench-inject";
const LIMIT: Duration = Duration::from_secs(60);

/// Asks for `rate` Pods a second for so many seconds, first without injection, then with it.
///
/// # Errors
/// When the API server refuses a Pod, or gives one back that is not what was asked for.
pub async fn measure(
    kubeconfig: &Path,
    pods: &[Value],
    rate: u32,
    seconds: u32,
) -> Result<Vec<Row>> {
    let kubeconfig = kubeconfig.display().to_string();
    let config = kubeclient::config(&KubeArgs { kubeconfig }, "bench-inject").await?;
    let client = kubeclient::client(config)?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"istio-injection": "enabled"}},
    });
    let owner = PatchParams::apply("bench-inject").force();
    namespaces
        .patch(NAMESPACE, &owner, &Patch::Apply(&namespace))
        .await
        .context("make the namespace")?;
    let measured = both(&client, pods, rate, seconds).await;
    namespaces
        .delete(NAMESPACE, &DeleteParams::default())
        .await
        .context("remove the namespace")?;
    measured
}

async fn both(client: &Client, pods: &[Value], rate: u32, seconds: u32) -> Result<Vec<Row>> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    wait_until("the account of Pods", LIMIT, || async {
        Ok(accounts.get("default").await?)
    })
    .await?;
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let mut rows = Vec::new();
    for (name, is_injected) in [
        ("API server, no webhook", false),
        ("API server, injected", true),
    ] {
        let asked: Vec<Pod> = pods
            .iter()
            .map(|pod| {
                let mut pod = pod.clone();
                if let Some(labels) = pod
                    .pointer_mut("/metadata/labels")
                    .and_then(Value::as_object_mut)
                {
                    let mark = json!(is_injected.to_string());
                    labels.insert("sidecar.istio.io/inject".to_owned(), mark);
                }
                serde_json::from_value(pod).context("a Pod of the samples")
            })
            .collect::<Result<_>>()?;
        // Connections and caches are not what is measured.
        for pod in &asked {
            ask(&api, pod, is_injected).await?;
        }
        let seconds = paced(&api, &asked, is_injected, rate, rate * seconds).await?;
        rows.push(Row::of(name, seconds)?);
    }
    Ok(rows)
}

/// Sends at the rate, however long answers take.
async fn paced(
    api: &Api<Pod>,
    pods: &[Pod],
    is_injected: bool,
    rate: u32,
    count: u32,
) -> Result<Vec<f64>> {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    let mut sent = tokio::task::JoinSet::new();
    for pod in pods.iter().cycle().take(count as usize) {
        tick.tick().await;
        let (api, pod) = (api.clone(), pod.clone());
        sent.spawn(async move { ask(&api, &pod, is_injected).await });
    }
    let mut seconds = Vec::new();
    while let Some(each) = sent.join_next().await {
        seconds.push(each.context("a request's task died")??);
    }
    Ok(seconds)
}

/// One dry run; how long it took.
async fn ask(api: &Api<Pod>, pod: &Pod, is_injected: bool) -> Result<f64> {
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let begun = Instant::now();
    let made = api.create(&params, pod).await.context("make a Pod")?;
    let elapsed = begun.elapsed().as_secs_f64();
    let spec = made.spec.unwrap_or_default();
    let has_proxy = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .any(|container| container.name == "istio-proxy");
    ensure!(
        has_proxy == is_injected,
        "a Pod has {} proxy: is the injector installed?",
        if has_proxy { "a" } else { "no" }
    );
    Ok(elapsed)
}
