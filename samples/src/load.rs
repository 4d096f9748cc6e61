//! Load generator: a given rate or as fast as it goes, for a time or a number, over a bounded number of
//! connections; the summary is one JSON object.

mod latency;
mod report;
mod tcp;

pub use report::Summary;

use crate::client::{Answer, Client, Failure, Target};
use anyhow::bail;
use http::HeaderName;
use report::Tally;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Most connections at a time.
const MAX_CONCURRENCY: usize = 1000;

/// Settings of `load`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub target: Target,
    /// Requests a second in all; 0 sends the next as soon as the last is answered
    #[arg(long, short = 'r', default_value_t = 0.0)]
    pub rate: f64,
    /// How long to send
    #[arg(long, short = 't', default_value = "10s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Requests to send at most; 0 means that only the duration ends the run
    #[arg(long, short = 'n', default_value_t = 0)]
    pub requests: u64,
    /// Requests under way at a time (1-1000)
    #[arg(long, short = 'c', default_value_t = 1)]
    pub concurrency: usize,
    /// New connection for each request
    #[arg(long)]
    pub no_keepalive: bool,
    /// Also count answers by `header:NAME`, `json:FIELD` (top level), or `body` (first 64 bytes)
    #[arg(long, value_parser = parse_count_by)]
    pub count: Option<CountBy>,
    /// Speak no HTTP: one connection per request, send the body as a line, read a line; the URL gives
    /// host and port, `--count body` counts the first word of the answer
    #[arg(long)]
    pub tcp: bool,
}

/// What to count answers by.
#[derive(Clone, Debug)]
pub enum CountBy {
    /// Value of a header.
    Header(HeaderName),
    /// Top-level field of a JSON body.
    Json(String),
    /// The body itself.
    Body,
}

fn parse_count_by(text: &str) -> Result<CountBy, String> {
    match text.split_once(':') {
        Some(("header", name)) => name
            .parse()
            .map(CountBy::Header)
            .map_err(|e| format!("{name:?}: {e}")),
        Some(("json", field)) => Ok(CountBy::Json(field.to_owned())),
        None if text == "body" => Ok(CountBy::Body),
        _ => Err("count by header:NAME, json:FIELD or body".to_owned()),
    }
}

impl CountBy {
    fn key(&self, answer: &Answer) -> String {
        let text = match self {
            Self::Header(name) => {
                let value = answer.headers.get(name).map(|value| value.as_bytes());
                value.map(|value| String::from_utf8_lossy(value).into_owned())
            }
            Self::Json(field) => serde_json::from_slice::<serde_json::Value>(&answer.body)
                .ok()
                .and_then(|body| body.get(field).cloned())
                .map(|value| {
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned)
                }),
            Self::Body => Some(String::from_utf8_lossy(&answer.body).trim().to_owned()),
        };
        text.unwrap_or_default().chars().take(64).collect()
    }
}

/// Sends the load, prints the summary.
///
/// # Errors
/// When an argument makes no sense.
pub async fn run(args: Args, stop: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
    let summary = generate(args, stop).await?;
    println!("{}", serde_json::to_string_pretty(&summary)?);
    Ok(())
}

/// Sends the load until its end, or until `stop`; requests under way are finished.
///
/// # Errors
/// When an argument makes no sense.
pub async fn generate(
    args: Args,
    stop: impl Future<Output = ()> + Send,
) -> anyhow::Result<Summary> {
    if !(1..=MAX_CONCURRENCY).contains(&args.concurrency) {
        bail!(
            "concurrency {} is not within 1 to {MAX_CONCURRENCY}",
            args.concurrency
        );
    }
    if !args.rate.is_finite() || args.rate < 0.0 {
        bail!("rate {} is not a number of requests a second", args.rate);
    }
    let schedule = Arc::new(Schedule {
        start: Instant::now(),
        rate: args.rate,
        duration: args.duration,
        requests: if args.requests == 0 {
            u64::MAX
        } else {
            args.requests
        },
        next: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
    });
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..args.concurrency {
        let schedule = Arc::clone(&schedule);
        let args = args.clone();
        if args.tcp {
            workers.spawn(async move { tcp::work(&args, &schedule).await });
        } else {
            let client = Client::new(&args.target, !args.no_keepalive)?;
            workers.spawn(async move { work(client, args.count.as_ref(), &schedule).await });
        }
    }
    let mut tally = Tally::default();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop, if !schedule.stopped.load(Ordering::Relaxed) => {
                schedule.stopped.store(true, Ordering::Relaxed);
            }
            joined = workers.join_next() => match joined {
                None => break,
                Some(part) => tally.merge(&part?),
            }
        }
    }
    Ok(tally.summary(&args, schedule.start.elapsed()))
}

/// When the next request is due, shared by all workers.
struct Schedule {
    start: Instant,
    rate: f64,
    duration: Duration,
    requests: u64,
    next: AtomicU64,
    stopped: AtomicBool,
}

impl Schedule {
    /// Waits until the next request is due; false when there is none any more. A worker that is late
    /// sends at once, so that the rate holds over the whole run.
    async fn due(&self) -> bool {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        if index >= self.requests {
            return false;
        }
        if self.rate > 0.0 {
            let at = Duration::from_secs_f64((index as f64 / self.rate).min(1e9));
            if at >= self.duration {
                return false;
            }
            tokio::time::sleep_until((self.start + at).into()).await;
        }
        !self.stopped.load(Ordering::Relaxed) && self.start.elapsed() < self.duration
    }
}

async fn work(mut client: Client, count: Option<&CountBy>, schedule: &Schedule) -> Tally {
    let mut tally = Tally::default();
    while schedule.due().await {
        let started = Instant::now();
        let result = client.send().await;
        let failed = matches!(result, Err(Failure::Connect | Failure::Resolve));
        tally.look(result.as_ref());
        tally.add(
            result
                .as_ref()
                .map(|answer| (Some(answer.status), count.map(|count| count.key(answer)))),
            started.elapsed(),
        );
        if failed && schedule.rate == 0.0 {
            // A refused connection costs nothing; without a pause this would be a busy loop.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    tally.connections = client.connections;
    tally
}
