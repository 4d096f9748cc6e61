//! Dials the other end, repeatedly and with a delay.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::backoff::Backoff;
use crate::tls::{self, ClientFiles, ReloadingClientConfig, Verify};

/// Back-off between connections: shortest and longest delay.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Time to wait for the status of a stream that has ended.
const LAST_WORD: Duration = Duration::from_secs(1);
/// If a peer rejects our pings as too frequent, their interval doubles up to this.
const MAX_PING_INTERVAL: Duration = Duration::from_secs(360);

/// Time limit for establishing a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time to wait for the answer to a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Flow-control window: a large first snapshot should not wait for round trips.
const WINDOW_BYTES: u32 = 4 << 20;

/// Why an address cannot be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Its form is unknown.
    #[error(
        "address {0:?}: want mcp://host:port, mcps://host:port, host:port, dns:///host:port or unix:///path"
    )]
    Form(String),
    /// It asks for TLS, and no certificates are configured.
    #[error("address {0:?} asks for TLS, but no certificates are configured")]
    NoTls(String),
}

/// Opens a connection to the other end, a new one for every stream, so that names are resolved and
/// certificates are read again.
pub trait Connect: Send + Sync + 'static {
    /// `ping_interval`: HTTP/2 keepalive, also without streams.
    fn connect(&self, ping_interval: Duration) -> BoxFuture<'_, anyhow::Result<Channel>>;
}

/// Delays between streams, and intervals of pings.
#[derive(Debug)]
pub(super) struct Pace {
    backoff: Backoff,
    first_ping: Duration,
    ping: Duration,
}

/// How a stream ended, for [`Pace`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending<'a> {
    /// [`Code::Ok`] if the peer closed it in good order.
    pub(super) code: Code,
    /// Description of the cause.
    pub(super) reason: &'a str,
    /// Whether something was received on it.
    pub(super) of_use: bool,
    /// Time from connecting to the end.
    pub(super) lived: Duration,
}

impl Ending<'_> {
    /// Whether the peer may have rejected our pings as too frequent. gRPC servers of the time of
    /// 1.1 say so in a frame without a stream, and close the connection: the stream only sees that
    /// the connection broke, after the fourth ping at the earliest.
    fn wants_calm(&self, ping: Duration) -> bool {
        let says = |text: &str| self.reason.contains(text);
        says("too_many_pings")
            || says("ENHANCE_YOUR_CALM")
            || (says("broken pipe") && self.lived >= ping * 3)
    }
}

impl Pace {
    /// `ping`: the initial interval.
    pub(super) fn new(ping: Duration) -> Self {
        Self {
            backoff: Backoff::new(BACKOFF.0, BACKOFF.1),
            first_ping: ping,
            ping,
        }
    }

    /// The interval of pings on the next connection.
    pub(super) fn ping(&self) -> Duration {
        self.ping
    }

    /// Records the end of a stream and returns the delay before the next.
    pub(super) fn ended(&mut self, ending: Ending<'_>) -> Duration {
        if ending.of_use {
            self.backoff.reset();
        }
        if ending.wants_calm(self.ping) {
            self.ping = (self.ping * 2).min(MAX_PING_INTERVAL).max(self.first_ping);
        } else if ending.code == Code::Ok {
            self.ping = self.first_ping;
        }
        self.backoff.next()
    }
}

/// Why the peer ended a stream that no longer accepts messages: the status comes after everything
/// sent before it. `None` if there is none, or not in time.
pub(super) async fn last_word<T>(
    mut stream: impl Stream<Item = Result<T, Status>> + Unpin,
) -> Option<Status> {
    let status = async {
        loop {
            match stream.next().await? {
                Ok(_) => {}
                Err(status) => return Some(status),
            }
        }
    };
    tokio::time::timeout(LAST_WORD, status).await.ok().flatten()
}

