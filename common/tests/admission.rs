//! The shutdown of a webhook, as an API server sees it on a kept connection.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use mesh_common::testing::Authority;
use mesh_common::tls::{self, Limits, ReloadingServerConfig, ServerOptions};
use mesh_common::{admission, drain, process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const NAME: &str = "webhook.test";
const LIMIT: Duration = Duration::from_secs(20);

struct Server {
    address: std::net::SocketAddr,
    client: TlsConnector,
    trigger: drain::Trigger,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        process::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("test");
        let files = authority.issue(&[], &[NAME]).write(dir.path());
        let config = ReloadingServerConfig::load(&files, ServerOptions::https()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = tls::incoming(listener, config, Limits::default()).unwrap();
        let (trigger, drain) = drain::channel();
        let pages = Router::new().route("/", get(|| async { "yes" }));
        let task = tokio::spawn(admission::serve(connections, pages, drain));
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.root().as_bytes()).unwrap();
        roots.add(root).unwrap();
        let client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            address,
            client: Arc::new(client).into(),
            trigger,
            task,
        }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = NAME.try_into().unwrap();
        self.client.connect(name, stream).await.unwrap()
    }

    async fn ends(self) {
        let ended = tokio::time::timeout(LIMIT, self.task).await.unwrap();
        ended.unwrap().unwrap();
        assert!(self.trigger.drain(LIMIT).await);
    }
}

/// Head and body of the response, which is shorter than a TLS record.
async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    let question = format!("GET / HTTP/1.1\r\nhost: {NAME}\r\n\r\n");
    stream.write_all(question.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let mut length = 0;
    while !answer[..length].ends_with(b"yes") {
        let read = stream.read(&mut answer[length..]).await.unwrap();
        assert!(read > 0, "the connection was closed");
        length += read;
    }
    String::from_utf8(answer[..length].to_vec()).unwrap()
}

async fn is_closed(stream: &mut TlsStream<TcpStream>) {
    let read = tokio::time::timeout(LIMIT, stream.read(&mut [0])).await;
    // With or without the close_notify alert of TLS.
    assert!(!matches!(read.unwrap(), Ok(1..)));
}

#[tokio::test]
async fn a_question_on_a_kept_connection_is_answered_and_is_its_last() {
    let server = Server::start().await;
    let mut kept = server.connect().await;
    assert!(!ask(&mut kept).await.contains("connection: close"));
    server.trigger.signal();
    // Also on connections of clients that do not know yet.
    let mut new = server.connect().await;
    for stream in [&mut kept, &mut new] {
        assert!(ask(stream).await.contains("connection: close"));
        is_closed(stream).await;
    }
    server.ends().await;
}

#[tokio::test]
async fn a_connection_that_is_not_used_ends_with_the_server() {
    let server = Server::start().await;
    let mut idle = server.connect().await;
    assert!(!ask(&mut idle).await.contains("connection: close"));
    server.trigger.signal();
    is_closed(&mut idle).await;
    server.ends().await;
}
