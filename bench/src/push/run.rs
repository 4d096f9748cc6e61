//! The rounds of the benchmark.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tonic::transport::Endpoint;

use crate::process::{Usage, beside_this};

use super::{
    decode::Decoder,
    fixture::{Fixture, Size},
    held::{Expectation, Held, Service},
    server::Server,
    sidecar::{Counters, Mode, Report, Sidecar},
    table::{Results, Row},
};

/// How long a round may take.
const ROUND: Duration = Duration::from_secs(120);
/// Quiet time between rounds.
const PAUSE: Duration = Duration::from_millis(300);

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
    /// Endpoints of each service.
    #[arg(long, default_value_t = 5)]
    pub endpoints: usize,
    #[arg(long, default_value_t = 100)]
    pub virtual_services: usize,
    #[arg(long, default_value_t = 100)]
    pub destination_rules: usize,
    /// Sizes of the mesh to measure one after the other, as multiples of services,
    /// VirtualServices and DestinationRules: `1,5` shows whether a change costs more in a mesh
    /// five times as large.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub scale: Vec<usize>,
    /// Multiplies the sidecars by the scale as well.
    #[arg(long)]
    pub scale_sidecars: bool,
    /// How often each change is made; the table shows the median time, the worst, and the mean
    /// of the rest.
    #[arg(long, default_value_t = 5)]
    pub repeat: usize,
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

/// Runs all rounds.
///
/// # Errors
/// When a round does not end in time, a stream fails, or a sidecar is sent something wrong.
pub async fn run(args: &Args) -> anyhow::Result<Results> {
    ensure!(
        args.services > 0 && args.sidecars > 0,
        "an empty mesh measures nothing"
    );
    let binary = match &args.server {
        Some(path) => path.clone(),
        None => beside_this("pilot-discovery")?,
    };
    let modes = args
        .mode
        .map_or_else(|| vec![Mode::Delta, Mode::Sotw], |mode| vec![mode]);
    let mut rows = Vec::new();
    for scale in &args.scale {
        for mode in &modes {
            let dir = tempfile::tempdir()?;
            let mut bench = Bench::start(args, *mode, *scale, &binary, dir.path()).await?;
            let done = bench.rounds(args).await;
            rows.append(&mut bench.rows);
            bench.server.stop().await?;
            done.with_context(|| format!("{mode:?}, scale {scale}"))?;
        }
    }
    Ok(Results { rows })
}

struct Bench {
    mode: Mode,
    scale: usize,
    binary: PathBuf,
    config: PathBuf,
    dir: PathBuf,
    fixture: Fixture,
    server: Server,
    counters: Arc<Counters>,
    expectation: watch::Sender<Expectation>,
    reports: mpsc::Receiver<Report>,
    /// At rest, or empty while they run.
    sidecars: Vec<Sidecar>,
    count: usize,
    rows: Vec<Row>,
}

/// Sidecars that run.
struct Running {
    tasks: JoinSet<anyhow::Result<Sidecar>>,
    stop: watch::Sender<bool>,
}

impl Bench {
    async fn start(
        args: &Args,
        mode: Mode,
        scale: usize,
        binary: &Path,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let services = args.services * scale;
        let size = Size {
            namespaces: args.namespaces.max(1),
            services,
            endpoints: args.endpoints,
            virtual_services: (args.virtual_services * scale).min(services),
            destination_rules: (args.destination_rules * scale).min(services),
        };
        let count = args.sidecars * if args.scale_sidecars { scale } else { 1 };
        let config = dir.join("config");
        let fixture = Fixture::create(&config, size)?;
        let start = Instant::now();
        let server = Server::start(binary, &config, &dir.join("server.log")).await?;
        let loaded = start.elapsed();
        let counters = Arc::new(Counters::default());
        let decoder = Arc::new(Decoder::default());
        let (expectation, expectation_rx) = watch::channel(Expectation::default());
        let (reports_tx, reports) = mpsc::channel(count * 4 + 16);
        let sidecars = (0..count)
            .map(|index| Sidecar {
                index,
                namespace: format!("ns{}", index % size.namespaces),
                mode,
                decoder: decoder.clone(),
                counters: counters.clone(),
                expectation: expectation_rx.clone(),
                reports: reports_tx.clone(),
                held: Held::default(),
                met: 0,
                prepared: Vec::new(),
            })
            .collect();
        let mut bench = Self {
            mode,
            scale,
            binary: binary.to_owned(),
            config,
            dir: dir.to_owned(),
            fixture,
            server,
            counters,
            expectation,
            reports,
            sidecars,
            count,
            rows: Vec::new(),
        };
        let usage = bench.server.usage()?;
        let row = bench.row(
            "load",
            loaded.as_secs_f64(),
            usage.cpu_since(&Usage::default()),
            &usage,
        );
        bench.rows.push(row);
        Ok(bench)
    }

