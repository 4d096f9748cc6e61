//! Admission of Pods: which ones the webhook is asked about, the request, the patch.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::Context;
use super::store::Store;

/// Name under which the API server calls the webhook, and that its certificate must carry.
const SERVER_NAME: &str = "istio-sidecar-injector.istio-system.svc";
/// Label of namespaces and Pods.
const NAMESPACE_LABEL: &str = "istio-injection";
const POD_LABEL: &str = "sidecar.istio.io/inject";
/// Time that the API server gives a webhook.
const LIMIT: Duration = Duration::from_secs(10);

/// Whether the selectors of the webhook configuration lead a Pod of `namespace` to the webhook.
#[must_use]
pub fn is_wanted(store: &Store, namespace: &str, pod: &Pod) -> bool {
    let of_pod = pod
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(POD_LABEL));
    let of_namespace = store.namespace_label(namespace, NAMESPACE_LABEL);
    match (of_namespace.as_deref(), of_pod.map(String::as_str)) {
        (_, Some("false")) => false,
        (Some("enabled"), _) => true,
        (Some(_), _) => false,
        (None, of_pod) => of_pod == Some("true"),
    }
}

/// Asks the webhook about `pod` and applies its patch.
///
/// # Errors
/// When the webhook is not ready, refuses the Pod, or answers something else than a review.
pub async fn admit(context: &Context, namespace: &str, pod: &Pod) -> Result<Pod> {
    let address = context.injector_ready().await?;
    let mut original = serde_json::to_value(pod).context("encode the Pod")?;
    let review = review(namespace, pod, &original);
    let answer = tokio::time::timeout(LIMIT, ask(context, address, &review))
        .await
        .context("the injector did not answer in time")??;
    if let Some(patch) = patch_of(&answer)? {
        json_patch::patch(&mut original, &patch).context("apply the injector's patch")?;
    }
    serde_json::from_value(original).context("the patched Pod is not a Pod any more")
}

fn review(namespace: &str, pod: &Pod, object: &Value) -> Value {
    // Controllers leave the namespace and the final name to the API server; the injector must
    // do without them too.
    let mut object = object.clone();
    if pod.metadata.generate_name.is_some()
        && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
    {
        for field in ["name", "namespace", "uid"] {
            metadata.remove(field);
        }
    }
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": pod.metadata.uid,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": namespace,
            "operation": "CREATE",
            "dryRun": false,
            "userInfo": {},
            "object": object,
        },
    })
}

async fn ask(context: &Context, address: SocketAddr, review: &Value) -> Result<Value> {
    let stream = TcpStream::connect(address)
        .await
        .context("connect to the injector")?;
    let connector = tokio_rustls::TlsConnector::from(client_config(context)?);
    let name = ServerName::try_from(SERVER_NAME).context("the injector's name")?;
    let stream = connector
        .connect(name, stream)
        .await
        .context("TLS with the injector")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .context("HTTP with the injector")?;
    let driver = tokio::spawn(connection);
    let request = http::Request::post("/inject?timeout=10s")
        .header(http::header::HOST, SERVER_NAME)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(review.to_string())))
        .context("make the request")?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        anyhow::Ok((status, body))
    }
    .await;
    driver.abort();
    let (status, body) = answer.context("ask the injector")?;
    if !status.is_success() {
        bail!(
            "the injector answered {status}: {}",
            String::from_utf8_lossy(&body).trim()
        );
    }
    serde_json::from_slice(&body).context("understand the injector's answer")
}

fn client_config(context: &Context) -> Result<Arc<rustls::ClientConfig>> {
    let path = context.layout.root_certificate();
    let mut roots = rustls::RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(&path).with_context(|| format!("read {}", path.display()))?
    {
        roots
            .add(certificate?)
            .with_context(|| format!("trust {}", path.display()))?;
    }
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn patch_of(answer: &Value) -> Result<Option<json_patch::Patch>> {
    let response = answer
        .get("response")
        .context("the injector's answer has no response")?;
    if response.get("allowed").and_then(Value::as_bool) != Some(true) {
        let reason = response.pointer("/status/message").and_then(Value::as_str);
        bail!(
            "the injector refused the Pod: {}",
            reason.unwrap_or("no reason given")
        );
    }
    let Some(patch) = response.get("patch").and_then(Value::as_str) else {
        return Ok(None);
    };
    let patch = STANDARD
        .decode(patch)
        .context("the injector's patch is not base64")?;
    serde_json::from_slice(&patch)
        .map(Some)
        .context("the injector's patch is not a JSON patch")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Key;

    fn pod(label: Option<&str>) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.labels = label.map(|value| [(POD_LABEL.to_owned(), value.to_owned())].into());
        pod
    }

    #[test]
    fn labels_decide_whether_the_webhook_is_asked() {
        let store = Store::default();
        let namespace = |name: &str, labels: Value| {
            store.put(
                Key::core("Namespace", "", name),
                json!({"metadata": {"labels": labels}}),
            );
        };
        namespace("on", json!({"istio-injection": "enabled"}));
        namespace("off", json!({"istio-injection": "disabled"}));
        namespace("plain", json!({}));
        for (name, label, wanted) in [
            ("on", None, true),
            ("on", Some("false"), false),
            ("off", Some("true"), false),
            ("plain", None, false),
            ("plain", Some("true"), true),
            ("absent", None, false),
        ] {
            assert_eq!(
                is_wanted(&store, name, &pod(label)),
                wanted,
                "{name} {label:?}"
            );
        }
    }

    #[test]
    fn a_refusal_carries_the_reason() {
        let refused = json!({"response": {"allowed": false, "status": {"message": "bad port"}}});
        assert!(
            patch_of(&refused)
                .unwrap_err()
                .to_string()
                .contains("bad port")
        );
        assert!(
            patch_of(&json!({"response": {"allowed": true}}))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn names_are_left_out_for_pods_of_controllers() {
        let mut pod = pod(None);
        pod.metadata.name = Some("web-1".into());
        pod.metadata.generate_name = Some("web-".into());
        let review = review("shop", &pod, &serde_json::to_value(&pod).unwrap());
        assert!(review.pointer("/request/object/metadata/name").is_none());
        assert_eq!(review.pointer("/request/namespace").unwrap(), "shop");
    }
}
