//! The secret discovery server over its socket.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use istio_api::{
    any,
    envoy::{
        config::core::v3::data_source::Specifier,
        extensions::transport_sockets::tls::v3::{Secret, secret::Type},
        service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
    },
};
use mesh_common::{
    grpc::sds::secret_discovery_service_client::SecretDiscoveryServiceClient, metrics::Registry,
};
use pilot_agent::{
    sds::{self, Found, Shared, resource::TYPE_URL},
    secret::{Secrets, Workload, chain, file::Files, metrics::Metrics},
};
use tempfile::TempDir;
use tokio::{
    net::UnixStream,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::authority::{Authority, WORKLOAD};

const LIMIT: Duration = Duration::from_secs(10);

struct Server {
    secrets: watch::Sender<Secrets>,
    authority: Arc<Authority>,
    registry: Registry,
    directory: TempDir,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = Registry::empty();
        let metrics = Metrics::new(&registry);
        let secrets = watch::Sender::new(Secrets::default());
        let files = Arc::new(Files::new(Duration::from_millis(10), metrics.clone()));
        let listener = sds::listen(&directory.path().join("new/socket")).unwrap();
        let shared = Shared {
            secrets: secrets.subscribe(),
            files: Arc::clone(&files),
            metrics,
        };
        tokio::spawn(files.run());
        tokio::spawn(async move { sds::serve(listener, shared).await.unwrap() });
        Self {
            secrets,
            authority: Authority::new(),
            registry,
            directory,
        }
    }

    fn workload(&self) -> Arc<Workload> {
        let (chain, key) = self.authority.issue(WORKLOAD, &[]);
        Arc::new(chain::pair(&key, &chain, SystemTime::now()).unwrap())
    }

    async fn open(&self, names: &[&str]) -> Stream {
        let path = self.directory.path().join("new/socket");
        let mut client = SecretDiscoveryServiceClient::new(connect(&path).await);
        let (requests, receiver) = mpsc::channel(8);
        requests.send(ask(names, "")).await.unwrap();
        let answers = client
            .stream_secrets(ReceiverStream::new(receiver))
            .await
            .unwrap()
            .into_inner();
        Stream { requests, answers }
    }
}

async fn connect(path: &Path) -> Channel {
    let path = path.to_owned();
    Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move {
                UnixStream::connect(path)
                    .await
                    .map(hyper_util::rt::TokioIo::new)
            }
        }))
        .await
        .unwrap()
}

fn ask(names: &[&str], nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        response_nonce: nonce.to_owned(),
        type_url: TYPE_URL.to_owned(),
        ..DiscoveryRequest::default()
    }
}

struct Stream {
    requests: mpsc::Sender<DiscoveryRequest>,
    answers: Streaming<DiscoveryResponse>,
}

impl Stream {
    async fn next(&mut self) -> Result<(String, Vec<Secret>), Status> {
        let answer = timeout(LIMIT, self.answers.message())
            .await
            .unwrap()?
            .unwrap();
        assert_eq!(answer.type_url, TYPE_URL);
        assert!(
            answer.version_info.contains("Z/"),
            "{}",
            answer.version_info
        );
        let secrets = answer
            .resources
            .iter()
            .map(|resource| any::unpack::<Secret>(resource).unwrap())
            .collect();
        Ok((answer.nonce, secrets))
    }

    async fn names(&mut self) -> Vec<String> {
        let (nonce, secrets) = self.next().await.unwrap();
        let names: Vec<String> = secrets.into_iter().map(|secret| secret.name).collect();
        let asked: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(!nonce.is_empty());
        assert!(!asked.is_empty());
        names
    }
}

