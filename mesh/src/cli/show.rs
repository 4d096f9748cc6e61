//! Tables and logs for people.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use notify::Watcher as _;

use crate::node::pod::status::{Phase, Role, State};
use crate::node::report::{PodReport, ProcessReport, Status};
use crate::say;

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

fn age(seconds: f64) -> String {
    humanly(Duration::from_secs_f64(seconds.max(0.0)))
}

fn humanly(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// What the Pod is doing, in one word or with its reason.
pub(super) fn state(pod: &PodReport) -> String {
    if let Some(reason) = &pod.reason {
        return format!("waiting: {reason}");
    }
    if pod.phase == Phase::Terminating {
        return "terminating".to_owned();
    }
    if pod.ready {
        return "ready".to_owned();
    }
    let waiting = pod
        .containers
        .iter()
        .find_map(|container| match &container.state {
            State::Waiting { reason } => Some(format!("{}: {reason}", container.name)),
            State::Running { .. } if container.role == Role::Init => {
                Some(format!("{} runs", container.name))
            }
            State::Running { .. } if !container.ready => {
                Some(format!("{} not ready", container.name))
            }
            _ => None,
        });
    waiting.unwrap_or_else(|| "starting".to_owned())
}

fn processes(pod: &PodReport) -> impl Iterator<Item = (&str, &ProcessReport)> {
    pod.containers.iter().flat_map(|container| {
        container
            .processes
            .iter()
            .map(|process| (container.name.as_str(), process))
    })
}

/// Prints rows in columns; the last column is not padded.
fn table(rows: &[Vec<String>]) {
    let mut widths: BTreeMap<usize, usize> = BTreeMap::new();
    for row in rows {
        for (index, cell) in row.iter().enumerate() {
            let width = widths.entry(index).or_default();
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(index, cell)| {
                let width = widths.get(&index).copied().unwrap_or_default();
                format!("{cell:width$}")
            })
            .collect();
        say!("{}", cells.join("  ").trim_end());
    }
}

/// Prints the mesh.
pub(super) fn status(status: &Status, with_processes: bool) {
    let mut rows = vec![
        [
            "",
            "NAMESPACE",
            "POD",
            "READY",
            "RESTARTS",
            "AGE",
            "IP",
            "MEMORY",
            "CPU",
            "STATE",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for pod in &status.pods {
        let counted = pod
            .containers
            .iter()
            .filter(|container| container.role != Role::Init);
        let ready = counted.clone().filter(|container| container.ready).count();
        let restarts: u32 = pod
            .containers
            .iter()
            .map(|container| container.restarts)
            .sum();
        let memory: u64 = processes(pod)
            .map(|(_, process)| process.resident_bytes)
            .sum();
        let cpu = processes(pod).fold(0.0, |sum, (_, process)| sum + process.cpu_seconds);
        rows.push(vec![
            if pod.control_plane { "*" } else { "" }.to_owned(),
            pod.namespace.clone(),
            pod.name.clone(),
            format!("{ready}/{}", counted.count()),
            restarts.to_string(),
            age(pod.age_seconds),
            pod.ip.to_string(),
            megabytes(memory),
            format!("{cpu:.1}s"),
            state(pod),
        ]);
        if with_processes {
            for (container, process) in processes(pod) {
                rows.push(vec![
                    String::new(),
                    String::new(),
                    format!("  {container}: {} ({})", process.name, process.pid),
                    String::new(),
                    String::new(),
                    String::new(),
                    String::new(),
                    megabytes(process.resident_bytes),
                    format!("{:.1}s", process.cpu_seconds),
                ]);
            }
        }
    }
    table(&rows);
    say!("\n* control plane");
    if let Some(node) = &status.node {
        say!(
            "node: up {}, {}, {:.1}s CPU",
            age(status.uptime_seconds),
            megabytes(node.resident_bytes),
            node.cpu_seconds
        );
    }
    say!(
        "objects for the control plane: {}",
        status.objects.display()
    );
    for published in &status.published {
        let target = &published.target;
        say!(
            "{} -> {}/{} {} {}",
            published.address,
            target.namespace,
            target.service,
            target.port,
            target.port_name
        );
    }
}

/// Prints a log; with `follow` it never ends.
pub(super) async fn log(path: &Path, follow: bool) -> Result<()> {
    let mut file = std::fs::File::open(path)
        .with_context(|| format!("open {}: not started yet?", path.display()))?;
    let (tx, mut written) = tokio::sync::mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |_| {
        // One pending notice is enough.
        let _ = tx.try_send(());
    })
    .context("watch the log")?;
    if follow {
        watcher
            .watch(path, notify::RecursiveMode::NonRecursive)
            .context("watch the log")?;
    }
    let mut out = std::io::stdout().lock();
    let mut buffer = Vec::new();
    loop {
        let at = file.stream_position().context("read the log")?;
        if file.metadata().context("read the log")?.len() < at {
            file.rewind().context("read the log")?;
        }
        buffer.clear();
        file.read_to_end(&mut buffer).context("read the log")?;
        if out.write_all(&buffer).and_then(|()| out.flush()).is_err() {
            // The reader has gone.
            return Ok(());
        }
        if !follow || written.recv().await.is_none() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_for_people() {
        assert_eq!(humanly(Duration::from_secs(59)), "59s");
        assert_eq!(humanly(Duration::from_secs(61)), "1m01s");
        assert_eq!(humanly(Duration::from_secs(7_260)), "2h01m");
        assert_eq!(megabytes(1), "1 MB");
    }
}
