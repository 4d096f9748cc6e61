//! HTTP clients whose connections start in a Pod or on the host.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::platform::World;
use crate::stream::Stream;

/// Requests that were given no limit of their own end after this time.
const DEFAULT_LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
enum Place {
    Pod(World, String),
    Host,
}

impl tower::Service<Uri> for Place {
    type Response = TokioIo<Stream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let place = self.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let to = format!("{host}:{}", uri.port_u16().unwrap_or(80));
            let stream = match place {
                Self::Pod(world, pod) => world.dial(&pod, &to).await?,
                Self::Host => {
                    let stream = TcpStream::connect(&to).await?;
                    stream.set_nodelay(true)?;
                    Stream::Host(stream)
                }
            };
            Ok(TokioIo::new(stream))
        })
    }
}

/// A plain-text HTTP/1.1 client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client<Place, Full<Bytes>>,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// From the start of the request to the end of the body.
    pub elapsed: Duration,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("the body is not JSON: {:.200}", self.text()))
    }

    /// The text of a header field, empty when it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

impl World {
    /// An HTTP client whose connections start inside `pod`.
    #[must_use]
    pub fn http_from(&self, pod: &str) -> Http {
        Http::from_pod(self.clone(), pod.to_owned(), true)
    }

    /// The same with a new connection for each request.
    #[must_use]
    pub fn http_from_without_reuse(&self, pod: &str) -> Http {
        Http::from_pod(self.clone(), pod.to_owned(), false)
    }

    /// An HTTP client of this machine, for published addresses.
    #[must_use]
    pub fn http_from_host(&self) -> Http {
        Http::from_host(true)
    }
}

impl Http {
    fn from_pod(world: World, pod: String, reuse: bool) -> Self {
        Self::new(Place::Pod(world, pod), reuse)
    }

    /// A client of the host's network.
    #[must_use]
    pub fn from_host(reuse: bool) -> Self {
        Self::new(Place::Host, reuse)
    }

    fn new(place: Place, reuse: bool) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        // A request that failed is a result, not something to hide.
        builder.retry_canceled_requests(false);
        if !reuse {
            builder.pool_max_idle_per_host(0);
        }
        Self {
            client: builder.build(place),
        }
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// When there is no whole answer within `limit`.
    pub async fn send(&self, request: Request<Full<Bytes>>, limit: Duration) -> Result<Answer> {
        let begun = Instant::now();
        let what = format!("{} {}", request.method(), request.uri());
        let exchange = async {
            let answer = self.client.request(request).await?;
            let (parts, body) = answer.into_parts();
            anyhow::Ok((parts, body.collect().await?.to_bytes()))
        };
        let (parts, body) = tokio::time::timeout(limit, exchange)
            .await
            .with_context(|| format!("{what}: no answer within {limit:?}"))?
            .with_context(|| what.clone())?;
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
            elapsed: begun.elapsed(),
        })
    }

    /// GET without further header fields.
    ///
    /// # Errors
    /// When there is no answer within 30 s.
    pub async fn get(&self, url: &str) -> Result<Answer> {
        self.get_with(url, &[]).await
    }

    /// GET with header fields; `host` among them replaces the URL's.
    ///
    /// # Errors
    /// When there is no answer within 30 s.
    pub async fn get_with(&self, url: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        let mut request = Request::get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::default())
            .with_context(|| format!("GET {url}"))?;
        self.send(request, DEFAULT_LIMIT).await
    }

    /// POST with a body.
    ///
    /// # Errors
    /// When there is no answer within 30 s.
    pub async fn post(&self, url: &str, body: impl Into<Bytes>) -> Result<Answer> {
        let request = Request::post(url)
            .body(Full::new(body.into()))
            .with_context(|| format!("POST {url}"))?;
        self.send(request, DEFAULT_LIMIT).await
    }
}
