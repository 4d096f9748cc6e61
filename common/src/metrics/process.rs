//! `process_*` from `/proc/self`, and the state of the tokio runtime.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Opts};

/// `USER_HZ`: ticks per second in `/proc/*/stat`, 100 on every supported Linux.
const TICKS: f64 = 100.0;

pub(super) struct Process {
    cpu: Counter,
    gauges: Vec<(Gauge, Source)>,
}

#[derive(Clone, Copy)]
enum Source {
    OpenFds,
    MaxFds,
    Virtual,
    Resident,
    Start,
    Threads,
    AliveTasks,
    QueueDepth,
}

const GAUGES: [(&str, &str, Source); 8] = [
    ("process_open_fds", "Open file descriptors", Source::OpenFds),
    (
        "process_max_fds",
        "Limit of open file descriptors",
        Source::MaxFds,
    ),
    (
        "process_virtual_memory_bytes",
        "Virtual memory",
        Source::Virtual,
    ),
    (
        "process_resident_memory_bytes",
        "Resident memory",
        Source::Resident,
    ),
    (
        "process_start_time_seconds",
        "Start time since the epoch",
        Source::Start,
    ),
    (
        "process_threads",
        "Threads of the operating system",
        Source::Threads,
    ),
    (
        "tokio_alive_tasks",
        "Tasks that have not ended",
        Source::AliveTasks,
    ),
    (
        "tokio_global_queue_depth",
        "Tasks waiting for a worker",
        Source::QueueDepth,
    ),
];

impl Process {
    #[expect(clippy::expect_used, reason = "constant names, made once at the start")]
    pub(super) fn new() -> Self {
        let cpu = Opts::new("process_cpu_seconds_total", "CPU time, user and system");
        Self {
            cpu: Counter::with_opts(cpu).expect("constant name"),
            gauges: GAUGES
                .into_iter()
                .map(|(name, help, source)| {
                    (Gauge::new(name, help).expect("constant name"), source)
                })
                .collect(),
        }
    }
}

/// Fields of `/proc/self/stat` after the command name; the first is field 3 (state).
fn stat() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().map(str::to_owned).collect()
}

/// Field `number`, counted as in proc(5).
fn field(stat: &[String], number: usize) -> f64 {
    stat.get(number - 3)
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

/// A value in `/proc/self/status`, in bytes.
fn status_bytes(name: &str) -> f64 {
    line_value("/proc/self/status", name).unwrap_or_default() * 1024.0
}

/// The first number after `name` in a file of lines.
fn line_value(path: &str, name: &str) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim_start_matches(':')
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

fn value(source: Source, stat: &[String]) -> f64 {
    let runtime = || tokio::runtime::Handle::try_current().ok();
    match source {
        // One of them is the directory that is being read.
        Source::OpenFds => fs::read_dir("/proc/self/fd")
            .map_or(0, |entries| entries.count().saturating_sub(1))
            as f64,
        Source::MaxFds => line_value("/proc/self/limits", "Max open files").unwrap_or_default(),
        Source::Virtual => status_bytes("VmSize"),
        Source::Resident => status_bytes("VmRSS"),
        Source::Start => {
            line_value("/proc/stat", "btime").unwrap_or_default() + field(stat, 22) / TICKS
        }
        Source::Threads => field(stat, 20),
        Source::AliveTasks => {
            runtime().map_or(0, |handle| handle.metrics().num_alive_tasks()) as f64
        }
        Source::QueueDepth => {
            runtime().map_or(0, |handle| handle.metrics().global_queue_depth()) as f64
        }
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges
            .iter()
            .flat_map(|(gauge, _)| gauge.desc())
            .chain(self.cpu.desc())
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stat = stat();
        let cpu = (field(&stat, 14) + field(&stat, 15)) / TICKS;
        self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
        let mut families = self.cpu.collect();
        for (gauge, source) in &self.gauges {
            gauge.set(value(*source, &stat));
            families.extend(gauge.collect());
        }
        families
    }
}