    /// A row without traffic.
    fn row(&self, event: &'static str, seconds: f64, cpu: Duration, usage: &Usage) -> Row {
        Row {
            scale: self.scale,
            services: self.fixture.len(),
            sidecars: self.count,
            mode: format!("{:?}", self.mode).to_lowercase(),
            event,
            repetitions: 1,
            seconds,
            seconds_worst: seconds,
            bytes: 0,
            resource_bytes: 0,
            responses: 0,
            resent: 0,
            server_cpu_seconds: cpu.as_secs_f64(),
            server_resident_bytes: usage.resident,
            server_peak_bytes: usage.peak,
        }
    }

    async fn rounds(&mut self, args: &Args) -> anyhow::Result<()> {
        let mut running = self.connect("first sync").await?;
        let repeat = args.repeat.max(1);
        // Services that nothing else refers to, with a VirtualService, with a rule.
        let plain = self.fixture.len() - 1;
        self.change(&mut running, "one endpoint", repeat, |fixture, n| {
            fixture.set_endpoint(plain, &format!("10.200.0.{}", n + 1))?;
            Ok(plain)
        })
        .await?;
        if args.virtual_services > 0 {
            self.change(&mut running, "one VirtualService", repeat, |fixture, n| {
                fixture.mark(0, &format!("marker-{n}"))?;
                Ok(0)
            })
            .await?;
        }
        if args.destination_rules > 0 {
            self.change(&mut running, "one DestinationRule", repeat, |fixture, n| {
                fixture.limit(0, 200 + u32::try_from(n)?)?;
                Ok(0)
            })
            .await?;
        }
        self.change(&mut running, "one new service", repeat, |fixture, _| {
            fixture.add_service()
        })
        .await?;
        self.disconnect(running).await?;
        let mut running = self.connect("reconnect of all").await?;
        // They were sent nothing; what comes now shows that the streams work all the same.
        self.change(&mut running, "endpoint afterwards", 1, |fixture, _| {
            fixture.set_endpoint(plain, "10.201.0.1")?;
            Ok(plain)
        })
        .await?;
        self.disconnect(running).await?;
        // Another process with the same configuration: nothing is sent again either.
        let log = self.dir.join("replica.log");
        let replica = Server::start(&self.binary, &self.config, &log).await?;
        let old = std::mem::replace(&mut self.server, replica);
        old.stop().await?;
        let running = self.connect("another replica").await?;
        self.disconnect(running).await
    }

    /// Starts every sidecar and waits until all hold everything.
    async fn connect(&mut self, event: &'static str) -> anyhow::Result<Running> {
        let address = format!("http://{}", self.server.address);
        let (stop, stopped) = watch::channel(false);
        let mut running = Running {
            tasks: JoinSet::new(),
            stop,
        };
        let number = self.expect(self.fixture.all());
        for sidecar in &mut self.sidecars {
            sidecar.prepare();
        }
        let round = Round::start(self)?;
        for mut sidecar in std::mem::take(&mut self.sidecars) {
            let (address, stopped) = (address.clone(), stopped.clone());
            running.tasks.spawn(async move {
                let channel = Endpoint::from_shared(address)?
                    .initial_stream_window_size(8 << 20)
                    .initial_connection_window_size(16 << 20)
                    .connect()
                    .await?;
                let index = sidecar.index;
                let ran = sidecar.run(channel, stopped).await;
                ran.with_context(|| format!("sidecar {index}"))?;
                Ok(sidecar)
            });
        }
        self.wait(&mut running, event, Report::Met(number)).await?;
        let row = round.end(self, event).await?;
        self.rows.push(row);
        Ok(running)
    }

