//! Measured rows, as JSON and as the table that people read.

use std::fmt::Write as _;

use serde::Serialize;

/// One measured event.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub scale: usize,
    pub services: usize,
    pub sidecars: usize,
    pub mode: String,
    pub event: &'static str,
    /// How many measurements are summed up here.
    pub repetitions: usize,
    /// Until the last sidecar held it, from just before the change was written; the median.
    pub seconds: f64,
    pub seconds_worst: f64,
    /// Of all sidecars together; the mean, as everything below.
    pub bytes: u64,
    pub resource_bytes: u64,
    pub responses: u64,
    /// Resources that a sidecar held already, byte for byte.
    pub resent: u64,
    pub server_cpu_seconds: f64,
    /// After the event; of the last repetition.
    pub server_resident_bytes: u64,
    /// Most since the server started.
    pub server_peak_bytes: u64,
}

impl Row {
    /// One row out of repetitions of the same event.
    pub fn summary(mut rows: Vec<Self>) -> Option<Self> {
        let last = rows.last()?.clone();
        rows.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let count = rows.len() as u64;
        let mean = |of: fn(&Self) -> u64| rows.iter().map(of).sum::<u64>() / count;
        let cpu: f64 = rows.iter().map(|row| row.server_cpu_seconds).sum();
        Some(Self {
            repetitions: rows.len(),
            seconds: rows.get(rows.len() / 2)?.seconds,
            seconds_worst: rows.last()?.seconds,
            bytes: mean(|row| row.bytes),
            resource_bytes: mean(|row| row.resource_bytes),
            responses: mean(|row| row.responses),
            resent: mean(|row| row.resent),
            server_cpu_seconds: cpu / count as f64,
            ..last
        })
    }
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    pub rows: Vec<Row>,
}

/// The table; one block for each run of a server.
pub fn table(results: &Results) -> String {
    let mut text = String::new();
    let mut block = None;
    for row in &results.rows {
        let this = (row.scale, row.sidecars, row.mode.clone());
        // Writing to a String cannot fail.
        if block.as_ref() != Some(&this) {
            let _infallible = writeln!(
                text,
                "{}{}: {} sidecars, {} services; bytes are those of all sidecars together\n\
                 {:<20} {:>9} {:>9} {:>13} {:>13} {:>9} {:>7} {:>7} {:>7}",
                if block.is_some() { "\n" } else { "" },
                row.mode,
                row.sidecars,
                row.services,
                "event",
                "seconds",
                "worst",
                "bytes",
                "of resources",
                "resent",
                "CPU s",
                "RSS MB",
                "peak MB",
            );
            block = Some(this);
        }
        let _infallible = writeln!(
            text,
            "{:<20} {:>9.3} {:>9.3} {:>13} {:>13} {:>9} {:>7.3} {:>7.1} {:>7.1}",
            row.event,
            row.seconds,
            row.seconds_worst,
            row.bytes,
            row.resource_bytes,
            row.resent,
            row.server_cpu_seconds,
            row.server_resident_bytes as f64 / 1e6,
            row.server_peak_bytes as f64 / 1e6,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_become_median_worst_and_mean() {
        let row = |seconds: f64, bytes| Row {
            scale: 1,
            services: 1,
            sidecars: 1,
            mode: "delta".into(),
            event: "e",
            repetitions: 1,
            seconds,
            seconds_worst: seconds,
            bytes,
            resource_bytes: 0,
            responses: 0,
            resent: 0,
            server_cpu_seconds: seconds,
            server_resident_bytes: 0,
            server_peak_bytes: 0,
        };
        let row = Row::summary(vec![row(3.0, 1), row(1.0, 2), row(2.0, 6)]).unwrap();
        assert_eq!(
            (row.repetitions, row.seconds, row.seconds_worst),
            (3, 2.0, 3.0)
        );
        assert_eq!((row.bytes, row.server_cpu_seconds), (3, 2.0));
        assert!(Row::summary(Vec::new()).is_none());
    }
}
