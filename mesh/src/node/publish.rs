//! Published addresses: listeners of the host's network that lead to Pods.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Ready addresses by Service namespace, Service name and Service port number.
pub type Routes = BTreeMap<(String, String, u16), Vec<SocketAddr>>;

/// Accepts on `listener`, made in the host's network, and forwards each connection to the next
/// ready Pod. Without one the connection is closed.
///
/// # Errors
/// When the listener cannot be used.
pub async fn forward(
    listener: TcpListener,
    key: (String, String, u16),
    routes: watch::Receiver<Arc<Routes>>,
) -> Result<()> {
    listener
        .set_nonblocking(true)
        .context("prepare a published address")?;
    let listener =
        tokio::net::TcpListener::from_std(listener).context("use a published address")?;
    let turn = AtomicUsize::new(0);
    loop {
        let (mut client, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // One connection that broke, or no descriptors left: neither ends the service.
            Err(error) => {
                tracing::warn!(%error, "accept on a published address");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let addresses = routes.borrow().get(&key).cloned().unwrap_or_default();
        let next = turn.fetch_add(1, Ordering::Relaxed) % addresses.len().max(1);
        let Some(target) = addresses.get(next).copied() else {
            tracing::debug!(%peer, service = key.1, "no ready Pod behind a published address");
            continue;
        };
        tokio::spawn(async move {
            let forwarded = async {
                let mut server = TcpStream::connect(target).await?;
                client.set_nodelay(true)?;
                server.set_nodelay(true)?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            };
            if let Err(error) = forwarded.await {
                tracing::debug!(%peer, %target, %error, "a published connection broke");
            }
        });
    }
}