fn text(secret: &Secret) -> String {
    let source = match secret.r#type.as_ref().unwrap() {
        Type::TlsCertificate(certificate) => certificate.certificate_chain.clone().unwrap(),
        Type::ValidationContext(context) => context.trusted_ca.clone().unwrap(),
        other => panic!("{other:?}"),
    };
    match source.specifier.unwrap() {
        Specifier::InlineBytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn waits_for_the_first_certificate_then_pushes_root_before_leaf() {
    let server = Server::start();
    let mut stream = server.open(&["default", "ROOTCA"]).await;
    let workload = server.workload();
    server.secrets.send_modify(|secrets| {
        secrets.workload = Some(Arc::clone(&workload));
        secrets.trust = Some(server.authority.root().into());
    });
    assert_eq!(stream.names().await, ["ROOTCA"]);
    assert_eq!(stream.names().await, ["default"]);
    // A renewal pushes only the certificate; a new root goes first.
    let renewed = server.workload();
    server
        .secrets
        .send_modify(|secrets| secrets.workload = Some(Arc::clone(&renewed)));
    let (_, secrets) = stream.next().await.unwrap();
    assert_eq!(
        (secrets[0].name.as_str(), text(&secrets[0])),
        ("default", renewed.chain.clone())
    );
    let other = Authority::new();
    server.secrets.send_modify(|secrets| {
        secrets.workload = Some(server.workload());
        secrets.trust = Some(other.root().into());
    });
    assert_eq!(stream.names().await, ["ROOTCA"]);
    assert_eq!(stream.names().await, ["default"]);
}

#[tokio::test]
async fn acknowledgements_are_silent_refusals_are_counted_names_come_and_go() {
    let server = Server::start();
    server.secrets.send_modify(|secrets| {
        secrets.workload = Some(server.workload());
        secrets.trust = Some(server.authority.root().into());
    });
    let mut stream = server.open(&["default"]).await;
    let (nonce, secrets) = stream.next().await.unwrap();
    assert_eq!(secrets.len(), 1);
    stream
        .requests
        .send(ask(&["default"], &nonce))
        .await
        .unwrap();
    let mut refusal = ask(&["default"], &nonce);
    refusal.error_detail = Some(istio_api::google::rpc::Status {
        message: "no".to_owned(),
        ..Default::default()
    });
    stream.requests.send(refusal).await.unwrap();
    stream
        .requests
        .send(ask(&["default", "ROOTCA"], "stale"))
        .await
        .unwrap();
    // Only now something else is requested.
    stream
        .requests
        .send(ask(&["default", "ROOTCA"], &nonce))
        .await
        .unwrap();
    let (nonce, secrets) = stream.next().await.unwrap();
    assert_eq!(
        secrets
            .iter()
            .map(|secret| secret.name.as_str())
            .collect::<Vec<_>>(),
        ["ROOTCA"]
    );
    assert!(
        server
            .registry
            .text()
            .contains("istio_agent_sds_rejections_total 1")
    );
    // Without names nothing is pushed; a later request returns the current content.
    stream.requests.send(ask(&[], &nonce)).await.unwrap();
    let renewed = server.workload();
    server
        .secrets
        .send_modify(|secrets| secrets.workload = Some(Arc::clone(&renewed)));
    stream.requests.send(ask(&["default"], "")).await.unwrap();
    let (_, secrets) = stream.next().await.unwrap();
    assert_eq!(text(&secrets[0]), renewed.chain);
}

#[tokio::test]
async fn an_ended_certificate_ends_streams_that_hold_it_and_new_ones_wait() {
    let server = Server::start();
    server
        .secrets
        .send_modify(|secrets| secrets.workload = Some(server.workload()));
    let mut stream = server.open(&["default"]).await;
    assert_eq!(stream.names().await, ["default"]);
    server.secrets.send_modify(|secrets| secrets.expired = true);
    let status = stream.next().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status
            .message()
            .starts_with("failed to generate secret for default"),
        "{}",
        status.message()
    );
    let mut stream = server.open(&["default"]).await;
    let renewed = server.workload();
    server.secrets.send_modify(|secrets| {
        secrets.workload = Some(Arc::clone(&renewed));
        secrets.expired = false;
    });
    let (_, secrets) = stream.next().await.unwrap();
    assert_eq!(text(&secrets[0]), renewed.chain);
}

#[tokio::test]
async fn foreign_names_end_the_stream_and_other_methods_do_not_exist() {
    let server = Server::start();
    let mut stream = server.open(&["kubernetes://web"]).await;
    assert_eq!(
        stream.next().await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let channel = connect(&server.directory.path().join("new/socket")).await;
    let error = SecretDiscoveryServiceClient::new(channel)
        .fetch_secrets(ask(&["default"], ""))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_slow_reader_gets_the_newest_and_holds_nobody_up() {
    let server = Server::start();
    server
        .secrets
        .send_modify(|secrets| secrets.workload = Some(server.workload()));
    let mut slow = server.open(&["default"]).await;
    let mut quick = server.open(&["default"]).await;
    let mut last = server.workload();
    quick.next().await.unwrap();
    for _ in 0..50 {
        last = server.workload();
        server
            .secrets
            .send_modify(|secrets| secrets.workload = Some(Arc::clone(&last)));
        let (_, secrets) = quick.next().await.unwrap();
        assert_eq!(text(&secrets[0]), last.chain);
    }
    for _ in 0..51 {
        if text(&slow.next().await.unwrap().1[0]) == last.chain {
            return;
        }
    }
    panic!("the newest certificate did not come");
}

#[tokio::test]
async fn file_secrets_follow_their_files_through_swapped_links() {
    let server = Server::start();
    let at = |name: &str| server.directory.path().join(name);
    let publish = |version: &str, authority: &Authority| {
        let (chain, key) = authority.issue(WORKLOAD, &[]);
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("tls.crt"), &chain).unwrap();
        std::fs::write(at(version).join("tls.key"), key).unwrap();
        std::os::unix::fs::symlink(version, at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        chain
    };
    let first = publish("v1", &server.authority);
    for name in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), at(name)).unwrap();
    }
    let name = format!(
        "file-cert:{}~{}",
        at("tls.crt").display(),
        at("tls.key").display()
    );
    let mut stream = server.open(&[&name]).await;
    let (_, secrets) = stream.next().await.unwrap();
    assert_eq!(
        (secrets[0].name.as_str(), text(&secrets[0])),
        (name.as_str(), first)
    );
    let second = publish("v2", &server.authority);
    let (_, secrets) = stream.next().await.unwrap();
    assert_eq!(text(&secrets[0]), second);
}

#[tokio::test]
async fn a_dead_socket_is_removed_and_a_live_one_is_found() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    assert_eq!(sds::look(&path).await.unwrap(), Found::Free);
    let listener = sds::listen(&path).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o666
    );
    assert_eq!(sds::look(&path).await.unwrap(), Found::Served);
    drop(listener);
    assert!(path.exists());
    assert_eq!(sds::look(&path).await.unwrap(), Found::Free);
    assert!(!path.exists());
    std::fs::write(&path, "file").unwrap();
    assert!(sds::look(&path).await.is_err());
}