    async fn disconnect(&mut self, mut running: Running) -> anyhow::Result<()> {
        running.stop.send_replace(true);
        while let Some(ended) = running.tasks.join_next().await {
            self.sidecars.push(ended??);
        }
        ensure!(self.sidecars.len() == self.count, "sidecars got lost");
        self.sidecars.sort_by_key(|sidecar| sidecar.index);
        Ok(())
    }

    /// Tells all sidecars what to hold; gives the number of the round.
    fn expect(&self, services: Arc<[Service]>) -> u64 {
        let round = self.expectation.borrow().round + 1;
        self.expectation
            .send_replace(Expectation { round, services });
        round
    }

    /// Makes a change so many times, and waits each time until every sidecar has it. `change`
    /// is given the number of the repetition and gives the service that it changed.
    async fn change(
        &mut self,
        running: &mut Running,
        event: &'static str,
        repeat: usize,
        mut change: impl FnMut(&mut Fixture, usize) -> anyhow::Result<usize>,
    ) -> anyhow::Result<()> {
        let mut rows = Vec::new();
        for n in 0..repeat {
            // A dry run in another directory says what is to come.
            let scratch = tempfile::tempdir()?;
            let mut next = self.fixture.elsewhere(scratch.path());
            let service = change(&mut next, n)?;
            let number = self.expect(Arc::new([next.expected(service)]));
            self.wait(running, event, Report::Waiting(number)).await?;
            let round = Round::start(self)?;
            change(&mut self.fixture, n)?;
            self.wait(running, event, Report::Met(number)).await?;
            rows.push(round.end(self, event).await?);
        }
        self.rows.extend(Row::summary(rows));
        Ok(())
    }

    /// Waits until every sidecar has said `awaited`.
    async fn wait(
        &mut self,
        running: &mut Running,
        event: &str,
        awaited: Report,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + ROUND;
        let mut waiting = self.count;
        while waiting > 0 {
            tokio::select! {
                report = self.reports.recv() => match report {
                    Some(report) if report == awaited => waiting -= 1,
                    Some(Report::Early(_)) => {
                        bail!("{event}: a sidecar has it before it happened");
                    }
                    Some(_) => {}
                    None => bail!("{event}: no sidecar is left"),
                },
                Some(ended) = running.tasks.join_next() => {
                    ended??;
                    bail!("a sidecar ended during {event}");
                }
                () = tokio::time::sleep_until(deadline.into()) => bail!(
                    "{event}: {waiting} of {} sidecars do not have it after {ROUND:?}", self.count
                ),
            }
        }
        Ok(())
    }
}

/// Figures at the start of a round.
struct Round {
    start: Instant,
    usage: Usage,
    counters: [u64; 4],
}

fn figures(counters: &Counters) -> [u64; 4] {
    let Counters {
        bytes,
        resource_bytes,
        responses,
        resent,
    } = counters;
    [bytes, resource_bytes, responses, resent].map(|n: &AtomicU64| n.load(Ordering::Relaxed))
}

impl Round {
    fn start(bench: &Bench) -> anyhow::Result<Self> {
        Ok(Self {
            usage: bench.server.usage()?,
            counters: figures(&bench.counters),
            start: Instant::now(),
        })
    }

    /// Takes the time, waits for what still comes, then takes the other figures.
    async fn end(self, bench: &Bench, event: &'static str) -> anyhow::Result<Row> {
        let seconds = self.start.elapsed().as_secs_f64();
        tokio::time::sleep(PAUSE).await;
        let usage = bench.server.usage()?;
        let now = figures(&bench.counters);
        let [bytes, resource_bytes, responses, resent] =
            std::array::from_fn(|i| now.get(i).unwrap_or(&0) - self.counters.get(i).unwrap_or(&0));
        let cpu = usage.cpu_since(&self.usage);
        Ok(Row {
            bytes,
            resource_bytes,
            responses,
            resent,
            ..bench.row(event, seconds, cpu, &usage)
        })
    }
}
