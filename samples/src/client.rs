//! A client with one HTTP/1.1 connection at a time, and `samples request`, which sends one request
//! with it.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Maximum size of a response, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// Request and destination.
#[derive(Clone, Debug, clap::Args)]
pub struct Target {
    /// URL: `http://host[:port]/path`
    pub url: Uri,
    /// Method
    #[arg(short = 'X', long, default_value = "GET")]
    pub method: Method,
    /// Header "Name: value"; may be repeated
    #[arg(short = 'H', long = "header", value_parser = parse_header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body
    #[arg(short = 'd', long, default_value = "")]
    pub data: String,
    /// Connect to HOST:PORT instead of the host in the URL
    #[arg(long, value_name = "HOST:PORT")]
    pub connect_to: Option<String>,
    /// Timeout of one request, including the connection, such as 2s or 500ms
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

/// Settings of `request`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub target: Target,
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("want a header in the form Name: value")?;
    let name = name.trim().parse().map_err(|e| format!("{name:?}: {e}"))?;
    let value = value
        .trim()
        .parse()
        .map_err(|e| format!("{value:?}: {e}"))?;
    Ok((name, value))
}

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The name could not be resolved.
    Resolve,
    /// The connection failed.
    Connect,
    /// There was no complete response in time.
    Timeout,
    /// The connection was closed before the response was complete.
    Closed,
    /// The response was not HTTP/1.1.
    Protocol,
}

impl Failure {
    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
        }
    }
}

/// A complete response.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// Sends requests one by one, over one connection as long as that stays open.
#[derive(Debug)]
pub struct Client {
    address: String,
    request: Request<Full<Bytes>>,
    timeout: Duration,
    keepalive: bool,
    sender: Option<SendRequest<Full<Bytes>>>,
    /// Number of connections so far.
    pub connections: u64,
}

impl Client {
    /// # Errors
    /// If the URL does not begin with `http://` or has no host.
    pub fn new(target: &Target, keepalive: bool) -> anyhow::Result<Self> {
        let url = &target.url;
        if url.scheme_str() != Some("http") {
            bail!("unsupported URL {url}: want http://");
        }
        let host = url
            .host()
            .with_context(|| format!("the URL {url} has no host"))?;
        let address = match &target.connect_to {
            Some(address) => address.clone(),
            None => format!("{host}:{}", url.port_u16().unwrap_or(80)),
        };
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(target.method.clone())
            .uri(path)
            .body(Full::new(Bytes::from(target.data.clone())))
            .context("cannot create the request")?;
        let authority = url.authority().map_or(host, |authority| authority.as_str());
        let headers = request.headers_mut();
        headers.insert(
            HOST,
            HeaderValue::from_str(authority).context("invalid host name")?,
        );
        for (name, value) in &target.headers {
            if name == HOST {
                headers.insert(HOST, value.clone());
            } else {
                headers.append(name.clone(), value.clone());
            }
        }
        if !keepalive {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(Self {
            address,
            request,
            timeout: target.timeout,
            keepalive,
            sender: None,
            connections: 0,
        })
    }

    /// Sends the request once and reads the complete response.
    ///
    /// A kept connection that was closed before the request was sent is replaced and does not count
    /// as a failure: the server did not see the request.
    ///
    /// # Errors
    /// The kind of failure, if there is no complete response in time.
    pub async fn send(&mut self) -> Result<Answer, Failure> {
        let timeout = self.timeout;
        let result = match tokio::time::timeout(timeout, self.exchange()).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Timeout),
        };
        if result.is_err() || !self.keepalive {
            self.sender = None;
        }
        result
    }

    async fn exchange(&mut self) -> Result<Answer, Failure> {
        loop {
            let kept = self.sender.take();
            let reused = kept.is_some();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            let sent = match sender.ready().await {
                Ok(()) => sender.send_request(self.request.clone()).await,
                Err(_) if reused => continue,
                Err(error) => Err(error),
            };
            let response = match sent {
                Ok(response) => response,
                Err(error) if reused && error.is_canceled() => continue,
                Err(error) if error.is_parse() => return Err(Failure::Protocol),
                Err(_) => return Err(Failure::Closed),
            };
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|_| Failure::Closed)?.to_bytes();
            self.sender = Some(sender);
            let status = parts.status.as_u16();
            return Ok(Answer {
                status,
                headers: parts.headers,
                body,
            });
        }
    }

    async fn connect(&mut self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let stream = connect(&self.address).await?;
        self.connections += 1;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Failure::Protocol)?;
        tokio::spawn(async move {
            // The error is reported by the request on this connection.
            let _reported = connection.await;
        });
        Ok(sender)
    }
}

/// Opens a TCP connection to `host:port`; distinguishes resolution failures from connection
/// failures.
pub(crate) async fn connect(address: &str) -> Result<TcpStream, Failure> {
    let addresses = tokio::net::lookup_host(address)
        .await
        .map_err(|_| Failure::Resolve)?;
    for address in addresses {
        if let Ok(stream) = TcpStream::connect(address).await {
            stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
            return Ok(stream);
        }
    }
    Err(Failure::Connect)
}

/// Sends one request and prints the response as JSON: status, headers, body, elapsed_ms.
///
/// # Errors
/// If the URL is not usable.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut client = Client::new(&args.target, false)?;
    let started = Instant::now();
    let result = client.send().await;
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (report, code) = match result {
        Ok(answer) => {
            let headers: Map<String, Value> = answer
                .headers
                .iter()
                .map(|(name, value)| {
                    (
                        name.to_string(),
                        String::from_utf8_lossy(value.as_bytes()).into(),
                    )
                })
                .collect();
            let report = json!({
                "status": answer.status,
                "headers": headers,
                "body": String::from_utf8_lossy(&answer.body),
                "elapsed_ms": elapsed_ms,
            });
            (report, ExitCode::SUCCESS)
        }
        Err(failure) => (
            json!({"error": failure.name(), "elapsed_ms": elapsed_ms}),
            ExitCode::FAILURE,
        ),
    };
    println!("{report}");
    Ok(code)
}
