//! Requests in the mesh, and pages through the gateway, while something happens.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mesh::check::stage::Summary;
use mesh::platform::World;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use time::OffsetDateTime as Time;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::fixture::Machine;

/// The Pod that sends requests.
pub(crate) const CLIENT: &str = "default/sleep";
/// The Service that pages come through.
pub(crate) const GATEWAY: &str = "istio-ingress/istio-ingressgateway";
/// Where the proxies are that requests pass.
const NAMESPACES: [&str; 2] = ["default", "istio-ingress"];
/// Requests a second in the mesh.
const RATE: u32 = 100;
/// Lines of one proxy's access log that a failure tells.
const MAX_LINES: usize = 20;

/// What is sent until it is stopped.
pub(crate) struct Load {
    inside: Child,
    stop: Arc<AtomicBool>,
    outside: JoinHandle<Result<(usize, Vec<String>)>>,
    begun: Instant,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Report {
    elapsed: Duration,
    inside: Summary,
    pages: usize,
    failed_pages: Vec<String>,
}

impl Load {
    pub(crate) fn start(machine: &Machine, runtime: &Runtime) -> Result<Self> {
        let world = machine.world();
        let stop = Arc::new(AtomicBool::new(false));
        // Not by kubectl: the load goes on while the API server is away.
        let client = runtime.block_on(machine.pod(CLIENT))?;
        let rate = RATE.to_string();
        let inside = client
            .command("samples")?
            .args(["/usr/local/bin/samples", "load", "--rate", &rate])
            .args(["--duration", "20m", "--concurrency", "16"])
            .arg("http://reviews:9080/reviews/0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the load")?;
        let outside = runtime.spawn(pages(world, Arc::clone(&stop)));
        Ok(Self {
            inside,
            stop,
            outside,
            begun: Instant::now(),
        })
    }

    /// Ends it and waits for the last answers.
    pub(crate) fn stop(self, runtime: &Runtime) -> Result<Report> {
        let elapsed = self.begun.elapsed();
        self.stop.store(true, Ordering::Relaxed);
        let pid = i32::try_from(self.inside.id()).context("a pid out of range")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("end the load")?;
        let output = self
            .inside
            .wait_with_output()
            .context("wait for the load")?;
        let inside =
            serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
        let (pages, failed_pages) = runtime.block_on(self.outside)??;
        Ok(Report {
            elapsed,
            inside,
            pages,
            failed_pages,
        })
    }
}

impl Report {
    /// Every request was answered, and as many were sent as should be. Otherwise the error tells what
    /// the proxies know of it.
    pub(crate) fn is_whole(&self, machine: &Machine) -> Result<()> {
        self.check()
            .map_err(|error| error.context(refusals(machine, self.elapsed)))
    }

    fn check(&self) -> Result<()> {
        println!(
            "{:.0} s: {} requests, {} failed; {} pages, {} failed",
            self.elapsed.as_secs_f64(),
            self.inside.requests,
            self.inside.requests - self.inside.with_status(200),
            self.pages,
            self.failed_pages.len()
        );
        ensure!(self.failed_pages.is_empty(), "{self:#?}");
        ensure!(self.inside.failed == 0, "{self:#?}");
        ensure!(
            self.inside.with_status(200) == self.inside.requests,
            "{self:#?}"
        );
        let wanted = f64::from(RATE) * self.elapsed.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "some thousand requests")]
        let requests = self.inside.requests as f64;
        ensure!(requests > 0.9 * wanted, "{requests} of {wanted} requests");
        Ok(())
    }
}

/// Lines of the proxies' access logs about answers from 500 on, and about none.
fn refusals(machine: &Machine, elapsed: Duration) -> String {
    let since = format!("--since={}s", elapsed.as_secs() + 5);
    let is_refusal = |line: &&str| {
        let outcome = line.split("\" ").nth(1).unwrap_or_default();
        // A raw connection has no status: without flags nothing is wrong with it.
        outcome.starts_with('5') || outcome.starts_with("0 ") && !outcome.starts_with("0 - ")
    };
    let told = |text: Result<String>| text.unwrap_or_else(|error| format!("{error:#}"));
    let mut lines = Vec::new();
    for namespace in NAMESPACES {
        let names = machine.kubectl(&["get", "pods", "-o", "name", "-n", namespace]);
        for pod in told(names).lines() {
            let log = machine.kubectl(&["logs", pod, "-n", namespace, "-c", "istio-proxy", &since]);
            let log = told(log);
            let refused = log.lines().filter(is_refusal).take(MAX_LINES);
            lines.extend(refused.map(|line| format!("{pod}: {line}")));
        }
    }
    lines.join("\n")
}

/// The product page, ten times a second until `stop`; how many, and what failed.
async fn pages(world: World, stop: Arc<AtomicBool>) -> Result<(usize, Vec<String>)> {
    let url = format!("{}/productpage", world.published_url(GATEWAY, 80).await?);
    let http = world.http_from_host();
    let (mut sent, mut failed) = (0, Vec::new());
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        sent += 1;
        match http.get(&url).await {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => {
                failed.push(format!(
                    "{} {}: {:.200}",
                    Time::now_utc(),
                    answer.status,
                    answer.text()
                ));
            }
            Err(error) => failed.push(format!("{} {error:#}", Time::now_utc())),
        }
    }
    Ok((sent, failed))
}
