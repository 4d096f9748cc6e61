//! Waits for galley's Service: an API server must not be sent to a Service without endpoints.

use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};
use mesh_common::backoff::Backoff;
use mesh_common::kubeclient::Client;

use super::Settings;

/// Between two attempts: short at first, as a Pod becomes ready within seconds.
const DELAYS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Waits until an endpoint of the Service, of any replica, is ready.
pub(super) async fn ready(client: &Client, settings: &Settings) {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), &settings.namespace);
    let label = format!("kubernetes.io/service-name={}", settings.service);
    let slices = ListParams::default().labels(&label);
    let mut delays = Backoff::new(DELAYS.0, DELAYS.1);
    let mut told = String::new();
    loop {
        let reason = match api.list(&slices).await {
            Ok(found) if found.items.iter().any(has_ready_endpoint) => return,
            Ok(_) => "no endpoint is ready".to_owned(),
            Err(error) => error.to_string(),
        };
        if reason != told {
            let (namespace, service) = (&settings.namespace, &settings.service);
            tracing::info!(
                target: "validation",
                "the webhook is registered once Service {namespace}/{service} is ready: {reason}"
            );
            told = reason;
        }
        tokio::time::sleep(delays.next()).await;
    }
}

fn has_ready_endpoint(slice: &EndpointSlice) -> bool {
    slice.endpoints.iter().any(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        // Kubernetes defines an absent condition as ready.
        conditions.and_then(|conditions| conditions.ready) != Some(false)
    })
}