/// The status with its causes: only they have the reason given by HTTP/2.
pub(super) fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        if !more.is_empty() && !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// Where the certificates of a connection come from.
#[derive(Debug, Clone)]
enum Trust {
    /// Loaded and followed by the caller.
    Followed(ReloadingClientConfig),
    /// Read for each connection.
    Read(ClientFiles),
}

#[derive(Debug, Clone)]
enum Target {
    Plain(String),
    Tls(String, Trust, Option<String>),
    Unix(PathBuf),
}

/// Connects to one address.
#[derive(Debug, Clone)]
pub struct Dial {
    target: Target,
}

impl Dial {
    /// `mcps://` needs `tls`; `mcp://` and `unix://` never use it; an address without either uses
    /// it if given. `server_name` replaces the host when the server's certificate is verified.
    pub fn new(
        address: &str,
        tls: Option<ReloadingClientConfig>,
        server_name: Option<String>,
    ) -> Result<Self, AddressError> {
        Self::trusting(address, tls.map(Trust::Followed), server_name)
    }

    /// The same with certificates that are read when a connection is opened, and need not exist
    /// yet.
    pub fn reading(
        address: &str,
        files: Option<ClientFiles>,
        server_name: Option<String>,
    ) -> Result<Self, AddressError> {
        Self::trusting(address, files.map(Trust::Read), server_name)
    }

    fn trusting(
        address: &str,
        trust: Option<Trust>,
        server_name: Option<String>,
    ) -> Result<Self, AddressError> {
        let form = || AddressError::Form(address.to_owned());
        if let Some(path) = address.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(form());
            }
            return Ok(Self {
                target: Target::Unix(path.into()),
            });
        }
        let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
        let host = rest.trim_start_matches('/').trim_end_matches('/');
        let (name, port) = host.rsplit_once(':').ok_or_else(form)?;
        let bracketed = name.starts_with('[') && name.ends_with(']');
        let name_ok = !name.is_empty() && (bracketed || !name.contains([':', '/', '@', ' ']));
        if !name_ok || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(form());
        }
        let host = host.to_owned();
        let target = match (scheme, trust) {
            ("mcps", Some(trust)) | ("" | "dns" | "tcp", Some(trust)) => {
                Target::Tls(host, trust, server_name)
            }
            ("mcps", None) => return Err(AddressError::NoTls(address.to_owned())),
            ("mcp", _) | ("" | "dns" | "tcp", None) => Target::Plain(host),
            _ => return Err(form()),
        };
        Ok(Self { target })
    }

    /// Whether connections are encrypted and the server is verified.
    pub fn is_tls(&self) -> bool {
        matches!(self.target, Target::Tls(..))
    }

    fn open(&self, ping_interval: Duration) -> anyhow::Result<Channel> {
        let tune = |endpoint: Endpoint| {
            endpoint
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(ping_interval)
                .keep_alive_timeout(PING_TIMEOUT)
                .keep_alive_while_idle(true)
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES)
        };
        Ok(match &self.target {
            Target::Plain(host) => {
                tune(Endpoint::from_shared(format!("http://{host}"))?).connect_lazy()
            }
            Target::Tls(host, trust, name) => {
                let config = match trust {
                    Trust::Followed(config) => config.clone(),
                    Trust::Read(files) => ReloadingClientConfig::load(files.clone(), Verify::Dns)
                        .context("cannot load the certificates")?,
                };
                tls::channel(host, &config, name.as_deref(), tune)?
            }
            Target::Unix(path) => {
                let path = path.clone();
                let connect = tower::service_fn(move |_: http::Uri| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                });
                // The name is only the authority of requests.
                tune(Endpoint::from_static("http://localhost")).connect_with_connector_lazy(connect)
            }
        })
    }
}

