//! Probes and hooks of a container, run as the kubelet runs them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{
    Container, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use nix::unistd::Pid;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::node::exec;

/// The first tries of a probe follow each other faster than its period, so that a start does
/// not wait for a tick.
const FIRST_TRY: Duration = Duration::from_millis(20);

/// A container whose probes and hooks are run.
#[derive(Clone, Debug)]
pub struct Target {
    /// Address of the Pod.
    pub ip: Ipv4Addr,
    /// Main process of the container.
    pub pid: Pid,
    /// The container, for its named ports.
    pub container: Container,
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(
        value
            .and_then(|value| u64::try_from(value).ok())
            .unwrap_or(default),
    )
}

impl Target {
    fn port(&self, port: &IntOrString) -> Result<u16> {
        let number = match port {
            IntOrString::Int(number) => *number,
            IntOrString::String(name) => self
                .container
                .ports
                .iter()
                .flatten()
                .find(|port| port.name.as_ref() == Some(name))
                .map(|port| port.container_port)
                .with_context(|| format!("no port is named {name:?}"))?,
        };
        u16::try_from(number)
            .ok()
            .filter(|port| *port > 0)
            .context("the port is out of range")
    }

    async fn connect(&self, port: &IntOrString) -> Result<TcpStream> {
        let address = SocketAddr::from((self.ip, self.port(port)?));
        TcpStream::connect(address)
            .await
            .with_context(|| format!("connect to {address}"))
    }

    async fn http(&self, action: &HTTPGetAction) -> Result<()> {
        if action
            .scheme
            .as_deref()
            .is_some_and(|scheme| !scheme.eq_ignore_ascii_case("http"))
        {
            bail!("probes by HTTPS are not supported here");
        }
        let stream = self.connect(&action.port).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let path = action.path.as_deref().unwrap_or("/");
        let host = format!("{}:{}", self.ip, self.port(&action.port)?);
        let mut request = http::Request::get(path)
            .header(http::header::CONNECTION, "close")
            .header(http::header::USER_AGENT, "kube-probe/1.33");
        let mut has_host = false;
        for header in action.http_headers.iter().flatten() {
            has_host |= header.name.eq_ignore_ascii_case("host");
            request = request.header(&header.name, &header.value);
        }
        if !has_host {
            request = request.header(http::header::HOST, host);
        }
        let answer = sender
            .send_request(request.body(Empty::<bytes::Bytes>::new())?)
            .await;
        driver.abort();
        let status = answer?.status();
        if status.is_success() || status.is_redirection() {
            Ok(())
        } else {
            bail!("GET {path} answered {status}")
        }
    }

    async fn tcp(&self, action: &TCPSocketAction) -> Result<()> {
        self.connect(&action.port).await.map(drop)
    }

    async fn command(&self, command: &[String], limit: Duration) -> Result<()> {
        let output = exec::run(self.pid, command, limit).await?;
        if output.status.success() {
            Ok(())
        } else {
            bail!(
                "{} ended with {}: {}",
                command.join(" "),
                output.status,
                output.text.trim()
            )
        }
    }

    async fn try_once(&self, probe: &Probe) -> Result<()> {
        let limit = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
        if let Some(action) = &probe.exec {
            return self
                .command(action.command.as_deref().unwrap_or_default(), limit)
                .await;
        }
        let attempt = async {
            match (&probe.http_get, &probe.tcp_socket) {
                (Some(action), _) => self.http(action).await,
                (None, Some(action)) => self.tcp(action).await,
                (None, None) => bail!("probes of this sort are not supported here"),
            }
        };
        match timeout(limit, attempt).await {
            Ok(result) => result,
            Err(_) => bail!("no answer within {limit:?}"),
        }
    }

    /// Runs `probe` without end and calls `report` at each change of its verdict: healthy after
    /// `successThreshold` good tries, unhealthy (with the reason) after `failureThreshold` bad
    /// ones. Before the first verdict tries follow each other quickly; a bad first verdict is
    /// only given after `failureThreshold` periods.
    pub async fn watch(&self, probe: &Probe, mut report: impl FnMut(Result<()>)) {
        let period = seconds(probe.period_seconds, 10).max(Duration::from_secs(1));
        let needed = probe.success_threshold.unwrap_or(1).max(1);
        let allowed = u32::try_from(probe.failure_threshold.unwrap_or(3))
            .unwrap_or(3)
            .max(1);
        sleep(seconds(probe.initial_delay_seconds, 0)).await;
        let begun = tokio::time::Instant::now();
        let mut pause = FIRST_TRY;
        let (mut good, mut bad) = (0, 0);
        let mut healthy = None;
        loop {
            match self.try_once(probe).await {
                Ok(()) => {
                    (good, bad) = (good + 1, 0);
                    if good >= needed && healthy != Some(true) {
                        healthy = Some(true);
                        report(Ok(()));
                    }
                }
                Err(error) => {
                    (good, bad) = (0, bad + 1);
                    let failed = match healthy {
                        None => begun.elapsed() >= period * allowed,
                        Some(healthy) => healthy && bad >= allowed,
                    };
                    if failed {
                        healthy = Some(false);
                        report(Err(error));
                    }
                }
            }
            if healthy == Some(true) {
                pause = period;
            } else {
                pause = (pause * 3 / 2).min(period).min(Duration::from_millis(500));
            }
            sleep(pause).await;
        }
    }

    /// Runs a life-cycle hook to its end.
    ///
    /// # Errors
    /// When it fails or takes longer than `limit`.
    pub async fn hook(&self, hook: &LifecycleHandler, limit: Duration) -> Result<()> {
        if let Some(action) = &hook.exec {
            return self
                .command(action.command.as_deref().unwrap_or_default(), limit)
                .await;
        }
        let attempt = async {
            if let Some(action) = &hook.http_get {
                self.http(action).await
            } else if let Some(action) = &hook.sleep {
                sleep(Duration::from_secs(
                    u64::try_from(action.seconds).unwrap_or(0),
                ))
                .await;
                Ok(())
            } else {
                bail!("hooks of this sort are not supported here")
            }
        };
        timeout(limit, attempt)
            .await
            .unwrap_or_else(|_| bail!("no end within {limit:?}"))
    }
}
