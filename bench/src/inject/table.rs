//! Measured rows, as JSON and as the table that people read.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// One way of injecting.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub way: String,
    pub pods: usize,
    pub median_seconds: f64,
    pub p99_seconds: f64,
    pub worst_seconds: f64,
}

impl Row {
    /// From the times of single Pods.
    ///
    /// # Errors
    /// Without any.
    pub fn of(way: &str, mut seconds: Vec<f64>) -> Result<Self> {
        seconds.sort_by(f64::total_cmp);
        let at = |per_thousand: usize| {
            let index = (seconds.len().saturating_sub(1)) * per_thousand / 1_000;
            seconds.get(index).copied()
        };
        let [Some(median), Some(p99), Some(worst)] = [at(500), at(990), at(1_000)] else {
            return Err(anyhow::anyhow!("no Pod was measured")).context(way.to_owned());
        };
        Ok(Self {
            way: way.to_owned(),
            pods: seconds.len(),
            median_seconds: median,
            p99_seconds: p99,
            worst_seconds: worst,
        })
    }
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    pub rows: Vec<Row>,
}

/// The table.
#[must_use]
pub fn table(results: &Results) -> String {
    let mut text = format!(
        "{:<24} {:>8} {:>10} {:>10} {:>10}\n",
        "way", "Pods", "p50", "p99", "worst"
    );
    for row in &results.rows {
        let milliseconds = |seconds: f64| seconds * 1e3;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<24} {:>8} {:>7.2} ms {:>7.2} ms {:>7.2} ms",
            row.way,
            row.pods,
            milliseconds(row.median_seconds),
            milliseconds(row.p99_seconds),
            milliseconds(row.worst_seconds),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let row = Row::of("x", (0..=1_000).rev().map(f64::from).collect()).unwrap();
        assert_eq!(
            (row.median_seconds, row.p99_seconds, row.worst_seconds),
            (500.0, 990.0, 1_000.0)
        );
        assert!(Row::of("x", Vec::new()).is_err());
    }
}
