//! What came back: counted by each worker alone, then added up.

use super::Args;
use super::latency::Histogram;
use crate::client::{Answer, Failure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// Different values that `--count` keeps apart; the rest is counted as `other`.
const MAX_KEYS: usize = 256;
/// Errors that the summary tells one by one; they are counted all the same.
const MAX_ERRORS: usize = 20;
/// Characters of an answer that are shown.
const MAX_TEXT: usize = 200;

/// Counts of one worker, or of all.
#[derive(Debug, Default)]
pub(super) struct Tally {
    status: BTreeMap<u16, u64>,
    failures: BTreeMap<&'static str, u64>,
    counts: BTreeMap<String, u64>,
    errors: Vec<Error>,
    answered: u64,
    latency: Histogram,
    pub(super) connections: u64,
}

/// Result of a run, as printed.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Address that was asked.
    pub url: String,
    /// Requests sent.
    pub requests: u64,
    /// Requests with an answer, whatever its status.
    pub answered: u64,
    /// Requests without a whole answer.
    pub failed: u64,
    /// Answers by status code.
    pub status: BTreeMap<u16, u64>,
    /// Requests without an answer, by kind: resolve, connect, timeout, closed, protocol.
    pub failures: BTreeMap<&'static str, u64>,
    /// Answers by what `--count` names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
    /// The first 20 answers with a status from 400 on, or that did not come.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Error>,
    /// Connections made.
    pub connections: u64,
    /// Length of the run, in seconds.
    pub elapsed_s: f64,
    /// Requests a second that were reached.
    pub rate: f64,
    /// Times from before sending to the whole answer.
    pub latency_ms: Latency,
}

/// One answer that nobody wants, or one that did not come.
#[derive(Clone, Debug, Serialize)]
pub struct Error {
    /// When it was there (RFC 3339, milliseconds), to look for it in logs.
    pub at: String,
    /// Status and beginning of the body, or the kind of failure.
    pub what: String,
}

/// Latencies of answered requests, in milliseconds.
#[derive(Debug, Serialize)]
pub struct Latency {
    /// Mean.
    pub mean: f64,
    /// Half of all were at most this.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p99_9: f64,
    /// The slowest.
    pub max: f64,
}

impl Tally {
    /// One result: status (if the protocol has one) and what to count it by, or the failure.
    pub(super) fn add(
        &mut self,
        result: Result<(Option<u16>, Option<String>), &Failure>,
        elapsed: Duration,
    ) {
        match result {
            Ok((status, key)) => {
                self.answered += 1;
                self.latency.add(elapsed);
                if let Some(status) = status {
                    *self.status.entry(status).or_default() += 1;
                }
                if let Some(key) = key {
                    count(&mut self.counts, key, 1);
                }
            }
            Err(failure) => *self.failures.entry(failure.name()).or_default() += 1,
        }
    }

    /// Keeps what went wrong, if something did.
    pub(super) fn look(&mut self, result: Result<&Answer, &Failure>) {
        if self.errors.len() == MAX_ERRORS {
            return;
        }
        let what = match result {
            Ok(answer) if answer.status < 400 => return,
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body);
                let text: String = text.trim().chars().take(MAX_TEXT).collect();
                format!("{} {text}", answer.status)
            }
            Err(failure) => failure.name().to_owned(),
        };
        let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        self.errors.push(Error { at, what });
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.answered += other.answered;
        self.connections += other.connections;
        self.latency.merge(&other.latency);
        for (status, n) in &other.status {
            *self.status.entry(*status).or_default() += n;
        }
        for (name, n) in &other.failures {
            *self.failures.entry(name).or_default() += n;
        }
        for (key, n) in &other.counts {
            count(&mut self.counts, key.clone(), *n);
        }
        self.errors.extend_from_slice(&other.errors);
        self.errors.sort_by(|a, b| a.at.cmp(&b.at));
        self.errors.truncate(MAX_ERRORS);
    }

    pub(super) fn summary(self, args: &Args, elapsed: Duration) -> Summary {
        let failed: u64 = self.failures.values().sum();
        let requests = self.answered + failed;
        let elapsed_s = elapsed.as_secs_f64();
        Summary {
            url: args.target.url.to_string(),
            requests,
            answered: self.answered,
            failed,
            status: self.status,
            failures: self.failures,
            counts: self.counts,
            errors: self.errors,
            connections: self.connections,
            elapsed_s,
            rate: if elapsed_s > 0.0 {
                requests as f64 / elapsed_s
            } else {
                0.0
            },
            latency_ms: Latency {
                mean: self.latency.mean_ms(),
                p50: self.latency.percentile_ms(0.5),
                p90: self.latency.percentile_ms(0.9),
                p99: self.latency.percentile_ms(0.99),
                p99_9: self.latency.percentile_ms(0.999),
                max: self.latency.max_ms(),
            },
        }
    }
}

fn count(counts: &mut BTreeMap<String, u64>, key: String, n: u64) {
    let full = counts.len() >= MAX_KEYS && !counts.contains_key(&key);
    *counts
        .entry(if full { "other".to_owned() } else { key })
        .or_default() += n;
}
