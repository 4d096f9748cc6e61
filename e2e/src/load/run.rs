//! The rounds of the benchmark and their table.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tonic::transport::Endpoint;

use super::{
    fixture::{Fixture, Size},
    server::Server,
    sidecar::{CLUSTER, Counters, ENDPOINT, Expectation, Mode, ROUTE, Report, Sidecar},
};

/// How long a round may take.
const ROUND: Duration = Duration::from_secs(60);
/// Quiet time between rounds.
const PAUSE: Duration = Duration::from_millis(500);

/// What to run.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "bench-push",
    about = "Pushes of pilot-discovery to simulated sidecars"
)]
pub struct Args {
    #[arg(long, default_value_t = 200)]
    pub sidecars: usize,
    #[arg(long, default_value_t = 20)]
    pub namespaces: usize,
    #[arg(long, default_value_t = 1000)]
    pub services: usize,
    #[arg(long, default_value_t = 5)]
    pub endpoints: usize,
    #[arg(long, default_value_t = 100)]
    pub virtual_services: usize,
    #[arg(long, default_value_t = 100)]
    pub destination_rules: usize,
    /// Protocol variant; both one after the other when not given.
    #[arg(long)]
    pub mode: Option<Mode>,
    /// The server; by default the one built beside this program.
    #[arg(long)]
    pub server: Option<PathBuf>,
    /// Prints JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// One measured round.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub mode: String,
    pub event: &'static str,
    /// Until the last sidecar had it, from just before the change was written.
    pub seconds: f64,
    /// Of all sidecars together.
    pub bytes: u64,
    pub resource_bytes: u64,
    pub responses: u64,
    pub server_cpu_seconds: f64,
    pub server_resident_bytes: u64,
}

/// Everything that was measured, with the size of the mesh.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    pub sidecars: usize,
    pub services: usize,
    pub rows: Vec<Row>,
    pub server_peak_bytes: u64,
}

/// Runs all rounds.
///
/// # Errors
/// When a round does not end in time or a stream fails.
pub async fn run(args: &Args) -> anyhow::Result<Results> {
    let binary = match &args.server {
        Some(path) => path.clone(),
        None => beside_this("pilot-discovery")?,
    };
    let modes = args
        .mode
        .map_or_else(|| vec![Mode::Delta, Mode::Sotw], |mode| vec![mode]);
    let mut results = Results {
        sidecars: args.sidecars,
        services: args.services,
        rows: Vec::new(),
        server_peak_bytes: 0,
    };
    for mode in modes {
        let dir = tempfile::tempdir()?;
        let mut bench = Bench::start(args, mode, &binary, dir.path()).await?;
        let done = bench.rounds(args).await;
        results.server_peak_bytes = results.server_peak_bytes.max(bench.server.usage()?.peak);
        results.rows.append(&mut bench.rows);
        bench.server.stop().await?;
        done.with_context(|| format!("{mode:?}"))?;
    }
    Ok(results)
}

fn beside_this(name: &str) -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe()?;
    let path = here.parent().unwrap_or_else(|| Path::new(".")).join(name);
    anyhow::ensure!(
        path.is_file(),
        "{} is not there; build it with `cargo build --release -p {name}`",
        path.display()
    );
    Ok(path)
}

struct Bench {
    mode: Mode,
    fixture: Fixture,
    server: Server,
    counters: Arc<Counters>,
    expectation: watch::Sender<Expectation>,
    reports: mpsc::Receiver<Report>,
    reports_tx: mpsc::Sender<Report>,
    sidecars: Vec<Sidecar>,
    rows: Vec<Row>,
}

impl Bench {
    async fn start(args: &Args, mode: Mode, binary: &Path, dir: &Path) -> anyhow::Result<Self> {
        let size = Size {
            namespaces: args.namespaces.max(1),
            services: args.services,
            endpoints: args.endpoints,
            virtual_services: args.virtual_services.min(args.services),
            destination_rules: args.destination_rules.min(args.services),
        };
        let config = dir.join("config");
        let fixture = Fixture::create(&config, size)?;
        let server = Server::start(binary, &config, &dir.join("server.log")).await?;
        let counters = Arc::new(Counters::default());
        let (expectation, expectation_rx) = watch::channel(Expectation::default());
        let (reports_tx, reports) = mpsc::channel(args.sidecars * 4 + 16);
        let sidecars = (0..args.sidecars)
            .map(|index| Sidecar {
                index,
                namespace: format!("ns{}", index % size.namespaces),
                mode,
                counters: counters.clone(),
                expectation: expectation_rx.clone(),
                reports: reports_tx.clone(),
                held: std::collections::BTreeMap::new(),
            })
            .collect();
        Ok(Self {
            mode,
            fixture,
            server,
            counters,
            expectation,
            reports,
            reports_tx,
            sidecars,
            rows: Vec::new(),
        })
    }

