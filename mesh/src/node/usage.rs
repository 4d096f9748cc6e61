//! Memory and CPU of the processes of each container, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

use nix::unistd::{SysconfVar, sysconf};

use crate::node::report::{ProcessReport, Status};

fn per_second() -> f64 {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    f64::from(i32::try_from(ticks).unwrap_or(100))
}

fn read(pid: i32) -> Option<ProcessReport> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (start, end) = (text.find('(')?, text.rfind(')')?);
    let name = text.get(start + 1..end)?.to_owned();
    let fields: Vec<&str> = text.get(end + 1..)?.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let page = sysconf(SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .unwrap_or(4_096);
    #[expect(clippy::cast_precision_loss, reason = "ticks stay far below 2^52")]
    let cpu_seconds = (number(11)? + number(12)?) as f64 / per_second();
    Some(ProcessReport {
        pid,
        name,
        resident_bytes: number(21)? * u64::try_from(page).ok()?,
        cpu_seconds,
    })
}

/// Identity of the PID namespace that a process is in.
fn namespace(pid: i32) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// Fills in the processes of every container and of the node. Reads all of `/proc`: some
/// milliseconds.
pub fn fill(status: &mut Status) {
    let mut by_namespace: BTreeMap<_, Vec<ProcessReport>> = BTreeMap::new();
    let pids = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids {
        if let (Some(namespace), Some(process)) = (namespace(pid), read(pid)) {
            by_namespace.entry(namespace).or_default().push(process);
        }
    }
    status.node = read(1);
    for container in status.pods.iter_mut().flat_map(|pod| &mut pod.containers) {
        let super::pod::status::State::Running { pid, .. } = container.state else {
            continue;
        };
        if let Some(found) = namespace(pid).and_then(|key| by_namespace.remove(&key)) {
            container.processes = found;
            container.processes.sort_by_key(|process| process.pid);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_own_process_is_read() {
        let own = super::read(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.resident_bytes > 100_000 && !own.name.is_empty());
    }
}
