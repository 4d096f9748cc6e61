//! The rounds of the benchmark.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::process::Command;
use tokio::sync::watch;

use super::fixture::Fixture;
use super::sink::{Sink, Wanted};
use super::table::{Results, Row};
use crate::process::{Process, Usage, beside_this, free_address};

/// How long a round may take.
const ROUND: Duration = Duration::from_secs(120);
/// Quiet time between changes, long enough that each comes alone.
const PAUSE: Duration = Duration::from_millis(250);
/// More files than galley reads are an error there.
const MOST_FILES: usize = 10_000;

/// What to run.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "bench-config",
    about = "Configuration from a directory through galley to its sinks"
)]
pub struct Args {
    /// Objects in the directory; several sizes one after the other.
    #[arg(long, value_delimiter = ',', default_value = "10000")]
    pub objects: Vec<usize>,
    #[arg(long, default_value_t = 10)]
    pub sinks: usize,
    /// Files that are changed, one after the other.
    #[arg(long, default_value_t = 100)]
    pub changes: usize,
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
/// When a round does not end in time, or a sink does not receive what changed.
pub async fn run(args: &Args) -> anyhow::Result<Results> {
    ensure!(args.sinks > 0, "want at least one sink (--sinks)");
    let binary = match &args.server {
        Some(path) => path.clone(),
        None => beside_this("galley")?,
    };
    let mut rows = Vec::new();
    for objects in &args.objects {
        let dir = tempfile::tempdir()?;
        let row = round(args, *objects, &binary, dir.path()).await;
        rows.push(row.with_context(|| format!("{objects} objects"))?);
    }
    Ok(Results { rows })
}

async fn round(args: &Args, objects: usize, binary: &Path, dir: &Path) -> anyhow::Result<Row> {
    ensure!(objects > 0, "an empty directory measures nothing");
    let per_file = objects.div_ceil(MOST_FILES);
    let folder = dir.join("config");
    let fixture = Fixture::create(&folder, objects, per_file)?;
    let address = free_address()?;
    let mut command = Command::new(binary);
    command
        .arg("server")
        .arg(format!("--configPath={}", folder.display()))
        .arg(format!("--server-address=tcp://{address}"))
        .arg(format!("--meshConfigFile={}", dir.join("none").display()))
        .args([
            "--insecure",
            "--enable-validation=false",
            "--monitoringPort=0",
            "--ctrlz_port=0",
        ]);
    let (wanted, wanted_rx) = watch::channel(Wanted::default());

    let started = Instant::now();
    let process = Process::start(command, &address, &dir.join("galley.log")).await?;
    let mut sinks = vec![Sink::start(&address, wanted_rx.clone())?];
    for sink in &sinks {
        sink.synced(ROUND).await?;
    }
    let first_push = started.elapsed();
    let after_first = process.usage()?;
    for _ in 1..args.sinks {
        sinks.push(Sink::start(&address, wanted_rx.clone())?);
    }
    for sink in &sinks {
        sink.synced(ROUND).await?;
    }
    for sink in &sinks {
        ensure!(
            sink.given() == objects as u64,
            "a sink was given {} objects of {objects}",
            sink.given()
        );
    }

    let before = process.usage()?;
    let given: u64 = sinks.iter().map(Sink::given).sum();
    let mut times = Vec::new();
    for n in 0..args.changes {
        tokio::time::sleep(PAUSE).await;
        let object = n * 7919 % objects;
        let mark = format!("m{n}");
        // The last file may hold fewer objects than others.
        let object = object.min(objects - objects % per_file - 1);
        times.extend(change(&fixture, object, &mark, &wanted, &mut sinks).await?);
    }
    let after = process.usage()?;
    let given = sinks.iter().map(Sink::given).sum::<u64>() - given;
    process.stop().await?;
    times.sort_unstable();
    let changes = args.changes.max(1) as f64;
    Ok(Row {
        objects,
        files: objects.div_ceil(per_file),
        sinks: sinks.len(),
        first_push_seconds: first_push.as_secs_f64(),
        first_push_cpu_seconds: after_first.cpu_since(&Usage::default()).as_secs_f64(),
        resident_bytes: after_first.resident,
        peak_bytes: after.peak,
        changes: args.changes,
        change_median_seconds: quantile(&times, 0.5),
        change_p99_seconds: quantile(&times, 0.99),
        change_worst_seconds: quantile(&times, 1.0),
        change_cpu_seconds: after.cpu_since(&before).as_secs_f64() / changes,
        resources_per_change: given as f64 / changes / sinks.len() as f64,
    })
}

/// One change: how long each sink had to wait for it.
async fn change(
    fixture: &Fixture,
    object: usize,
    mark: &str,
    wanted: &watch::Sender<Wanted>,
    sinks: &mut [Sink],
) -> anyhow::Result<Vec<Duration>> {
    let before: Vec<u64> = sinks.iter().map(Sink::count).collect();
    wanted.send_replace(Wanted {
        name: Fixture::name(object),
        mark: mark.to_owned(),
    });
    let written = Instant::now();
    fixture.change(object, mark)?;
    let mut times = Vec::new();
    for (sink, before) in sinks.iter_mut().zip(before) {
        let at = sink.met(before, ROUND).await?;
        times.push(at.saturating_duration_since(written));
    }
    Ok(times)
}

/// Of sorted times, in seconds; 0 without any.
fn quantile(times: &[Duration], part: f64) -> f64 {
    let last = times.len().saturating_sub(1) as f64;
    let index = (last * part).round() as usize;
    times.get(index).copied().unwrap_or_default().as_secs_f64()
}
