//! TLS over real sockets: identities, reload, rejections.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use futures::StreamExt;
use mesh_common::drain;
use mesh_common::grpc::health::health_client::HealthClient;
use mesh_common::grpc::health::health_server::{Health, HealthServer};
use mesh_common::grpc::health::{HealthCheckRequest, HealthCheckResponse, ServingStatus};
use mesh_common::testing::Authority;
use mesh_common::tls::{
    self, CertFiles, ClientAuth, ClientFiles, Error, Limits, PeerInfo, ReloadingClientConfig,
    ReloadingServerConfig, ServerOptions, Verify,
};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Request, Response, Status};

const LIMIT: Duration = Duration::from_secs(30);
const SERVER: &str = "spiffe://cluster.local/ns/istio-system/sa/istio-pilot-service-account";
const CLIENT: &str = "spiffe://cluster.local/ns/foo/sa/bar";

/// Responds with SERVING and the peer's identity in the metadata `peer`.
struct Echo;

#[tonic::async_trait]
impl Health for Echo {
    type WatchStream = futures::stream::BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let peer = request.extensions().get::<PeerInfo>().unwrap();
        let identities = peer.identities().join(",");
        let mut response = Response::new(HealthCheckResponse {
            status: ServingStatus::Serving.into(),
        });
        response
            .metadata_mut()
            .insert("peer", identities.parse().unwrap());
        Ok(response)
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(futures::stream::empty().boxed()))
    }
}

async fn serve(config: &ReloadingServerConfig, limits: Limits) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let incoming = tls::incoming(listener, config.clone(), limits).unwrap();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(HealthServer::new(Echo))
            .serve_with_incoming(incoming),
    );
    address
}

/// The identity that the server sees.
async fn call(
    address: &str,
    config: &ReloadingClientConfig,
    name: Option<&str>,
) -> Result<String, Status> {
    let channel = tls::channel(address, config, name, |endpoint| endpoint.timeout(LIMIT)).unwrap();
    let response = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await?;
    Ok(response
        .metadata()
        .get("peer")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned())
}