impl Connect for Dial {
    fn connect(&self, ping_interval: Duration) -> BoxFuture<'_, anyhow::Result<Channel>> {
        Box::pin(std::future::ready(self.open(ping_interval)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ending(code: Code, reason: &str, lived: Duration) -> Ending<'_> {
        Ending {
            code,
            reason,
            of_use: true,
            lived,
        }
    }

    #[test]
    fn pings_slow_down_when_the_peer_asks_for_calm() {
        let mut pace = Pace::new(100 * SECOND);
        pace.ended(ending(Code::Unavailable, "connection reset", 900 * SECOND));
        assert_eq!(pace.ping(), 100 * SECOND);
        pace.ended(ending(
            Code::Unavailable,
            "error: ENHANCE_YOUR_CALM",
            SECOND,
        ));
        assert_eq!(pace.ping(), 200 * SECOND);
        pace.ended(ending(Code::Unavailable, "too_many_pings", SECOND));
        pace.ended(ending(Code::Unavailable, "too_many_pings", SECOND));
        assert_eq!(pace.ping(), MAX_PING_INTERVAL);
    }

    #[test]
    fn pings_slow_down_when_the_connection_goes_after_a_few_of_them() {
        // Like galley of 1.1: with a ping every 30 s the connection breaks after 120 s.
        let gone = "error reading a body from connection: stream closed because of a broken pipe";
        let mut pace = Pace::new(30 * SECOND);
        pace.ended(ending(Code::Unknown, gone, 89 * SECOND));
        assert_eq!(pace.ping(), 30 * SECOND, "the peer may have been restarted");
        pace.ended(ending(Code::Unknown, gone, 120 * SECOND));
        assert_eq!(pace.ping(), 60 * SECOND);
        pace.ended(ending(Code::Unknown, gone, 120 * SECOND));
        assert_eq!(pace.ping(), 60 * SECOND);
        pace.ended(ending(Code::Unknown, gone, 240 * SECOND));
        assert_eq!(pace.ping(), 120 * SECOND);
        // Another peer, which accepts the pings.
        pace.ended(ending(
            Code::Ok,
            "the source ended the stream",
            1800 * SECOND,
        ));
        assert_eq!(pace.ping(), 30 * SECOND);
    }

    #[test]
    fn streams_that_bring_nothing_are_opened_ever_more_rarely() {
        let mut pace = Pace::new(30 * SECOND);
        let useless = Ending {
            of_use: false,
            ..ending(Code::Unavailable, "", SECOND)
        };
        let waits: Vec<_> = (0..40).map(|_| pace.ended(useless)).collect();
        assert_eq!(waits.first(), Some(&BACKOFF.0));
        assert!(waits.iter().all(|wait| *wait <= BACKOFF.1));
        assert!(waits.last().is_some_and(|wait| *wait >= BACKOFF.1 / 2));
        assert_eq!(pace.ended(ending(Code::Unavailable, "", SECOND)), BACKOFF.0);
    }

    #[tokio::test]
    async fn the_status_is_found_behind_what_was_sent_before_it() {
        let status = || Err(Status::invalid_argument("no"));
        let found = last_word(futures::stream::iter([Ok(1), Ok(2), status()])).await;
        assert_eq!(
            found.map(|status| status.code()),
            Some(Code::InvalidArgument)
        );
        assert!(last_word(futures::stream::iter([Ok(1)])).await.is_none());
    }

    #[test]
    fn addresses_of_all_forms() {
        for good in [
            "galley:9901",
            "127.0.0.1:9901",
            "[::1]:9901",
            "mcp://galley.istio-system.svc:9901",
            "dns:///galley:9901",
            "unix:///run/galley.sock",
        ] {
            assert!(Dial::new(good, None, None).is_ok(), "{good}");
        }
        for bad in [
            "",
            "galley",
            "galley:",
            "galley:0",
            "::1:9901",
            "unix://x",
            "ftp://a:1",
            "a b:1",
        ] {
            let error = Dial::new(bad, None, None).unwrap_err();
            assert_eq!(error, AddressError::Form(bad.to_owned()));
        }
        let error = Dial::new("mcps://galley:9901", None, None).unwrap_err();
        assert!(matches!(error, AddressError::NoTls(_)));
    }
}
