//! gRPC channels over our TLS configuration.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

use super::ReloadingClientConfig;

/// Time limit for establishing a connection, and for the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Dials with the configuration at that time.
#[derive(Clone, Debug)]
pub struct Connector {
    config: ReloadingClientConfig,
    server_name: Option<String>,
}

impl Connector {
    /// `server_name` replaces the dialled host in SNI and in the verification of the DNS name.
    #[must_use]
    pub fn new(config: ReloadingClientConfig, server_name: Option<String>) -> Self {
        Self {
            config,
            server_name,
        }
    }

    async fn connect(self, uri: Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
        let host = uri
            .host()
            .ok_or_else(|| invalid(format!("the address {uri} has no host")))?
            .trim_start_matches('[')
            .trim_end_matches(']');
        let name = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| invalid(format!("{name:?} is not a valid server name")))?;
        let port = uri.port_u16().unwrap_or(443);
        let stream = within("connect", TcpStream::connect((host, port))).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(self.config.current());
        let stream = within("TLS handshake", connector.connect(name, stream)).await?;
        Ok(TokioIo::new(stream))
    }
}

async fn within<T>(what: &str, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(CONNECT_TIMEOUT, work)
        .await
        .unwrap_or_else(|_| {
            let text = format!("{what} took longer than {} s", CONNECT_TIMEOUT.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A lazy channel to `host:port` over TLS: it connects at the first call, and again when needed. An
/// IPv6 address is written in brackets. `tune` sets timeouts and similar options.
///
/// # Errors
/// If the address is not of that form.
pub fn channel(
    address: &str,
    config: &ReloadingClientConfig,
    server_name: Option<&str>,
    tune: impl FnOnce(Endpoint) -> Endpoint,
) -> Result<Channel, tonic::transport::Error> {
    // The scheme of the endpoint makes tonic leave TLS to the connector; requests have the scheme
    // of the origin.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let origin = Uri::builder()
        .scheme("https")
        .authority(
            endpoint
                .uri()
                .authority()
                .map_or(address, |authority| authority.as_str()),
        )
        .path_and_query("/")
        .build();
    let endpoint = match origin {
        Ok(origin) => endpoint.origin(origin),
        Err(_) => endpoint,
    };
    let connector = Connector::new(config.clone(), server_name.map(str::to_owned));
    Ok(tune(endpoint).connect_with_connector_lazy(connector))
}