    async fn rounds(&mut self, args: &Args) -> anyhow::Result<()> {
        // A service that nothing else refers to, one with a VirtualService, one with a rule.
        let plain = args.services - 1;
        let (mut running, stop) = self.connect("first sync").await?;
        self.change("one endpoint", ENDPOINT, "10.200.0.1", |fixture| {
            fixture.service(plain, "10.200.0.1")
        })
        .await?;
        if args.virtual_services > 0 {
            self.change("one VirtualService", ROUTE, "marker-1", |fixture| {
                fixture.virtual_service(0, "marker-1")
            })
            .await?;
        }
        if args.destination_rules > 0 {
            let cluster = self.fixture.cluster(0);
            self.change("one DestinationRule", CLUSTER, &cluster, |fixture| {
                fixture.destination_rule(0, 77)
            })
            .await?;
        }
        let cluster = self.fixture.cluster(args.services);
        self.change("one new service", CLUSTER, &cluster, |fixture| {
            fixture.service(args.services, "")
        })
        .await?;
        // Everybody gone, everybody back, nothing changed meanwhile.
        let _all_gone = stop.send(true);
        while let Some(ended) = running.join_next().await {
            self.sidecars.push(ended??);
        }
        let (mut running, stop) = self.connect("reconnect of all").await?;
        let _all_gone = stop.send(true);
        while let Some(ended) = running.join_next().await {
            self.sidecars.push(ended??);
        }
        Ok(())
    }

    /// Starts every sidecar and waits until all are synced.
    async fn connect(
        &mut self,
        event: &'static str,
    ) -> anyhow::Result<(JoinSet<anyhow::Result<Sidecar>>, watch::Sender<bool>)> {
        let address = format!("http://{}", self.server.address);
        let (stop, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        let count = self.sidecars.len();
        let round = Round::start(self)?;
        for mut sidecar in std::mem::take(&mut self.sidecars) {
            let (address, stopped) = (address.clone(), stopped.clone());
            running.spawn(async move {
                let channel = Endpoint::from_shared(address)?
                    .initial_stream_window_size(8 << 20)
                    .initial_connection_window_size(16 << 20)
                    .connect()
                    .await?;
                sidecar.run(channel, stopped).await?;
                Ok(sidecar)
            });
        }
        let mut waiting = count;
        while waiting > 0 {
            tokio::select! {
                report = self.reports.recv() => {
                    if report == Some(Report::Synced) {
                        waiting -= 1;
                    }
                }
                Some(ended) = running.join_next() => {
                    ended??;
                    bail!("a sidecar ended during {event}");
                }
                () = tokio::time::sleep_until(round.deadline.into()) => {
                    bail!("{event}: {waiting} of {count} sidecars are not synced after 60 s");
                }
            }
        }
        round.end(self, event).await?;
        Ok((running, stop))
    }

    /// Changes the configuration and waits until every sidecar has the change.
    async fn change(
        &mut self,
        event: &'static str,
        type_url: &'static str,
        marker: &str,
        change: impl FnOnce(&Fixture) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let number = self.expectation.borrow().round + 1;
        self.expectation.send_replace(Expectation {
            round: number,
            type_url,
            marker: marker.to_owned(),
        });
        let count = self.reports_tx.strong_count() - 1;
        let round = Round::start(self)?;
        change(&self.fixture)?;
        let mut waiting = count;
        while waiting > 0 {
            tokio::select! {
                report = self.reports.recv() => {
                    if report == Some(Report::Seen(number)) {
                        waiting -= 1;
                    }
                }
                () = tokio::time::sleep_until(round.deadline.into()) => {
                    bail!("{event}: {waiting} of {count} sidecars do not have it after 60 s");
                }
            }
        }
        round.end(self, event).await
    }
}

/// Figures at the start of a round.
struct Round {
    start: Instant,
    deadline: Instant,
    cpu: Duration,
    bytes: u64,
    resource_bytes: u64,
    responses: u64,
}

impl Round {
    fn start(bench: &Bench) -> anyhow::Result<Self> {
        let counters = &bench.counters;
        let cpu = bench.server.usage()?.cpu;
        let start = Instant::now();
        Ok(Self {
            start,
            deadline: start + ROUND,
            cpu,
            bytes: counters.bytes.load(Ordering::Relaxed),
            resource_bytes: counters.resource_bytes.load(Ordering::Relaxed),
            responses: counters.responses.load(Ordering::Relaxed),
        })
    }

    /// Takes the time, waits for what still comes, then takes the other figures.
    async fn end(self, bench: &mut Bench, event: &'static str) -> anyhow::Result<()> {
        let seconds = self.start.elapsed().as_secs_f64();
        tokio::time::sleep(PAUSE).await;
        let usage = bench.server.usage()?;
        let counters = &bench.counters;
        bench.rows.push(Row {
            mode: format!("{:?}", bench.mode).to_lowercase(),
            event,
            seconds,
            bytes: counters.bytes.load(Ordering::Relaxed) - self.bytes,
            resource_bytes: counters.resource_bytes.load(Ordering::Relaxed) - self.resource_bytes,
            responses: counters.responses.load(Ordering::Relaxed) - self.responses,
            server_cpu_seconds: (usage.cpu - self.cpu).as_secs_f64(),
            server_resident_bytes: usage.resident,
        });
        Ok(())
    }
}

/// The table that people read.
pub fn table(results: &Results) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "{} sidecars, {} services; bytes are those of all sidecars together\n{:<6} {:<22} {:>9} \
         {:>14} {:>15} {:>10} {:>8}\n",
        results.sidecars,
        results.services,
        "mode",
        "event",
        "seconds",
        "bytes",
        "resource bytes",
        "CPU s",
        "RSS MB"
    );
    for row in &results.rows {
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            text,
            "{:<6} {:<22} {:>9.3} {:>14} {:>15} {:>10.2} {:>8.1}",
            row.mode,
            row.event,
            row.seconds,
            row.bytes,
            row.resource_bytes,
            row.server_cpu_seconds,
            row.server_resident_bytes as f64 / 1e6
        );
    }
    let _infallible = writeln!(
        text,
        "server peak resident memory {:.1} MB",
        results.server_peak_bytes as f64 / 1e6
    );
    text
}
