//! Load generator: at a given rate or as fast as possible, for a duration or a number of requests,
//! over a limited number of connections. The summary is one JSON object.

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

/// Maximum number of connections.
const MAX_CONCURRENCY: usize = 1000;

/// Settings of `load`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub target: Target,
    /// Total requests per second; 0 sends each request as soon as the last response arrives
    #[arg(long, short = 'r', default_value_t = 0.0)]
    pub rate: f64,
    /// Duration of the run
    #[arg(long, short = 't', default_value = "10s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Maximum number of requests; 0 for no limit
    #[arg(long, short = 'n', default_value_t = 0)]
    pub requests: u64,
    /// Number of concurrent requests (1-1000)
    #[arg(long, short = 'c', default_value_t = 1)]
    pub concurrency: usize,
    /// Use a new connection for each request
    #[arg(long)]
    pub no_keepalive: bool,
    /// Also count responses by `header:NAME`, `json:FIELD` (top level), or `body` (first 64 bytes)
    #[arg(long, value_parser = parse_count_by)]
    pub count: Option<CountBy>,
    /// Use plain TCP instead of HTTP: one connection per request, send the body as a line, read a
    /// line. The URL gives host and port; `--count body` counts the first word of the response
    #[arg(long)]
    pub tcp: bool,
}

/// How to count responses.
#[derive(Clone, Debug)]
pub enum CountBy {
    /// Value of a header.
    Header(HeaderName),
    /// Top-level field of a JSON body.
    Json(String),
    /// The body.
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
        _ => Err("want header:NAME, json:FIELD or body".to_owned()),
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

/// Sends the load and prints the summary.
///
/// # Errors
/// If an argument is invalid.
pub async fn run(args: Args, stop: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
    let summary = generate(args, stop).await?;
    println!("{}", serde_json::to_string_pretty(&summary)?);
    Ok(())
}

/// Sends the load until it ends or `stop` resolves; requests in progress are completed.
///
/// # Errors
/// If an argument is invalid.
pub async fn generate(
    args: Args,
    stop: impl Future<Output = ()> + Send,
) -> anyhow::Result<Summary> {
    if !(1..=MAX_CONCURRENCY).contains(&args.concurrency) {
        bail!(
            "invalid concurrency {}: want 1 to {MAX_CONCURRENCY}",
            args.concurrency
        );
    }
    if !args.rate.is_finite() || args.rate < 0.0 {
        bail!(
            "invalid rate {}: want a number of requests per second",
            args.rate
        );
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

/// Times of the next requests, shared by all workers.
struct Schedule {
    start: Instant,
    rate: f64,
    duration: Duration,
    requests: u64,
    next: AtomicU64,
    stopped: AtomicBool,
}

impl Schedule {
    /// Waits until the next request is due; returns false when there are no more. A worker that is
    /// late sends immediately, so that the rate holds over the whole run.
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
            // A refused connection fails immediately; without a pause this would be a busy loop.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    tally.connections = client.connections;
    tally
}
