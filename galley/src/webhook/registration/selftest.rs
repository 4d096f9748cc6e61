//! Tests whether an API server really calls the webhook: it is asked to store an object that the
//! webhook must reject.

use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use mesh_common::kubeclient::Client;
use serde_json::json;

/// Between two attempts: API servers take some seconds to notice a registration.
pub(super) const PAUSE: Duration = Duration::from_secs(5);

/// Sends a Gateway that is always rejected. It is a dry run, so that nothing is stored in any case.
///
/// # Errors
/// What came instead of the rejection.
pub(super) async fn run(client: &Client, namespace: &str) -> Result<(), String> {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "Gateway");
    let resource = ApiResource::from_gvk_with_plural(&kind, "gateways");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let object = DynamicObject::new("invalid-gateway", &resource).data(json!({
        "metadata": {
            "name": "invalid-gateway",
            "annotations": {"internal.istio.io/webhook-always-reject": "true"},
        },
        "spec": {},
    }));
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match api.create(&dry_run, &object).await {
        Ok(_) => Err("an object that the webhook must reject was accepted".to_owned()),
        Err(kube::Error::Api(status)) if is_refusal(&status.message) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// The second text is about a webhook with side effects: such a webhook is called, but not for dry
/// runs.
fn is_refusal(message: &str) -> bool {
    message.contains("denied the request") || message.contains("does not support dry run")
}
