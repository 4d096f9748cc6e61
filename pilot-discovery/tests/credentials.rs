//! Which Secrets gateways receive, with mutual TLS and an API server.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser as _;
use istio_api::envoy::{
    config::core::v3::{DataSource, Node, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{Secret, secret::Type},
    service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
};
use mesh_common::{
    drain,
    grpc::ads::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    testing::{
        Authority, Issued,
        cluster::{Cluster, kubeconfig},
    },
    tls::{self, CertFiles, ClientFiles, ReloadingClientConfig, Verify},
};
use pilot_discovery::{
    args::{Cli, Command},
    run::{Bound, run_reporting},
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, oneshot},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Waits fail after this time.
const PATIENCE: Duration = Duration::from_secs(20);
const SECRETS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const COLLECTION: &str = "/api/v1/secrets";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// Gateways of namespace `edge`, and the Secrets that they refer to.
const CONFIG: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: shop, namespace: apps}
spec:
  selector: {app: gateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [shop.test]
    tls: {mode: MUTUAL, credentialName: shop}
";

fn listed(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets")
}

/// A pilot in this process, with its own mesh.
struct Pilot {
    dir: tempfile::TempDir,
    bound: Bound,
    authority: Authority,
}

impl Pilot {
    async fn start(cluster: &Cluster, more: &[&str], drain: &drain::Watch) -> Self {
        mesh_common::process::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        std::fs::create_dir(dir.path().join("config")).unwrap();
        file("config/a.yaml", CONFIG);
        file("mesh.yaml", "trustDomain: mesh.test\n");
        let authority = Authority::new("mesh");
        let own = authority.issue(
            &["spiffe://mesh.test/ns/istio-system/sa/pilot"],
            &["127.0.0.1"],
        );
        let files = own.write(dir.path());
        let path = |path: &PathBuf| path.display().to_string();
        let mut flags = vec![
            "pilot-discovery".to_owned(),
            "discovery".to_owned(),
            format!("--configDir={}", dir.path().join("config").display()),
            format!("--meshConfig={}", dir.path().join("mesh.yaml").display()),
            format!("--certFile={}", path(&files.cert_chain)),
            format!("--keyFile={}", path(&files.key)),
            format!("--caCertFile={}", path(&files.root)),
            "--grpcAddr=127.0.0.1:0".to_owned(),
            "--secureGrpcAddr=127.0.0.1:0".to_owned(),
            "--httpAddr=".to_owned(),
            "--monitoringAddr=127.0.0.1:0".to_owned(),
            "--ctrlz_port=0".to_owned(),
            kubeconfig(dir.path(), cluster.address()),
        ];
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let Command::Discovery(args) = Cli::try_parse_from(flags).unwrap().command else {
            panic!("another command");
        };
        let (bound, bound_at) = oneshot::channel();
        let run = run_reporting(*args, drain.clone(), bound);
        tokio::spawn(async move { run.await.unwrap() });
        let bound = tokio::time::timeout(PATIENCE, bound_at).await;
        Self {
            bound: bound.unwrap().unwrap(),
            dir,
            authority,
        }
    }

    /// A gateway with a certificate for the account.
    async fn gateway(&self, account: &str) -> Gateway {
        let identity = format!("spiffe://mesh.test/ns/edge/sa/{account}");
        let dir = self.dir.path().join(account);
        std::fs::create_dir_all(&dir).unwrap();
        let files: CertFiles = self.authority.issue(&[&identity], &[]).write(&dir);
        let config = ReloadingClientConfig::load(ClientFiles::from(files), Verify::Dns).unwrap();
        let address = self.bound.secure_grpc.unwrap().to_string();
        let channel = tls::channel(&address, &config, None, |endpoint| endpoint).unwrap();
        Gateway::open(AggregatedDiscoveryServiceClient::new(channel), account).await
    }

    /// A gateway without a certificate.
    async fn stranger(&self) -> Gateway {
        let address = format!("http://{}", self.bound.grpc.unwrap());
        let client = AggregatedDiscoveryServiceClient::connect(address).await;
        Gateway::open(client.unwrap(), "stranger").await
    }

    async fn page(&self, path: &str) -> String {
        get(self.bound.monitoring.unwrap(), path).await
    }

    /// Waits until a page fulfils `test`; a request waits for all earlier commands to the writer.
    async fn until(&self, path: &str, test: impl Fn(&str) -> bool) -> String {
        let wait = async {
            loop {
                let page = self.page(path).await;
                if test(&page) {
                    return page;
                }
                tokio::task::yield_now().await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, wait).await;
        match found {
            Ok(page) => page,
            Err(_) => panic!("{path} stays {}", self.page(path).await),
        }
    }
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A gateway proxy that subscribes to the secrets of its listener.
struct Gateway {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Gateway {
    async fn open<T>(mut client: AggregatedDiscoveryServiceClient<T>, name: &str) -> Self
    where
        T: tonic::client::GrpcService<tonic::body::Body>,
        T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        T::ResponseBody: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
        <T::ResponseBody as tonic::codegen::Body>::Error:
            Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let (requests, rx) = mpsc::channel(8);
        let labels = [("app", "gateway")].map(|(key, value)| (key.to_owned(), text(value)));
        let labels = prost_types::Struct {
            fields: labels.into(),
        };
        let labels = prost_types::Value {
            kind: Some(prost_types::value::Kind::StructValue(labels)),
        };
        let node = Node {
            id: format!("router~10.1.0.1~{name}.edge~edge.svc.cluster.local"),
            metadata: Some(prost_types::Struct {
                fields: [("LABELS".to_owned(), labels)].into(),
            }),
            ..Node::default()
        };
        let request = DeltaDiscoveryRequest {
            node: Some(node),
            type_url: SECRETS.to_owned(),
            resource_names_subscribe: vec![
                "kubernetes://shop".to_owned(),
                "kubernetes://shop-cacert".to_owned(),
            ],
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(request).await.unwrap();
        let responses = client.delta_aggregated_resources(ReceiverStream::new(rx));
        Self {
            requests,
            responses: responses.await.unwrap().into_inner(),
        }
    }

    /// The secrets of the next response that has any.
    async fn next(&mut self) -> Vec<Secret> {
        loop {
            let response = tokio::time::timeout(PATIENCE, self.responses.message()).await;
            let response = response.unwrap().unwrap().unwrap();
            let ack = DeltaDiscoveryRequest {
                type_url: response.type_url,
                response_nonce: response.nonce,
                ..DeltaDiscoveryRequest::default()
            };
            self.requests.send(ack).await.unwrap();
            if !response.resources.is_empty() {
                let bodies = response.resources.into_iter();
                let bodies = bodies.map(|one| one.resource.unwrap().value);
                return bodies.map(|body| Secret::decode(&*body).unwrap()).collect();
            }
        }
    }

    /// The certificate and key of the next response that has one; roots may come before.
    async fn pair(&mut self) -> (String, String) {
        loop {
            let secrets = self.next().await;
            let pair = secrets.iter().find_map(|secret| match &secret.r#type {
                Some(Type::TlsCertificate(pair)) => Some(pair),
                _ => None,
            });
            if let Some(pair) = pair {
                return (
                    inline(pair.certificate_chain.as_ref()),
                    inline(pair.private_key.as_ref()),
                );
            }
        }
    }
}

fn text(text: &str) -> prost_types::Value {
    prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue(text.to_owned())),
    }
}

fn inline(source: Option<&DataSource>) -> String {
    match source.and_then(|source| source.specifier.as_ref()) {
        Some(Specifier::InlineBytes(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn names(secrets: &[Secret]) -> Vec<&str> {
    secrets.iter().map(|secret| &*secret.name).collect()
}

fn of_shop() -> Issued {
    Authority::new("shop").issue(&[], &["shop.test"])
}

fn secret(namespace: &str, name: &str, r#type: &str, data: &[(&str, &str)]) -> Value {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let data = data.iter();
    let data: serde_json::Map<String, Value> = data
        .map(|(key, text)| ((*key).to_owned(), engine.encode(text).into()))
        .collect();
    json!({
        "metadata": {"namespace": namespace, "name": name}, "type": r#type, "data": data,
    })
}

/// A Secret as `kubectl create secret tls` makes it, with roots.
fn tls_secret(namespace: &str, issued: &Issued) -> Value {
    let data = [
        ("tls.crt", &*issued.cert),
        ("tls.key", &*issued.key),
        ("ca.crt", &*issued.root),
    ];
    secret(namespace, "shop", "kubernetes.io/tls", &data)
}

fn allow(cluster: &Cluster, account: &str, is_allowed: bool) {
    let right = ("list", "secrets", "edge");
    cluster.allow(("edge", account), right, is_allowed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_sent_what_its_account_may_read() {
    let (trigger, drain) = drain::channel();
    let cluster = Cluster::start();
    allow(&cluster, "gateway", true);
    let (first, second) = (of_shop(), of_shop());
    cluster.apply(COLLECTION, tls_secret("edge", &first));
    let more = [("password", "hush"), ("ca.crt", "hush")];
    let account = "kubernetes.io/service-account-token";
    cluster.apply(COLLECTION, secret("edge", "token", account, &more));
    cluster.apply(COLLECTION, secret("edge", "other", "Opaque", &more[..1]));
    cluster.apply(COLLECTION, tls_secret("quiet", &second));
    let pilot = Pilot::start(&cluster, &[], &drain).await;
    let mut gateway = pilot.gateway("gateway").await;
    assert_eq!(
        gateway.pair().await,
        (first.cert.clone(), first.key.clone())
    );
    let user = "system:serviceaccount:edge:gateway";
    let asked = cluster.access_reviews();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0]["user"], user);
    assert_eq!(asked[0]["resourceAttributes"]["verb"], "list");
    assert_eq!(asked[0]["resourceAttributes"]["namespace"], "edge");

    // The Secret is replaced; the account is unchanged.
    cluster.apply(COLLECTION, tls_secret("edge", &second));
    assert_eq!(gateway.pair().await, (second.cert, second.key.clone()));

    // An invalid Secret changes nothing, and is reported.
    let mixed = Issued {
        cert: first.cert.clone(),
        ..of_shop()
    };
    cluster.apply(COLLECTION, tls_secret("edge", &mixed));
    let wrong = "the key does not belong to the first certificate";
    let status = pilot.until("/debug/push_status", |page| page.contains(wrong));
    assert!(status.await.contains("pilot_sds_certificate_errors_total"));
    let metrics = pilot.page("/metrics").await;
    assert!(
        metrics.contains("\npilot_sds_certificate_errors_total 2\n"),
        "{metrics}"
    );

    // Pages show names and no contents.
    let page = pilot.page("/debug/credentialz").await;
    assert!(page.contains("\"edge/gateway\":\"allowed\"") && page.contains("\"shop\""));
    assert!(
        !page.contains("\"token\"") && !page.contains("\"other\""),
        "{page}"
    );
    let dump = pilot.page("/debug/config_dump?proxyID=gateway.edge").await;
    assert!(dump.contains("kubernetes://shop") && dump.contains("[redacted]"));
    let inner = |pem: &str| pem.lines().nth(1).unwrap().to_owned();
    for page in [&page, &dump, &status_of(&pilot).await] {
        assert!(!page.contains(&inner(&second.key)) && !page.contains("hush"));
        assert!(!page.contains("PRIVATE KEY") && !page.contains("inlineBytes"));
    }

    // No gateway of `quiet` is connected, and pilot never requests Secrets of all namespaces.
    assert_eq!(cluster.requests(&listed("quiet")), [""; 0]);
    assert_eq!(cluster.requests(COLLECTION), [""; 0]);
    drop((gateway, drain));
    assert!(trigger.drain(PATIENCE).await, "something holds the drain");
}

async fn status_of(pilot: &Pilot) -> String {
    pilot.page("/debug/push_status").await
}

#[tokio::test(flavor = "multi_thread")]
async fn others_of_the_namespace_are_not_sent_it() {
    let (_trigger, drain) = drain::channel();
    let cluster = Cluster::start();
    allow(&cluster, "gateway", true);
    let shop = of_shop();
    cluster.apply(COLLECTION, tls_secret("edge", &shop));
    let pilot = Pilot::start(&cluster, &[], &drain).await;
    let stranger = pilot.stranger().await;
    let mut denied = pilot.gateway("curious").await;
    let mut allowed = pilot.gateway("gateway").await;
    assert_eq!(allowed.pair().await, (shop.cert, shop.key));
    // Roots are public within the mesh.
    let roots = denied.next().await;
    assert_eq!(names(&roots), ["kubernetes://shop-cacert"]);
    assert!(matches!(roots[0].r#type, Some(Type::ValidationContext(_))));
    let status = pilot
        .until("/debug/push_status", |page| page.contains("may not list"))
        .await;
    assert!(
        status.contains("without a certificate of the mesh"),
        "{status}"
    );
    // The gateway without a certificate causes no review and receives nothing.
    let users = cluster.access_reviews();
    let mut users: Vec<_> = users
        .iter()
        .map(|spec| spec["user"].as_str().unwrap())
        .collect();
    users.sort_unstable();
    let account = |name: &str| format!("system:serviceaccount:edge:{name}");
    assert_eq!(users, [account("curious"), account("gateway")]);

    for (name, page) in [
        (
            "stranger",
            pilot.page("/debug/config_dump?types=sds&proxyID=stranger.edge"),
        ),
        (
            "curious",
            pilot.page("/debug/config_dump?types=sds&proxyID=curious.edge"),
        ),
        (
            "gateway",
            pilot.page("/debug/config_dump?types=sds&proxyID=gateway.edge"),
        ),
    ] {
        let page = page.await;
        assert_eq!(page.contains("tlsCertificate"), name == "gateway", "{page}");
        assert_eq!(
            page.contains("validationContext"),
            name != "stranger",
            "{page}"
        );
    }

    drop((stranger, denied));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_let_go_after_its_last_gateway() {
    let (_trigger, drain) = drain::channel();
    let cluster = Cluster::start();
    allow(&cluster, "gateway", true);
    cluster.apply(COLLECTION, tls_secret("edge", &of_shop()));
    let pilot = Pilot::start(&cluster, &["--secretsLinger=1ms"], &drain).await;
    let mut gateway = pilot.gateway("gateway").await;
    gateway.pair().await;
    let watched = |cluster: &Cluster| cluster.open_watches(&listed("edge")) == 1;
    cluster.until("watched", watched).await;
    drop(gateway);
    let ended = |cluster: &Cluster| cluster.open_watches(&listed("edge")) == 0;
    cluster.until("the watch ended", ended).await;
    let page = pilot.until("/debug/credentialz", |page| page.contains("\"secrets\":[]"));
    assert!(page.await.contains("\"namespaces\":{}"));

    // It reconnects; the answer about its account is still valid.
    let mut gateway = pilot.gateway("gateway").await;
    gateway.pair().await;
    assert_eq!(cluster.access_reviews().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_outlast_the_api_server() {
    let (_trigger, drain) = drain::channel();
    let mut cluster = Cluster::start();
    allow(&cluster, "gateway", true);
    let (first, second) = (of_shop(), of_shop());
    cluster.apply(COLLECTION, tls_secret("edge", &first));
    let pilot = Pilot::start(&cluster, &[], &drain).await;
    let mut gateway = pilot.gateway("gateway").await;
    assert_eq!(gateway.pair().await.0, first.cert);
    cluster
        .watched(&listed("edge"), &["type%21%3Dhelm.sh%2Frelease.v1"])
        .await;
    cluster.down().await;
    let trouble = |page: &str| page.contains("cannot be reached");
    pilot.until("/debug/credentialz", trouble).await;
    // Another gateway of the account receives them as before.
    let mut another = pilot.gateway("gateway").await;
    assert_eq!(another.pair().await.0, first.cert);
    cluster.apply(COLLECTION, tls_secret("edge", &second));
    cluster.up().await;
    assert_eq!(gateway.pair().await.0, second.cert);
    assert_eq!(another.pair().await.0, second.cert);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_api_server_are_told_and_tried_again() {
    let (_trigger, drain) = drain::channel();
    let cluster = Cluster::start();
    allow(&cluster, "gateway", true);
    let shop = of_shop();
    cluster.apply(COLLECTION, tls_secret("edge", &shop));
    cluster.forbid(REVIEWS, true);
    cluster.forbid(&listed("edge"), true);
    let pilot = Pilot::start(&cluster, &[], &drain).await;
    let mut gateway = pilot.gateway("gateway").await;
    let needs = |page: &str| page.contains("create of subjectaccessreviews");
    let page = pilot.until("/debug/credentialz", needs).await;
    assert!(page.contains("\"edge/gateway\":\"unknown\""), "{page}");
    cluster.forbid(REVIEWS, false);
    let needs = |page: &str| page.contains("needs get, list and watch");
    let page = pilot.until("/debug/credentialz", needs).await;
    assert!(page.contains("\"accessReviews\":null"), "{page}");
    cluster.forbid(&listed("edge"), false);
    assert_eq!(gateway.pair().await.0, shop.cert);
}
