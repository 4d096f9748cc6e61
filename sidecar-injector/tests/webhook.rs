//! The process over TLS: valid and invalid requests, reload of configuration and certificates.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test helpers may panic"
)]

use base64::Engine as _;
use clap::Parser;
use mesh_common::drain;
use mesh_common::testing::Authority;
use serde_json::{Value, json};
use sidecar_injector::config::default_injection;
use sidecar_injector::{Args, Bound};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const NAME: &str = "istio-sidecar-injector.istio-system.svc";

struct Process {
    dir: TempDir,
    authority: Authority,
    webhook: SocketAddr,
    monitoring: SocketAddr,
    trigger: drain::Trigger,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

async fn start(with_certificates: bool) -> Process {
    mesh_common::process::install_crypto();
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("test");
    std::fs::write(dir.path().join("config"), default_injection()).unwrap();
    if with_certificates {
        let _files = authority.issue(&[], &[NAME]).write(dir.path());
    }
    let path = |name: &str| dir.path().join(name).display().to_string();
    let args = Args::parse_from([
        "sidecar-injector",
        "--injectConfig",
        &path("config"),
        "--injectValues",
        &path("values"),
        "--meshConfig",
        &path("mesh"),
        "--tlsCertFile",
        &path("cert-chain.pem"),
        "--tlsKeyFile",
        &path("key.pem"),
        "--caCertFile",
        &path("root-cert.pem"),
        "--port",
        "0",
        "--ctrlz_port=0",
        "--monitoringPort",
        "0",
        "--healthCheckFile",
        &path("health"),
        "--healthCheckInterval",
        "20ms",
    ]);
    let bound = Bound::new(args.serve).await.unwrap();
    let local = |listener: &tokio::net::TcpListener| {
        SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()))
    };
    let (webhook, monitoring) = (local(&bound.webhook), local(&bound.monitoring));
    let (trigger, watch) = drain::channel();
    let task = tokio::spawn(bound.run(watch));
    Process {
        dir,
        authority,
        webhook,
        monitoring,
        trigger,
        task,
    }
}

impl Process {
    async fn page(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.monitoring).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        split(&answer)
    }

    async fn until_page(&self, path: &str, wanted: impl Fn(&(u16, String)) -> bool) {
        let mut last = (0, String::new());
        for _ in 0..1000 {
            last = self.page(path).await;
            if wanted(&last) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{path} never was as wanted, last {last:?}");
    }

    /// Sends a request; returns status, body, and serial number of the server certificate.
    async fn post(&self, path: &str, content_type: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.authority.root().as_bytes()).unwrap();
        roots.add(root).unwrap();
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(self.webhook).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {NAME}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that refuses a large body may close the connection before reading all of it.
        let _sent = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _closed = stream.read_to_end(&mut answer).await;
        let (status, body) = split(&String::from_utf8(answer).unwrap());
        (status, body, leaf)
    }

    async fn review(&self, object: Value) -> Value {
        let body = review(object).to_string();
        let (status, body, _) = self
            .post("/inject", "application/json", body.as_bytes())
            .await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        // Replaced by renaming, as Kubernetes does in volumes.
        let new = self.dir.path().join(format!("{name}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.dir.path().join(name)).unwrap();
    }

    async fn stop(self) {
        assert!(self.trigger.drain(Duration::from_secs(5)).await);
        self.task.await.unwrap().unwrap();
    }
}

fn split(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .unwrap_or_default()
        .parse()
        .unwrap_or(0);
    (status, body.to_owned())
}

fn review(object: Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "7c0e", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "namespace": "shop",
        "operation": "CREATE", "object": object}})
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-"},
        "spec": {"containers": [{"name": "web", "image": "w:1"}]}})
}

