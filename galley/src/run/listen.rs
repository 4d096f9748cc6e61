//! Opening ports, before anything else can fail.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use tokio::net::{TcpListener, UnixListener};

/// Where configuration is served.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens on `tcp://host:port`, `host:port`, or `unix:///path`; the last with plain text only.
    pub(super) async fn bind(address: &str, insecure: bool) -> anyhow::Result<Self> {
        let Some(path) = address.strip_prefix("unix://") else {
            let address = address.strip_prefix("tcp://").unwrap_or(address);
            let listener = TcpListener::bind(address).await;
            return Ok(Self::Tcp(
                listener.with_context(|| format!("listen on {address}"))?,
            ));
        };
        if !insecure {
            bail!("--server-address={address}: a Unix socket is served with --insecure only");
        }
        let path = PathBuf::from(path);
        // A socket that nobody serves any more would be in the way.
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != ErrorKind::NotFound
        {
            bail!("remove {}: {error}", path.display());
        }
        let listener = UnixListener::bind(&path);
        let listener = listener.with_context(|| format!("listen on {address}"))?;
        Ok(Self::Unix(listener, path))
    }

    /// `None` on a Unix socket.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }
}

/// Listens on a port of every address.
pub(super) async fn everywhere(port: u16, what: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(("0.0.0.0", port)).await;
    listener.with_context(|| format!("listen on {what} port {port}"))
}
