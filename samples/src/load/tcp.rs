//! Load over plain TCP: sends a line and reads a line, on a new connection each time.

use super::report::Tally;
use super::{Args, CountBy, Schedule};
use crate::client::{Failure, connect};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// Maximum length of a line, in bytes.
const MAX_LINE: u64 = 64 * 1024;

pub(super) async fn work(args: &Args, schedule: &Schedule) -> Tally {
    let url = &args.target.url;
    let address = args.target.connect_to.clone().unwrap_or_else(|| {
        format!(
            "{}:{}",
            url.host().unwrap_or_default(),
            url.port_u16().unwrap_or(80)
        )
    });
    let mut tally = Tally::default();
    while schedule.due().await {
        let started = Instant::now();
        let exchange = exchange(&address, &args.target.data);
        let result = match tokio::time::timeout(args.target.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Timeout),
        };
        tally.connections += u64::from(!matches!(result, Err(Failure::Connect | Failure::Resolve)));
        let failed = result.is_err();
        if let Err(failure) = &result {
            tally.look(Err(failure));
        }
        let count = matches!(args.count, Some(CountBy::Body));
        tally.add(
            result.as_ref().map(|line| {
                let word = line.split_whitespace().next().unwrap_or_default();
                (None, count.then(|| word.chars().take(64).collect()))
            }),
            started.elapsed(),
        );
        if failed && schedule.rate == 0.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    tally
}

async fn exchange(address: &str, line: &str) -> Result<String, Failure> {
    let mut stream = connect(address).await?;
    stream
        .write_all(format!("{line}\n").as_bytes())
        .await
        .map_err(|_| Failure::Closed)?;
    let mut answer = String::new();
    let mut reader = BufReader::new(stream).take(MAX_LINE);
    match reader.read_line(&mut answer).await {
        Ok(0) | Err(_) => Err(Failure::Closed),
        Ok(_) => Ok(answer),
    }
}
