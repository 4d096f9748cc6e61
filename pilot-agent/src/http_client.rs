//! Simple HTTP/1.1 requests within this Pod: Envoy's admin interface, metrics, probes.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed.
    #[error("{0}")]
    Connect(#[from] io::Error),
    /// The peer violated the HTTP protocol.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The request is not valid.
    #[error("{0}")]
    Request(#[from] http::Error),
    /// The peer did not respond in time.
    #[error("no response within {0:?}")]
    Timeout(Duration),
    /// The form of the URL is not supported.
    #[error("unsupported URL {0:?}: want a form such as http://localhost:15021/healthz/ready")]
    Url(String),
}

/// A complete response.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: http::HeaderMap,
    /// Body, truncated at the limit of the call.
    pub body: Bytes,
}

/// Sends a request over an established connection; the body of the response is not read yet.
///
/// # Errors
/// If the connection breaks.
pub async fn open<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // The caller sees the failure in the response, too.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "local connection failed");
        }
    });
    Ok(sender.send_request(request).await?)
}

/// Reads a body up to `limit` bytes; the rest is not read.
///
/// # Errors
/// If the connection breaks.
pub async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, Error> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            let room = limit.saturating_sub(all.len());
            all.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
            if room <= data.len() {
                break;
            }
        }
    }
    Ok(all.freeze())
}

/// Connects to a port of this Pod, IPv4 loopback first.
///
/// # Errors
/// If neither loopback address accepts.
pub async fn connect_local(port: u16) -> io::Result<TcpStream> {
    match TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
        Ok(stream) => Ok(stream),
        Err(first) => TcpStream::connect(SocketAddr::from((Ipv6Addr::LOCALHOST, port)))
            .await
            .map_err(|_| first),
    }
}

/// Sends a request to a port of this Pod.
///
/// # Errors
/// If there is no complete response within `limit`.
pub async fn local(
    port: u16,
    method: &str,
    path_and_query: &str,
    body: Bytes,
    limit: Duration,
    max_body: usize,
) -> Result<Answer, Error> {
    let path = path_and_query.strip_prefix('/').unwrap_or(path_and_query);
    let request = Request::builder()
        .method(method)
        .uri(format!("/{path}"))
        .header(header::HOST, format!("localhost:{port}"))
        .body(Full::new(body))?;
    within(limit, async {
        let response = open(connect_local(port).await?, request).await?;
        let (parts, body) = response.into_parts();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: collect(body, max_body).await?,
        })
    })
    .await
}

/// GET request for an `http://` URL; `localhost` is this Pod.
///
/// # Errors
/// If there is no complete response within `limit` or the URL has another form.
pub async fn get(url: &str, limit: Duration) -> Result<Answer, Error> {
    const MAX_BODY: usize = 64 * 1024;
    let bad = || Error::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let host = uri.host().ok_or_else(bad)?;
    if uri.scheme_str() != Some("http") {
        return Err(bad());
    }
    let port = uri.port_u16().unwrap_or(80);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    if host == "localhost" {
        return local(port, "GET", path, Bytes::new(), limit, MAX_BODY).await;
    }
    let request = Request::get(path)
        .header(header::HOST, format!("{host}:{port}"))
        .body(Full::default())?;
    within(limit, async {
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        let (parts, body) = open(stream, request).await?.into_parts();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: collect(body, MAX_BODY).await?,
        })
    })
    .await
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, call)
        .await
        .unwrap_or(Err(Error::Timeout(limit)))
}
