//! Probes of the application, sent within the Pod to bypass mutual TLS.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_common::grpc::health::{HealthCheckRequest, ServingStatus, health_client::HealthClient};
use rustls::{ClientConfig, pki_types::ServerName};
use serde::Deserialize;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Endpoint;
use tower::service_fn;

use crate::http_client;

mod verifier;

/// Maximum size of a body that is passed on.
const MAX_BODY: usize = 10 * 1024;
const MAX_REDIRECTS: usize = 10;

/// Response to the kubelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Status.
    pub status: StatusCode,
    /// Body.
    pub body: Bytes,
}

impl Outcome {
    fn of(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            body: body.into(),
        }
    }
}

/// A probe or lifecycle hook as defined in the Pod.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocketAction>,
    grpc: Option<Grpc>,
    #[serde(default)]
    timeout_seconds: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpGet {
    #[serde(default)]
    path: String,
    port: u16,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    http_headers: Vec<Header>,
}

#[derive(Debug, Clone, Deserialize)]
struct Header {
    name: String,
    value: String,
}

#[derive(Debug, Clone, Deserialize)]
struct TcpSocketAction {
    port: u16,
}

#[derive(Debug, Clone, Deserialize)]
struct Grpc {
    port: u16,
    #[serde(default)]
    service: Option<String>,
}

/// Destination and options of probes.
#[derive(Debug, Clone)]
pub struct Target {
    /// The Pod's address, or a loopback address.
    pub address: IpAddr,
    /// The status port, which is replaced in Host headers.
    pub status_port: u16,
    /// Offer HTTP/2 for https probes.
    pub http2: bool,
}

/// All probes of the Pod.
#[derive(Debug)]
pub struct Probes {
    probes: BTreeMap<String, Probe>,
    target: Target,
    tls: Arc<ClientConfig>,
}

impl Probes {
    /// Parses `ISTIO_KUBE_APP_PROBERS`.
    ///
    /// # Errors
    /// If a path or probe is invalid; the message names it.
    pub fn new(json: Option<&str>, target: Target) -> Result<Self, String> {
        let fail =
            |problem: &dyn std::fmt::Display| format!("invalid ISTIO_KUBE_APP_PROBERS: {problem}");
        let raw: BTreeMap<String, serde_json::Value> = json
            .map_or_else(|| Ok(BTreeMap::new()), serde_json::from_str)
            .map_err(|error| fail(&error))?;
        let mut probes = BTreeMap::new();
        for (path, value) in raw {
            check_path(&path).map_err(|problem| fail(&format!("{path:?}: {problem}")))?;
            let probe = parse(value).map_err(|problem| fail(&format!("{path:?}: {problem}")))?;
            probes.insert(path, probe);
        }
        let tls = verifier::config(target.http2).map_err(|error| fail(&error))?;
        Ok(Self {
            probes,
            target,
            tls,
        })
    }

    /// Runs the probe behind `path`.
    pub async fn run(&self, path: &str, headers: &HeaderMap) -> Outcome {
        let Some(probe) = self.probes.get(path) else {
            return Outcome::of(
                StatusCode::BAD_REQUEST,
                format!("{path} is not a probe of this Pod\n"),
            );
        };
        let limit = Duration::from_secs(probe.timeout_seconds.max(1));
        let call = async {
            if let Some(http) = &probe.http_get {
                self.http(http, headers).await
            } else if let Some(tcp) = &probe.tcp_socket {
                self.connect(tcp.port)
                    .await
                    .map(|_| Outcome::of(StatusCode::OK, ""))
                    .map_err(|error| error.to_string())
            } else if let Some(grpc) = &probe.grpc {
                self.grpc(grpc, headers).await
            } else {
                Err("the probe defines no action".to_owned())
            }
        };
        let result = tokio::time::timeout(limit, call)
            .await
            .unwrap_or_else(|_| Err(format!("no response within {limit:?}")));
        result.unwrap_or_else(|problem| {
            tracing::debug!(path, problem, "application probe failed");
            Outcome::of(StatusCode::INTERNAL_SERVER_ERROR, format!("{problem}\n"))
        })
    }

    /// The source address exempts the connection from capture.
    async fn connect(&self, port: u16) -> std::io::Result<TcpStream> {
        connect(SocketAddr::new(self.target.address, port)).await
    }

