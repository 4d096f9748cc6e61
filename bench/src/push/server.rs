//! pilot-discovery as a process of its own.

use std::path::Path;

use tokio::process::Command;

use crate::process::{Process, Usage, free_address};

/// The running server.
#[derive(Debug)]
pub struct Server {
    process: Process,
    /// `127.0.0.1:port` of the plaintext port.
    pub address: String,
}

impl Server {
    /// Starts `binary` on a free loopback port and waits until it serves.
    ///
    /// # Errors
    /// When it does not come up within 60 s.
    pub async fn start(binary: &Path, config: &Path, log: &Path) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(binary);
        command
            .arg("discovery")
            .arg(format!("--configDir={}", config.display()))
            .args([
                "--registries=",
                "--secureGrpcAddr=",
                "--httpAddr=",
                "--monitoringAddr=",
                "--ctrlz_port=0",
            ])
            .arg(format!("--grpcAddr={address}"))
            .arg(format!("--meshConfig={}", config.join("none").display()))
            .env("PILOT_MAX_REQUESTS_PER_SECOND", "100000");
        let process = Process::start(command, &address, log).await?;
        Ok(Self { process, address })
    }

    /// Its figures now.
    ///
    /// # Errors
    /// When it ended.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        self.process.usage()
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.process.stop().await
    }
}
