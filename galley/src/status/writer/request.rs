//! A request that writes one status.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::core::Request;
use mesh_common::kubeclient::Client;
use serde_json::Value;

use crate::status::board::Write;
use crate::status::shown::Shown;

/// Field manager of the written fields.
const MANAGER: &str = "istio-galley-status";
/// Time limit of a request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The answer of the API server. Failures have a class, for a label, and a reason.
#[derive(Debug)]
pub(super) enum Answer {
    /// The object after the write.
    Written(Box<str>, Shown),
    /// This status was rejected for this object.
    Refused(&'static str, String),
    /// No status can be written at present.
    Unavailable(&'static str, String),
}

/// Writes a status.
pub(super) async fn patch(client: Client, write: Write) -> Answer {
    match tokio::time::timeout(TIMEOUT, send(&client, &write)).await {
        Err(_) => Answer::Unavailable("timeout", "the API server does not answer".to_owned()),
        Ok(Err(error)) => classify(&error),
        Ok(Ok(object)) => {
            let version = object.pointer("/metadata/resourceVersion");
            let version = version.and_then(Value::as_str).unwrap_or_default();
            Answer::Written(version.into(), Shown::read(&object))
        }
    }
}

async fn send(client: &Client, write: &Write) -> kube::Result<Value> {
    let (key, row) = (&write.id.0, write.collection);
    let namespace = match &*key.namespace {
        "" => String::new(),
        namespace => format!("namespaces/{namespace}/"),
    };
    let url = format!(
        "/apis/{}/{}/{namespace}{}",
        row.group, write.api_version, row.plural
    );
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let request = Request::new(url)
        .patch_subresource("status", &key.name, &params, &Patch::Merge(&write.patch))
        .map_err(kube::Error::BuildRequest)?;
    client.request(request).await
}

fn classify(error: &kube::Error) -> Answer {
    let kube::Error::Api(status) = error else {
        return Answer::Unavailable("connection", error.to_string());
    };
    let reason = status.message.clone();
    match status.code {
        // The object is gone, which the watch will show, or its definition has no `status`
        // subresource.
        404 => Answer::Refused("not_found", reason),
        409 => Answer::Refused("conflict", reason),
        400 | 413 | 415 | 422 => Answer::Refused("invalid", reason),
        code @ (401 | 403) => {
            let class = if code == 401 {
                "unauthorized"
            } else {
                "forbidden"
            };
            let wanted = "galley's ServiceAccount needs the verb patch on the subresource status";
            Answer::Unavailable(class, format!("{reason}; {wanted}"))
        }
        429 => Answer::Unavailable("throttled", reason),
        _ => Answer::Unavailable("api", reason),
    }
}
