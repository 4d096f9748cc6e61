//! TCP server that echoes each line with a prefix, so that clients can tell versions apart.

use crate::server;
use anyhow::Context as _;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Maximum number of connections on all ports; others wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// Maximum length of a line, in bytes; longer ones are returned in parts.
const MAX_LINE: u64 = 64 * 1024;

/// Settings of tcp-echo.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ports to listen on, comma-separated; 0 for any free port
    #[arg(long = "port", env = "TCP_PORTS", value_delimiter = ',', default_values_t = [9000, 9001])]
    pub ports: Vec<u16>,
    /// Prefix of each response
    #[arg(long, env = "PREFIX", default_value = "hello")]
    pub prefix: String,
    #[command(flatten)]
    pub instance: server::Instance,
}

/// Serves until `shutdown`, then for the configured delay; open connections are closed then.
///
/// # Errors
/// If a port cannot be bound.
pub async fn run(args: Args, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let mut listeners = Vec::new();
    for port in &args.ports {
        listeners.push(server::bind(*port).await?);
    }
    serve(listeners, &args.prefix, async {
        shutdown.await;
        tokio::time::sleep(Duration::from_secs(args.instance.shutdown_delay)).await;
    })
    .await
}

/// Serves on bound listeners.
///
/// # Errors
/// If the address of a listener is not available.
pub async fn serve(
    listeners: Vec<TcpListener>,
    prefix: &str,
    end: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let prefix: Arc<str> = Arc::from(prefix);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        tracing::info!(address = %listener.local_addr().context("no local address")?, "listening");
        tasks.spawn(accept(listener, Arc::clone(&prefix), Arc::clone(&places)));
    }
    end.await;
    tasks.shutdown().await;
    Ok(())
}

async fn accept(listener: TcpListener, prefix: Arc<str>, places: Arc<Semaphore>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let prefix = Arc::clone(&prefix);
                connections.spawn(async move {
                    tracing::info!(%peer, "connection");
                    if let Err(error) = echo(stream, &prefix).await {
                        tracing::debug!(%peer, %error, "connection failed");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // Usually too many open files: retrying at once would only spin.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn echo(stream: TcpStream, prefix: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut reader)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .await?;
        if line.is_empty() {
            return Ok(());
        }
        let mut answer = Vec::with_capacity(prefix.len() + line.len() + 2);
        answer.extend_from_slice(prefix.as_bytes());
        answer.push(b' ');
        answer.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(&line));
        answer.push(b'\n');
        writer.write_all(&answer).await?;
    }
}