fn dir(parent: &tempfile::TempDir, name: &str) -> std::path::PathBuf {
    let path = parent.path().join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

struct Fixture {
    authority: Authority,
    dir: tempfile::TempDir,
    server_files: CertFiles,
    client_files: CertFiles,
}

impl Fixture {
    fn new() -> Self {
        let authority = Authority::new("cluster.local");
        let parent = tempfile::tempdir().unwrap();
        let server_files = authority
            .issue(&[SERVER], &["istio-pilot.istio-system.svc"])
            .write(&dir(&parent, "server"));
        let client_files = authority
            .issue(&[CLIENT], &[])
            .write(&dir(&parent, "client"));
        Self {
            authority,
            dir: parent,
            server_files,
            client_files,
        }
    }

    fn server(&self, auth: ClientAuth) -> ReloadingServerConfig {
        ReloadingServerConfig::load(&self.server_files, ServerOptions::grpc(auth)).unwrap()
    }

    fn client(&self, verify: Verify) -> ReloadingClientConfig {
        ReloadingClientConfig::load(self.client_files.clone().into(), verify).unwrap()
    }

    fn anonymous(&self) -> ReloadingClientConfig {
        let files = ClientFiles {
            root: self.client_files.root.clone(),
            pair: None,
        };
        ReloadingClientConfig::load(files, Verify::Identities(vec![SERVER.to_owned()])).unwrap()
    }
}

#[tokio::test]
async fn both_sides_see_each_other() {
    let fixture = Fixture::new();
    let address = serve(&fixture.server(ClientAuth::Required), Limits::default()).await;
    let by_identity = fixture.client(Verify::Identities(vec![SERVER.to_owned()]));
    assert_eq!(call(&address, &by_identity, None).await.unwrap(), CLIENT);
    let by_name = fixture.client(Verify::Dns);
    assert_eq!(
        call(&address, &by_name, Some("istio-pilot.istio-system.svc"))
            .await
            .unwrap(),
        CLIENT
    );
}

#[tokio::test]
async fn another_server_is_refused() {
    let fixture = Fixture::new();
    let address = serve(&fixture.server(ClientAuth::Required), Limits::default()).await;
    let other = fixture.client(Verify::Identities(vec![CLIENT.to_owned()]));
    assert!(call(&address, &other, None).await.is_err());
    let by_name = fixture.client(Verify::Dns);
    assert!(
        call(&address, &by_name, Some("istio-galley.istio-system.svc"))
            .await
            .is_err()
    );
    // The right identity, but signed by another authority.
    let foreign = Authority::new("cluster.local")
        .issue(&[SERVER], &[])
        .write(&dir(&fixture.dir, "foreign"));
    let foreign =
        ReloadingServerConfig::load(&foreign, ServerOptions::grpc(ClientAuth::None)).unwrap();
    let address = serve(&foreign, Limits::default()).await;
    assert!(call(&address, &fixture.anonymous(), None).await.is_err());
}

#[tokio::test]
async fn clients_without_certificate() {
    let fixture = Fixture::new();
    let required = serve(&fixture.server(ClientAuth::Required), Limits::default()).await;
    assert!(call(&required, &fixture.anonymous(), None).await.is_err());
    let optional = serve(&fixture.server(ClientAuth::Optional), Limits::default()).await;
    assert_eq!(
        call(&optional, &fixture.anonymous(), None).await.unwrap(),
        ""
    );
    // A certificate must be valid even if it is optional.
    let expired = fixture
        .authority
        .issue_for(&[CLIENT], &[], time::Duration::minutes(-5))
        .write(&dir(&fixture.dir, "expired"));
    let expired =
        ReloadingClientConfig::load(expired.into(), Verify::Identities(vec![SERVER.to_owned()]))
            .unwrap();
    assert!(call(&optional, &expired, None).await.is_err());
}

#[tokio::test]
async fn new_files_are_used_and_bad_files_are_not() {
    let fixture = Fixture::new();
    let server = fixture.server(ClientAuth::None);
    assert!(!server.reload(), "nothing has changed");
    let before = server.current();

    std::fs::write(&fixture.server_files.cert_chain, "damaged").unwrap();
    assert!(!server.reload());
    assert!(std::sync::Arc::ptr_eq(&before, &server.current()));
    assert_eq!(server.status().borrow().failures, 1);
    assert!(
        server
            .status()
            .borrow()
            .last_error
            .as_ref()
            .unwrap()
            .contains("cert-chain.pem")
    );

    // Certificate and key of different pairs.
    let other = fixture.authority.issue(&[SERVER], &[]);
    std::fs::write(&fixture.server_files.cert_chain, &other.cert).unwrap();
    assert!(!server.reload());
    assert!(std::sync::Arc::ptr_eq(&before, &server.current()));

    std::fs::write(&fixture.server_files.key, &other.key).unwrap();
    assert!(server.reload());
    assert!(!std::sync::Arc::ptr_eq(&before, &server.current()));
    let status = server.status().borrow().clone();
    assert_eq!((status.reloads, status.last_error), (1, None));
}

#[tokio::test]
async fn a_change_is_followed_and_new_connections_see_it() {
    let fixture = Fixture::new();
    let server = fixture.server(ClientAuth::Required);
    let (_trigger, watch) = drain::channel();
    tokio::spawn(server.follow(watch));
    let address = serve(&server, Limits::default()).await;
    let client = fixture.client(Verify::Identities(vec![SERVER.to_owned()]));
    assert!(call(&address, &client, None).await.is_ok());

    // Another root: the old client is not trusted any more.
    let mut status = server.status();
    status.mark_unchanged();
    let _ = Authority::new("other")
        .issue(&[SERVER], &[])
        .write(Path::new(&fixture.dir.path().join("server")));
    let reloaded = status.wait_for(|status| status.reloads >= 1 && status.last_error.is_none());
    tokio::time::timeout(LIMIT, reloaded)
        .await
        .unwrap()
        .unwrap();
    assert!(call(&address, &client, None).await.is_err());
}

#[tokio::test]
async fn files_that_are_wrong_from_the_start_are_named() {
    let fixture = Fixture::new();
    let load = |files: &CertFiles| {
        ReloadingServerConfig::load(files, ServerOptions::grpc(ClientAuth::Required))
    };
    let missing = CertFiles {
        key: "/nonexistent/key.pem".into(),
        ..fixture.server_files.clone()
    };
    let error = load(&missing).unwrap_err();
    assert!(
        matches!(&error, Error::Read { path, .. } if path == "/nonexistent/key.pem"),
        "{error}"
    );
    let swapped = CertFiles {
        key: fixture.server_files.cert_chain.clone(),
        ..fixture.server_files.clone()
    };
    assert!(matches!(load(&swapped), Err(Error::Content { .. })));
    let foreign = CertFiles {
        key: fixture.client_files.key.clone(),
        ..fixture.server_files.clone()
    };
    assert!(matches!(load(&foreign), Err(Error::Pair { .. })));
    let huge = fixture.dir.path().join("huge");
    std::fs::write(&huge, vec![b'x'; 2 << 20]).unwrap();
    let huge = CertFiles {
        root: huge,
        ..fixture.server_files
    };
    assert!(
        load(&huge)
            .unwrap_err()
            .to_string()
            .contains("the limit is")
    );
}

#[tokio::test]
async fn a_process_can_wait_for_its_files() {
    let fixture = Fixture::new();
    let late = dir(&fixture.dir, "late");
    let files = CertFiles::in_dir(&late);
    let options = || ServerOptions::grpc(ClientAuth::Required);
    let error = ReloadingServerConfig::load(&files, options()).unwrap_err();
    assert!(matches!(error, Error::Read { .. }));
    let waiting = tokio::spawn({
        let files = files.clone();
        async move { ReloadingServerConfig::wait(&files, options()).await }
    });
    let _ = fixture.authority.issue(&[SERVER], &[]).write(&late);
    tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_silent_client_does_not_keep_others_out() {
    let fixture = Fixture::new();
    let limits = Limits {
        connections: 1,
        handshake: Duration::from_millis(50),
    };
    let address = serve(&fixture.server(ClientAuth::Required), limits).await;
    let _silent = TcpStream::connect(&address).await.unwrap();
    let client = fixture.client(Verify::Identities(vec![SERVER.to_owned()]));
    assert!(call(&address, &client, None).await.is_ok());
}

#[tokio::test]
async fn axum_handlers_see_the_peer() {
    let fixture = Fixture::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tls::incoming(
        listener,
        fixture.server(ClientAuth::Required),
        Limits::default(),
    )
    .unwrap();
    let router = Router::new().route(
        "/",
        get(|ConnectInfo(peer): ConnectInfo<PeerInfo>| async move { peer.identities().join(",") }),
    );
    tokio::spawn(async move {
        axum::serve(
            incoming,
            router.into_make_service_with_connect_info::<PeerInfo>(),
        )
        .await
    });
    let client = fixture.client(Verify::Identities(vec![SERVER.to_owned()]));
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(client.current());
    let stream = connector
        .connect("any.name".try_into().unwrap(), stream)
        .await
        .unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(format!("https://{address}/"))
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let body = http_body_util::BodyExt::collect(response.into_body())
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(body, CLIENT.as_bytes());
}
