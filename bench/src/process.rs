//! A process of its own on loopback, with its figures.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use tokio::process::{Child, Command};

/// How long it may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);

/// The running process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: u32,
}

/// What `/proc` says of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all threads that ever were, in steps of 10 ms.
    pub cpu: Duration,
    /// The same of the threads that are, without steps.
    pub threads: Duration,
    /// Resident memory in bytes, now and at most.
    pub resident: u64,
    pub peak: u64,
}

impl Usage {
    /// CPU time since `before`: the fine count, unless threads ended and took theirs along.
    pub fn cpu_since(&self, before: &Self) -> Duration {
        let coarse = self.cpu.saturating_sub(before.cpu);
        let fine = self.threads.saturating_sub(before.threads);
        fine.max(coarse.saturating_sub(STEP))
    }
}

/// Clock ticks of `/proc/<pid>/stat` per second on Linux.
const TICKS: u64 = 100;
const STEP: Duration = Duration::from_millis(1000 / TICKS);

impl Process {
    /// Starts `command`, with its output in `log`, and waits until it accepts connections at
    /// `address`.
    ///
    /// # Errors
    /// When it does not within 60 s.
    pub async fn start(mut command: Command, address: &str, log: &Path) -> anyhow::Result<Self> {
        let output = std::fs::File::create(log)?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {:?}", command.as_std().get_program()))?;
        let pid = child.id().context("the process ended at once")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait()? {
                bail!("the process ended with {status}, see {}", log.display());
            }
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return Ok(Self { child, pid });
            }
            if Instant::now() > deadline {
                bail!(
                    "nothing serves {address} after {PATIENCE:?}, see {}",
                    log.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Its figures now.
    ///
    /// # Errors
    /// When it ended.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .context("the process ended")?;
        // The name may contain blanks; fields are counted after it.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        let field = |index: usize| -> u64 {
            fields
                .get(index)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0)
        };
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let kilobytes = |name: &str| -> u64 {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
                .unwrap_or(0)
        };
        Ok(Usage {
            threads: self.threads_time()?,
            cpu: Duration::from_millis((field(11) + field(12)) * 1000 / TICKS),
            resident: kilobytes("VmRSS:") * 1024,
            peak: kilobytes("VmHWM:") * 1024,
        })
    }

    fn threads_time(&self) -> anyhow::Result<Duration> {
        let mut nanos = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid))? {
            // A thread may end meanwhile.
            let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            let on_cpu = text.split_whitespace().next();
            nanos += on_cpu
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("ending the process")
    }
}

/// A free port of loopback, as `127.0.0.1:port`.
///
/// # Errors
/// When there is none.
pub fn free_address() -> anyhow::Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(format!("127.0.0.1:{}", listener.local_addr()?.port()))
}

/// The program of this name in the folder of this one.
///
/// # Errors
/// When it is not there.
pub fn beside_this(name: &str) -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe()?;
    let path = here.parent().unwrap_or_else(|| Path::new(".")).join(name);
    ensure!(
        path.is_file(),
        "{} is not there; build it with `cargo build --release -p {name}`",
        path.display()
    );
    Ok(path)
}