    async fn http(&self, http: &HttpGet, incoming: &HeaderMap) -> Result<Outcome, String> {
        let tls = http.scheme.eq_ignore_ascii_case("https");
        let mut path = if http.path.starts_with('/') {
            http.path.clone()
        } else {
            format!("/{}", http.path)
        };
        let host = self.host(http, incoming);
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(http.port, tls, &path, &host, incoming).await?;
            let (parts, body) = response.into_parts();
            let location = parts
                .headers
                .get(header::LOCATION)
                .and_then(|value| value.to_str().ok());
            match location
                .filter(|_| parts.status.is_redirection())
                .and_then(|to| same_host(to, &host))
            {
                Some(next) => path = next,
                None if parts.status.is_redirection() => {
                    return Ok(Outcome::of(StatusCode::OK, ""));
                }
                None => {
                    let body = http_client::collect(body, MAX_BODY)
                        .await
                        .map_err(|error| error.to_string())?;
                    return Ok(Outcome::of(parts.status, body));
                }
            }
        }
        Err(format!(
            "too many redirects: at most {MAX_REDIRECTS} are followed"
        ))
    }

    fn host(&self, http: &HttpGet, incoming: &HeaderMap) -> String {
        if let Some(own) = http
            .http_headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("host"))
        {
            return own.value.clone();
        }
        let given = incoming
            .get(header::HOST)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        match given.strip_suffix(&format!(":{}", self.target.status_port)) {
            Some(name) => format!("{name}:{}", http.port),
            None if given.is_empty() => SocketAddr::new(self.target.address, http.port).to_string(),
            None => given.to_owned(),
        }
    }

    async fn send(
        &self,
        port: u16,
        tls: bool,
        path: &str,
        host: &str,
        incoming: &HeaderMap,
    ) -> Result<axum::http::Response<Incoming>, String> {
        let mut request = Request::get(path)
            .body(Full::<Bytes>::default())
            .map_err(|error| error.to_string())?;
        for (name, value) in incoming.iter().filter(|(name, _)| !is_hop_by_hop(name)) {
            request.headers_mut().append(name, value.clone());
        }
        let value = HeaderValue::from_str(host).map_err(|error| error.to_string())?;
        request.headers_mut().insert(header::HOST, value);
        let stream = self
            .connect(port)
            .await
            .map_err(|error| error.to_string())?;
        if !tls {
            request
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
            return http_client::open(stream, request)
                .await
                .map_err(|error| error.to_string());
        }
        let stream = self.handshake(stream, host).await?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            return open_http2(stream, request, host, path).await;
        }
        http_client::open(stream, request)
            .await
            .map_err(|error| error.to_string())
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> Result<TlsStream<TcpStream>, String> {
        let name = host
            .rsplit_once(':')
            .map_or(host, |(name, _)| name)
            .to_owned();
        let name =
            ServerName::try_from(name).unwrap_or_else(|_| ServerName::from(self.target.address));
        TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await
            .map_err(|error| error.to_string())
    }

    async fn grpc(&self, grpc: &Grpc, incoming: &HeaderMap) -> Result<Outcome, String> {
        let target = SocketAddr::new(self.target.address, grpc.port);
        let mut endpoint =
            Endpoint::from_shared(format!("http://{target}")).map_err(|error| error.to_string())?;
        if let Some(agent) = incoming.get(header::USER_AGENT) {
            endpoint = endpoint
                .user_agent(agent.clone())
                .map_err(|error| error.to_string())?;
        }
        let connector =
            service_fn(move |_: Uri| async move { connect(target).await.map(TokioIo::new) });
        let channel = endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|error| error.to_string())?;
        let request = HealthCheckRequest {
            service: grpc.service.clone().unwrap_or_default(),
        };
        let answer = HealthClient::new(channel)
            .check(request)
            .await
            .map_err(|status| status.to_string())?;
        match answer.into_inner().status() {
            ServingStatus::Serving => Ok(Outcome::of(StatusCode::OK, "")),
            other => Err(format!("the service reports {other:?}")),
        }
    }
}

async fn open_http2(
    stream: TlsStream<TcpStream>,
    mut request: Request<Full<Bytes>>,
    host: &str,
    path: &str,
) -> Result<axum::http::Response<Incoming>, String> {
    request.headers_mut().remove(header::HOST);
    *request.uri_mut() = Uri::builder()
        .scheme("https")
        .authority(host)
        .path_and_query(path)
        .build()
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "probe connection failed");
        }
    });
    sender
        .send_request(request)
        .await
        .map_err(|error| error.to_string())
}

async fn connect(target: SocketAddr) -> std::io::Result<TcpStream> {
    let (socket, source): (TcpSocket, IpAddr) = if target.is_ipv4() {
        (TcpSocket::new_v4()?, Ipv4Addr::new(127, 0, 0, 6).into())
    } else {
        (
            TcpSocket::new_v6()?,
            Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6).into(),
        )
    };
    // ::6 exists only with traffic capture; without it any source address works.
    if let Err(error) = socket.bind(SocketAddr::new(source, 0)) {
        tracing::debug!(%error, %source, "sending a probe from the default address");
    }
    socket.connect(target).await
}

fn check_path(path: &str) -> Result<(), String> {
    let parts: Vec<&str> = path.split('/').collect();
    let valid = match parts.as_slice() {
        ["", "app-health", container, kind] => {
            !container.is_empty() && matches!(*kind, "livez" | "readyz" | "startupz")
        }
        ["", "app-lifecycle", container, kind] => {
            !container.is_empty() && matches!(*kind, "prestopz" | "poststartz")
        }
        _ => false,
    };
    if valid {
        Ok(())
    } else {
        Err("want /app-health/<container>/{livez,readyz,startupz} or \
             /app-lifecycle/<container>/{prestopz,poststartz}"
            .to_owned())
    }
}

/// Exactly one action; a bare HTTP action is the form of 1.1.
fn parse(value: serde_json::Value) -> Result<Probe, String> {
    let is_old = value.get("port").is_some();
    let value = if is_old {
        serde_json::json!({"httpGet": value})
    } else {
        value
    };
    let probe: Probe = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let actions = [
        probe.http_get.is_some(),
        probe.tcp_socket.is_some(),
        probe.grpc.is_some(),
    ];
    match actions.into_iter().filter(|given| *given).count() {
        1 => Ok(probe),
        count => Err(format!(
            "{count} actions: want exactly one of httpGet, tcpSocket and grpc"
        )),
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "transfer-encoding"
            | "upgrade"
            | "te"
            | "content-length"
            | "host"
    )
}

/// The path of a redirect to the same host.
fn same_host(location: &str, host: &str) -> Option<String> {
    let to: Uri = location.parse().ok()?;
    let name = |authority: &str| {
        authority
            .rsplit_once(':')
            .map_or(authority, |(name, _)| name)
            .to_ascii_lowercase()
    };
    let stays = to
        .authority()
        .is_none_or(|authority| name(authority.as_str()) == name(host));
    stays.then(|| {
        to.path_and_query()
            .map_or_else(|| "/".to_owned(), ToString::to_string)
    })
}

#[cfg(test)]
mod tests;
