//! The admission webhook over TLS, and its registration at an API server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use mesh_common::tls::ReloadingClientConfig;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Galley, PATIENCE, SERVER_NAME, World};

const FLAGS: [&str; 2] = ["--enable-validation=true", "--validation-port=0"];
const PEER: &str = "spiffe://cluster.local/ns/kube-system/sa/apiserver";

/// Sends a request as an API server would; returns status and body, or nothing if the handshake
/// fails.
async fn post(
    client: &ReloadingClientConfig,
    address: SocketAddr,
    path: &str,
    content_type: &str,
    body: &[u8],
) -> Option<(u16, String)> {
    let connector = tokio_rustls::TlsConnector::from(http_1(client));
    let stream = TcpStream::connect(("127.0.0.1", address.port()))
        .await
        .unwrap();
    let name = SERVER_NAME.to_owned().try_into().unwrap();
    let mut stream = connector.connect(name, stream).await.ok()?;
    let method = if body.is_empty() { "GET" } else { "POST" };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {content_type}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server that rejects a large body may close before it has read all of it.
    let _sent = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _closed = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some((status, body.to_owned()))
}

fn http_1(client: &ReloadingClientConfig) -> Arc<tokio_rustls::rustls::ClientConfig> {
    let mut config = client.current().as_ref().clone();
    config.alpn_protocols = Vec::new();
    Arc::new(config)
}

fn review(host: &str) -> Vec<u8> {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u",
            "operation": "CREATE",
            "resource": {"group": "networking.istio.io", "version": "v1", "resource": "sidecars"},
            "kind": {"group": "networking.istio.io", "version": "v1", "kind": "Sidecar"},
            "namespace": "a",
            "object": {
                "apiVersion": "networking.istio.io/v1",
                "kind": "Sidecar",
                "metadata": {"name": "a", "namespace": "a"},
                "spec": {"egress": [{"hosts": [host]}]},
            },
        },
    });
    review.to_string().into_bytes()
}

async fn metric(galley: &Galley, line: &str) -> bool {
    galley
        .page("/metrics")
        .await
        .1
        .lines()
        .any(|found| found == line)
}

#[tokio::test]
async fn questions_good_and_bad_are_answered() {
    let world = World::new();
    world.issue_server();
    let server = world.bind(&FLAGS).await;
    let address = server.webhook_address().unwrap();
    let galley = world.run(server).await;
    let client = world.client(PEER);
    let json = "application/json";
    for path in ["/admitpilot", "/validate"] {
        let (status, body) = post(&client, address, path, json, &review("./*"))
            .await
            .unwrap();
        assert_eq!(status, 200);
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["response"], json!({"uid": "u", "allowed": true}));
        let (_, body) = post(&client, address, path, json, &review("*"))
            .await
            .unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["response"]["allowed"], false);
        let message = body["response"]["status"]["message"].as_str().unwrap();
        assert!(
            message.starts_with("configuration is invalid: spec.egress[0]"),
            "{message}"
        );
    }
    let large = vec![b' '; 10 << 20];
    for (path, content_type, body, status) in [
        ("/admitpilot", json, large.as_slice(), 413),
        ("/admitpilot", "text/plain", b"{}", 415),
        ("/admitpilot", json, b"x", 200),
        (
            "/admitpilot",
            json,
            br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#,
            400,
        ),
        ("/admitmixer", json, b"{}", 404),
        ("/ready", "", b"", 200),
    ] {
        let (got, text) = post(&client, address, path, content_type, body)
            .await
            .unwrap();
        assert_eq!(got, status, "{path} {content_type}: {text}");
    }
    let labels = r#"group="networking.istio.io""#;
    let resource = r#"resource="sidecars",version="v1""#;
    for line in [
        format!("galley_validation_passed{{{labels},{resource}}} 2"),
        format!("galley_validation_failed{{{labels},reason=\"invalid_resource\",{resource}}} 2"),
        "galley_validation_http_error{status=\"413\"} 1".to_owned(),
        "galley_validation_http_error{status=\"415\"} 1".to_owned(),
    ] {
        assert!(metric(&galley, &line).await, "{line}");
    }
    galley.stop().await;
}

#[tokio::test]
async fn the_webhook_runs_without_the_configuration_server() {
    let world = World::new();
    world.issue_server();
    let server = world
        .bind(&[FLAGS[0], FLAGS[1], "--enable-server=false"])
        .await;
    assert!(server.address().is_none());
    let address = server.webhook_address().unwrap();
    let galley = world.run(server).await;
    let client = world.client(PEER);
    let answer = post(
        &client,
        address,
        "/validate",
        "application/json",
        &review("./*"),
    )
    .await;
    assert_eq!(answer.unwrap().0, 200);
    assert!(galley.page("/ready").await.0.contains("200"));
    galley.stop().await;
}

/// One ValidatingWebhookConfiguration, and a Service that becomes ready.
#[derive(Clone, Default)]
struct ApiServer(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    object: Option<Value>,
    is_service_ready: bool,
    /// Whether objects that must be rejected are rejected.
    asks: bool,
    writes: Vec<&'static str>,
}

const PATH: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

impl ApiServer {
    async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        address
    }

    async fn until(&self, what: &str, wanted: impl Fn(&Stored) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !wanted(&self.0.lock()) {
            assert!(tokio::time::Instant::now() < deadline, "never: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn failure(code: StatusCode, message: &str) -> Response {
    let reason = if code == StatusCode::NOT_FOUND {
        "NotFound"
    } else {
        "Invalid"
    };
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code.as_u16(), "message": message, "reason": reason,
    });
    (code, Json(status)).into_response()
}

