//! Requests go on while processes are killed and Pods come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mesh::check::stage::Summary;
use mesh::handle::Mesh;
use tokio::task::JoinHandle;

use crate::fixture::{LIMIT, Whole};

const CONTROL_PLANE: [&str; 4] = [
    "istio-citadel",
    "istio-galley",
    "istio-pilot",
    "istio-sidecar-injector",
];
const CLIENT: &str = "default/sleep";

/// `samples load` in the client's Pod until it is stopped.
struct Load(JoinHandle<Result<Summary>>);

impl Load {
    fn start(mesh: &Mesh) -> Self {
        let mesh = mesh.clone();
        Self(tokio::spawn(async move {
            let script = "echo $$ > /tmp/load.pid; exec samples load --rate 200 --duration 10m \
                          --concurrency 16 --count header:x-app-version \
                          http://reviews:9080/reviews/0";
            let command = ["sh", "-c", script];
            let limit = Duration::from_secs(600);
            let output = mesh.exec(CLIENT, None, &command, limit).await?;
            serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))
        }))
    }

    async fn stop(self, mesh: &Mesh) -> Result<Summary> {
        ensure!(
            !self.0.is_finished(),
            "the load ended early: {:?}",
            self.0.await
        );
        let command = ["sh", "-c", "kill -TERM $(cat /tmp/load.pid)"];
        let output = mesh.exec(CLIENT, None, &command, LIMIT).await?;
        ensure!(output.code == 0, "{output:?}");
        self.0.await?
    }
}

/// The product page through the gateway, ten times a second until `stop`; how many, and what failed.
async fn pages(mesh: Mesh, stop: Arc<AtomicBool>) -> Result<(usize, Vec<String>)> {
    let gateway = "istio-ingress/istio-ingressgateway";
    let url = format!("{}/productpage", mesh.published_url(gateway, 80).await?);
    let http = mesh.http_from_host();
    let (mut sent, mut failed) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        sent += 1;
        match http.get(&url).await {
            Ok(answer) if answer.status == 200 && answer.text().contains("Reviewer1") => {}
            Ok(answer) => failed.push(format!("{}: {}", answer.status, answer.text())),
            Err(error) => failed.push(format!("{error:#}")),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok((sent, failed))
}

/// Kills the main processes of `pods` at once and waits until each was started again and is ready.
async fn kill(whole: &Whole, pods: &[&str]) -> Result<()> {
    let mesh = whole.mesh();
    let before = mesh.status(false).await?;
    let restarts = |status: &mesh::node::report::Status, pod: &str| -> Result<u32> {
        Ok(status.pod_named(pod)?.container_named(None)?.restarts)
    };
    for pod in pods {
        mesh.kill(pod, None, None, Some("KILL")).await?;
    }
    mesh.wait_status("started again", LIMIT, |status| {
        pods.iter().all(|pod| {
            let again = restarts(status, pod).ok() > restarts(&before, pod).ok();
            again && status.pod_named(pod).is_ok_and(|pod| pod.ready)
        })
    })
    .await?;
    // The proxies have found the new pilot.
    whole.all_proxies_connected().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_processes_die_and_pods_come_and_go() -> Result<()> {
    let whole = Whole::start().await?;
    let mesh = whole.mesh();
    mesh.scale("default/reviews-v1", 2).await?;
    mesh.wait_settled(LIMIT).await?;

    let stop = Arc::new(AtomicBool::new(false));
    let pages = tokio::spawn(pages(mesh.clone(), Arc::clone(&stop)));
    let load = Load::start(mesh);
    let begun = std::time::Instant::now();
    for pod in CONTROL_PLANE {
        kill(&whole, &[pod]).await?;
    }
    kill(&whole, &CONTROL_PLANE).await?;

    mesh.scale("default/reviews-v1", 1).await?;
    mesh.wait_settled(LIMIT).await?;
    mesh.scale("default/reviews-v1", 3).await?;
    mesh.wait_settled(LIMIT).await?;

    let all_v1 = begun.elapsed();
    let shift = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
                 metadata: {name: reviews}\n\
                 spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v2}}]}]}\n";
    mesh.apply(shift).await?;
    whole.reviews_go_to(CLIENT, "v2").await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for _ in 0..20 {
        assert_eq!(whole.reviews_answer(CLIENT).await?, "v2");
    }

    let elapsed = begun.elapsed();
    let summary = load.stop(mesh).await?;
    stop.store(true, Ordering::Relaxed);
    let (sent, failed) = pages.await??;
    println!("{elapsed:?}, {sent} pages, {summary:?}");
    assert!(
        failed.is_empty(),
        "{} of {sent} pages: {failed:#?}",
        failed.len()
    );
    assert!(sent > 50, "{sent} pages");
    assert_eq!(summary.failed, 0, "{summary:?}");
    assert_eq!(summary.with_status(200), summary.requests, "{summary:?}");
    // The rate was held, and both versions answered for as long as they should.
    let wanted = |time: Duration| 200.0 * time.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "some thousand requests")]
    let (all, v1) = (summary.requests as f64, summary.counted("v1") as f64);
    assert!(all > 0.95 * wanted(elapsed), "{all} in {elapsed:?}");
    assert!(v1 > 0.9 * wanted(all_v1), "{v1} by v1 in {all_v1:?}");
    assert!(summary.counted("v2") > 200, "{summary:?}");
    Ok(())
}
