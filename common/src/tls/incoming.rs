//! The accept loop: yields connections after their handshake.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::{ReloadingServerConfig, peer_identities};

/// Limits of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of connections, including those in their handshake; others wait in the
    /// backlog.
    pub connections: usize,
    /// Time limit for a handshake.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            handshake: Duration::from_secs(10),
        }
    }
}

/// The peer of a connection. Handlers find it in the extensions of a request.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Address of the peer.
    pub remote: SocketAddr,
    /// Verified chain of the peer, leaf first; empty if it has none.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

impl PeerInfo {
    /// URI names in the peer's certificate.
    #[must_use]
    pub fn identities(&self) -> Vec<String> {
        peer_identities(&self.certificates)
    }
}

/// An accepted connection; counts against [`Limits::connections`] while it exists.
#[derive(Debug)]
pub struct TlsConnection {
    stream: TlsStream<TcpStream>,
    peer: PeerInfo,
    _place: Place,
}

/// Resources that a connection holds until it is closed.
#[derive(Debug)]
struct Place {
    _permit: OwnedSemaphorePermit,
    open: watch::Sender<usize>,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, open: &watch::Sender<usize>) -> Self {
        open.send_modify(|count| *count += 1);
        Self {
            _permit: permit,
            open: open.clone(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.send_modify(|count| *count -= 1);
    }
}

/// Number of open connections, including those in their handshake.
#[derive(Clone, Debug)]
pub struct Open(watch::Receiver<usize>);

impl Open {
    /// Returns when there are none; at once if there are none now.
    pub async fn none(mut self) {
        // An error means that the accept loop and the last connection are gone.
        let _: Result<_, watch::error::RecvError> =
            self.0.wait_for(|count| *count == 0).await.map(|_| ());
    }
}

/// Accepted connections: a stream for tonic, a listener for axum.
///
/// Dropping it stops accepting.
#[derive(Debug)]
pub struct Incoming {
    accepted: mpsc::Receiver<TlsConnection>,
    local: SocketAddr,
    open: Open,
}

impl Incoming {
    /// Gives access to the number of open connections.
    #[must_use]
    pub fn open(&self) -> Open {
        self.open.clone()
    }
}

/// Starts to accept. Each handshake is a task of its own, with the configuration at the time when
/// the connection comes; one that fails or takes too long is only logged at debug.
///
/// # Errors
/// If the listener has no address.
pub fn incoming(
    listener: TcpListener,
    config: ReloadingServerConfig,
    limits: Limits,
) -> io::Result<Incoming> {
    let local = listener.local_addr()?;
    let (accepted_tx, accepted) = mpsc::channel(16);
    let (count, open) = watch::channel(0);
    tokio::spawn(accept(listener, config, limits, accepted_tx, count));
    Ok(Incoming {
        accepted,
        local,
        open: Open(open),
    })
}

/// Delay after an error of `accept`, usually for lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

async fn accept(
    listener: TcpListener,
    config: ReloadingServerConfig,
    limits: Limits,
    accepted: mpsc::Sender<TlsConnection>,
    open: watch::Sender<usize>,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let (stream, remote) = tokio::select! {
            () = accepted.closed() => return,
            connection = listener.accept() => match connection {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::warn!(error = %error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let place = Place::new(permit, &open);
        let acceptor = TlsAcceptor::from(config.current());
        let accepted = accepted.clone();
        tokio::spawn(async move {
            match handshake(acceptor, stream, remote, limits.handshake, place).await {
                // An error means that the server is gone; the connection is closed with it.
                Ok(connection) => _ = accepted.send(connection).await,
                Err(error) => {
                    tracing::debug!(peer = %remote, error = %error, "TLS handshake failed")
                }
            }
        });
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    remote: SocketAddr,
    limit: Duration,
    place: Place,
) -> io::Result<TlsConnection> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(limit, acceptor.accept(stream))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let (_, session) = stream.get_ref();
    let certificates = session
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|certificate| certificate.clone().into_owned())
        .collect();
    Ok(TlsConnection {
        stream,
        peer: PeerInfo {
            remote,
            certificates,
        },
        _place: place,
    })
}

impl Stream for Incoming {
    type Item = io::Result<TlsConnection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.accepted
            .poll_recv(context)
            .map(|connection| connection.map(Ok))
    }
}

impl axum::serve::Listener for Incoming {
    type Io = TlsConnection;
    type Addr = PeerInfo;

    async fn accept(&mut self) -> (TlsConnection, PeerInfo) {
        match self.accepted.recv().await {
            Some(connection) => {
                let peer = connection.peer.clone();
                (connection, peer)
            }
            // The runtime is shutting down: no more connections will come.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<PeerInfo> {
        Ok(PeerInfo {
            remote: self.local,
            certificates: Arc::new([]),
        })
    }
}

/// Makes `ConnectInfo<PeerInfo>` available to axum handlers.
impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Incoming>>
    for PeerInfo
{
    fn connect_info(stream: axum::serve::IncomingStream<'_, Incoming>) -> Self {
        stream.remote_addr().clone()
    }
}

impl Connected for TlsConnection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
