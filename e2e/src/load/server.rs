//! pilot-discovery as a process of its own, with its figures.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};

/// The running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pid: u32,
    /// `127.0.0.1:port` of the plaintext port.
    pub address: String,
}

/// What `/proc` says of it.
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

impl Server {
    /// Starts `binary` on a free loopback port and waits until it serves.
    ///
    /// # Errors
    /// When it does not come up within 60 s.
    pub async fn start(binary: &Path, config: &Path, log: &Path) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let address = format!("127.0.0.1:{port}");
        let output = std::fs::File::create(log)?;
        let mut child = Command::new(binary)
            .arg("discovery")
            .arg(format!("--configDir={}", config.display()))
            .args([
                "--registries=",
                "--secureGrpcAddr=",
                "--httpAddr=",
                "--monitoringAddr=",
            ])
            .arg(format!("--grpcAddr={address}"))
            .arg(format!("--meshConfig={}", config.join("none").display()))
            .env("PILOT_MAX_REQUESTS_PER_SECOND", "100000")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let pid = child.id().context("the server ended at once")?;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = child.try_wait()? {
                bail!("the server ended with {status}, see {}", log.display());
            }
            if tokio::net::TcpStream::connect(&address).await.is_ok() {
                return Ok(Self {
                    child,
                    pid,
                    address,
                });
            }
            if Instant::now() > deadline {
                bail!(
                    "the server does not serve after 60 s, see {}",
                    log.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its figures now.
    ///
    /// # Errors
    /// When it ended.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .context("the server ended")?;
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
        self.child.kill().await.context("ending the server")
    }
}
