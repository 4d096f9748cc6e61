//! Measured rows, as JSON and as the table that people read.

use std::fmt::Write as _;

use serde::Serialize;

/// One size.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub objects: usize,
    pub files: usize,
    pub sinks: usize,
    /// From the start of the process until the first sink held everything.
    pub first_push_seconds: f64,
    pub first_push_cpu_seconds: f64,
    /// After the first push.
    pub resident_bytes: u64,
    /// Most until the end.
    pub peak_bytes: u64,
    pub changes: usize,
    /// From just before the file was written until a sink received it, over all changes and sinks.
    pub change_median_seconds: f64,
    pub change_p99_seconds: f64,
    pub change_worst_seconds: f64,
    /// For one change.
    pub change_cpu_seconds: f64,
    /// Given to one sink for one change.
    pub resources_per_change: f64,
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
        "{:>8} {:>6} {:>6} {:>11} {:>9} {:>9} {:>9} {:>10} {:>9} {:>9} {:>9} {:>9}\n",
        "objects",
        "files",
        "sinks",
        "first push",
        "CPU",
        "resident",
        "peak",
        "change p50",
        "p99",
        "worst",
        "CPU",
        "resources"
    );
    for row in &results.rows {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let milliseconds = |seconds: f64| seconds * 1e3;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:>8} {:>6} {:>6} {:>9.2} s {:>7.2} s {:>6.0} MB {:>6.0} MB {:>7.1} ms {:>6.1} ms {:>6.1} \
             ms {:>6.2} ms {:>9.1}",
            row.objects,
            row.files,
            row.sinks,
            row.first_push_seconds,
            row.first_push_cpu_seconds,
            megabytes(row.resident_bytes),
            megabytes(row.peak_bytes),
            milliseconds(row.change_median_seconds),
            milliseconds(row.change_p99_seconds),
            milliseconds(row.change_worst_seconds),
            milliseconds(row.change_cpu_seconds),
            row.resources_per_change,
        );
    }
    text
}