async fn ready(process: &Process) {
    process
        .until_page("/ready", |(status, _)| *status == 200)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_good_and_bad() {
    let process = start(true).await;
    ready(&process).await;

    let answer = process.review(pod()).await;
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["response"]["uid"], "7c0e");
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(answer["response"]["patchType"], "JSONPatch");
    let patch = answer["response"]["patch"].as_str().unwrap();
    let patch = base64::engine::general_purpose::STANDARD
        .decode(patch)
        .unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut injected = pod();
    json_patch::patch(&mut injected, &patch).unwrap();
    assert_eq!(injected["spec"]["initContainers"][1]["name"], "istio-proxy");

    let mut host = pod();
    host["spec"]["hostNetwork"] = json!(true);
    assert_eq!(
        process.review(host).await["response"],
        json!({"uid": "7c0e", "allowed": true})
    );

    for (object, part) in [
        (json!("text"), "not a Pod"),
        (json!({"kind": "Service", "spec": {}}), "Service"),
        (
            json!({"metadata": {"annotations": {"inject.istio.io/templates": "nope"}},
            "spec": {"containers": [{"name": "a"}]}}),
            "nope",
        ),
    ] {
        let response = process.review(object).await["response"].clone();
        assert_eq!(response["allowed"], false);
        assert_eq!(response["uid"], "7c0e");
        assert!(
            response["status"]["message"]
                .as_str()
                .unwrap()
                .contains(part),
            "{response}"
        );
    }

    let json = "application/json";
    let old = review(pod())
        .to_string()
        .replace("k8s.io/v1\"", "k8s.io/v1beta1\"");
    let (_, body, _) = process.post("/inject", json, old.as_bytes()).await;
    assert!(body.contains("admission.k8s.io/v1beta1"));
    for (content_type, body, status) in [
        (json, &b""[..], 400),
        ("text/plain", &b"{}"[..], 415),
        ("application/json; charset=utf-8", &b"{}"[..], 200),
        (json, &b"{"[..], 200),
        (json, &b"\xff"[..], 200),
    ] {
        let (got, text, _) = process.post("/inject", content_type, body).await;
        assert_eq!(got, status, "{text}");
        assert!(
            status != 200 || text.contains("\"allowed\":false"),
            "{text}"
        );
    }
    let (status, text, _) = process
        .post("/inject", json, &vec![b' '; (6 << 20) + 1])
        .await;
    assert_eq!(status, 400, "{text}");
    let deep = vec![b'['; 1 << 20];
    let (status, text, _) = process.post("/inject", json, &deep).await;
    assert!(status == 200 && text.contains("\"allowed\":false"));
    let body = review(pod()).to_string();
    let (status, text, _) = process
        .post("/inject/cluster/c1", json, body.as_bytes())
        .await;
    assert!(status == 200 && text.contains("JSONPatch"));
    assert_eq!(
        process
            .post("/inject/cluster", json, body.as_bytes())
            .await
            .0,
        400
    );
    assert_eq!(process.post("/other", json, body.as_bytes()).await.0, 404);

    let (_, metrics) = process.page("/metrics").await;
    for line in [
        "sidecar_injection_requests_total 15",
        "sidecar_injection_skip_total 1",
        "sidecar_injection_success_total 4",
        "sidecar_injection_failure_total 11",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    assert!(metrics.contains("injector_cert_expiry_timestamp"));
    assert!(process.dir.path().join("health").exists());
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_is_followed_and_a_broken_one_is_not_taken() {
    let process = start(true).await;
    ready(&process).await;
    process.write("values", "global: {hub: other}");
    process
        .until_page("/metrics", |(_, text)| {
            text.contains("result=\"success\"} 2")
        })
        .await;
    let patch = |answer: Value| {
        let text = answer["response"]["patch"].as_str().unwrap().to_owned();
        String::from_utf8(
            base64::engine::general_purpose::STANDARD
                .decode(text)
                .unwrap(),
        )
        .unwrap()
    };
    assert!(patch(process.review(pod()).await).contains("other/proxyv2:"));
    process.write(
        "config",
        "policy: enabled\ntemplates: {sidecar: '{{ if }}'}\n",
    );
    process
        .until_page("/metrics", |(_, text)| {
            text.contains("result=\"failure\"} 1")
        })
        .await;
    assert!(patch(process.review(pod()).await).contains("other/proxyv2:"));
    assert_eq!(process.page("/ready").await.0, 200);
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_may_come_late_and_change() {
    let process = start(false).await;
    process
        .until_page("/ready", |(status, text)| {
            *status == 503 && text == "waiting for certificates\n"
        })
        .await;
    let _files = process
        .authority
        .issue(&[], &[NAME])
        .write(process.dir.path());
    ready(&process).await;
    let body = review(pod()).to_string();
    let (status, _, first) = process
        .post("/inject", "application/json", body.as_bytes())
        .await;
    assert_eq!(status, 200);
    let next = process.authority.issue(&[], &[NAME]);
    process.write("key.pem", &next.key);
    process.write("cert-chain.pem", &next.cert);
    for attempt in 0.. {
        let (_, _, leaf) = process
            .post("/inject", "application/json", body.as_bytes())
            .await;
        if leaf != first {
            break;
        }
        assert!(attempt < 500, "the new certificate is never shown");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_pods_at_a_time() {
    let process = Arc::new(start(true).await);
    ready(&process).await;
    let mut large = pod();
    let env: Vec<Value> = (0..1500)
        .map(|n| json!({"name": format!("VARIABLE_{n}"), "value": "x".repeat(40)}))
        .collect();
    large["spec"]["containers"][0]["env"] = json!(env);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (process, large) = (Arc::clone(&process), large.clone());
        tasks.spawn(async move { process.review(large).await["response"]["allowed"].clone() });
    }
    while let Some(allowed) = tasks.join_next().await {
        assert_eq!(allowed.unwrap(), true);
    }
}

#[test]
fn configuration_files_are_needed_as_files() {
    let files = sidecar_injector::config::Files {
        injection: Path::new("/nonexistent/config").to_owned(),
        values: None,
        mesh: None,
    };
    let error = sidecar_injector::config::Config::load(&files, Default::default()).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/config"));
}