async fn answer(
    State(server): State<ApiServer>,
    method: Method,
    uri: Uri,
    body: axum::body::Bytes,
) -> Response {
    let body = || serde_json::from_slice::<Value>(&body).unwrap();
    let mut stored = server.0.lock();
    let one = format!("{PATH}/istio-galley");
    match (method.as_str(), uri.path()) {
        ("GET", path) if path.ends_with("/endpointslices") => {
            let slice = json!({
                "metadata": {"name": "s"}, "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}],
            });
            let items = if stored.is_service_ready {
                vec![slice]
            } else {
                Vec::new()
            };
            Json(json!({"metadata": {"resourceVersion": "1"}, "items": items})).into_response()
        }
        ("POST", path) if path.ends_with("/gateways") => {
            assert!(uri.query().unwrap_or_default().contains("dryRun=All"));
            if stored.asks {
                let text = "admission webhook \"x\" denied the request: configuration is invalid";
                failure(StatusCode::UNPROCESSABLE_ENTITY, text)
            } else {
                Json(body()).into_response()
            }
        }
        // The watch of the object: a list, and then no events.
        ("GET", PATH) if uri.query().unwrap_or_default().contains("watch=true") => {
            let silence = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
            axum::body::Body::from_stream(silence).into_response()
        }
        ("GET", PATH) => {
            let items: Vec<_> = stored.object.iter().collect();
            Json(json!({"metadata": {"resourceVersion": "1"}, "items": items})).into_response()
        }
        ("GET", path) if path == one => match &stored.object {
            Some(object) => Json(object.clone()).into_response(),
            None => failure(StatusCode::NOT_FOUND, "not found"),
        },
        ("POST", PATH) => {
            stored.writes.push("create");
            stored.object = Some(body());
            Json(body()).into_response()
        }
        ("PUT", path) if path == one => {
            stored.writes.push("replace");
            stored.object = Some(body());
            Json(body()).into_response()
        }
        ("PATCH", path) if path == one => {
            stored.writes.push("patch");
            let object = stored.object.as_mut().unwrap();
            let bundle = body()["webhooks"][0]["clientConfig"]["caBundle"].clone();
            object["webhooks"][0]["clientConfig"]["caBundle"] = bundle;
            Json(object.clone()).into_response()
        }
        (method, path) => failure(StatusCode::NOT_FOUND, &format!("{method} {path}")),
    }
}

const HOOK: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: x}
webhooks:
- name: pilot.validation.istio.io
  clientConfig: {service: {name: istio-galley, namespace: istio-system, path: /admitpilot}}
  rules: [{apiGroups: ['*'], apiVersions: ['*'], operations: [CREATE], resources: ['*']}]
  sideEffects: None
  admissionReviewVersions: [v1]
";

#[tokio::test]
async fn the_webhook_is_registered_when_it_answers_and_fails_closed_when_it_is_asked() {
    let world = World::new();
    world.issue_server();
    let api = ApiServer::default();
    let kubeconfig = world.kubeconfig(api.serve().await);
    std::fs::write(world.path("hook.yaml"), HOOK).unwrap();
    let file = format!(
        "--validation-webhook-config-file={}",
        world.path("hook.yaml").display()
    );
    let flags = [
        FLAGS[0],
        FLAGS[1],
        &kubeconfig,
        &file,
        "--validation-failure-policy-managed",
    ];
    let galley = world.start_with(&flags).await;
    let policy = |stored: &Stored| {
        let object = stored.object.as_ref()?;
        object["webhooks"][0]["failurePolicy"]
            .as_str()
            .map(str::to_owned)
    };

    assert!(api.0.lock().writes.is_empty());
    api.0.lock().is_service_ready = true;
    api.until("created", |stored| stored.object.is_some()).await;
    assert_eq!(policy(&api.0.lock()).as_deref(), Some("Ignore"));
    let bundle = api.0.lock().object.as_ref().unwrap()["webhooks"][0]["clientConfig"].clone();
    assert!(
        bundle["caBundle"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );

    api.0.lock().asks = true;
    api.until("closed", |stored| policy(stored).as_deref() == Some("Fail"))
        .await;
    assert!(metric(&galley, "galley_validation_self_test 1").await);

    // Another authority: the caBundle follows, the policy stays.
    let other = mesh_common::testing::Authority::new("other");
    std::fs::write(world.path("certs/root-cert.pem"), other.root()).unwrap();
    api.until("new bundle", |stored| {
        stored.object.as_ref().unwrap()["webhooks"][0]["clientConfig"] != bundle
    })
    .await;
    assert_eq!(policy(&api.0.lock()).as_deref(), Some("Fail"));
    assert_eq!(api.0.lock().writes, ["create", "replace", "replace"]);
    galley.stop().await;
}

#[tokio::test]
async fn an_object_of_a_chart_gets_the_bundle_and_nothing_else() {
    let world = World::new();
    world.issue_server();
    let api = ApiServer::default();
    let chart: Value = serde_yaml::from_str(HOOK).unwrap();
    api.0.lock().object = Some(chart.clone());
    api.0.lock().is_service_ready = true;
    let kubeconfig = world.kubeconfig(api.serve().await);
    let galley = world.start_with(&[FLAGS[0], FLAGS[1], &kubeconfig]).await;
    api.until("patched", |stored| !stored.writes.is_empty())
        .await;
    let mut object = api.0.lock().object.clone().unwrap();
    let client_config = object["webhooks"][0]["clientConfig"]
        .as_object_mut()
        .unwrap();
    assert!(
        client_config
            .remove("caBundle")
            .is_some_and(|bundle| bundle.is_string())
    );
    assert_eq!(object, chart);
    assert_eq!(api.0.lock().writes, ["patch"]);
    galley.stop().await;
}
