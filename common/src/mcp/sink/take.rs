//! Handles one message of a source, from its arrival to the answer.

use istio_api::mcp::v1alpha1::{RequestResources, Resources};

use super::metrics::Metrics;
use super::updater::Updater;
use mesh_core::mcp::sink::{Machine, Step};

/// Applies the changes in a message, and returns the answer.
pub(super) async fn take<U: Updater>(
    machine: &mut Machine,
    updater: &mut U,
    metrics: &Metrics,
    message: Resources,
) -> RequestResources {
    let version = message.system_version_info.clone();
    let received = machine.receive(message);
    for dropped in &received.dropped {
        metrics.dropped(&dropped.collection);
        tracing::warn!(
            collection = dropped.collection,
            name = dropped.name,
            error = dropped.reason,
            "ignored an invalid resource; an earlier one of the same name stays in force"
        );
    }
    let reply = match received.step {
        Step::Reply(reply) => reply,
        Step::Apply(change, commit) => {
            tracing::debug!(
                collection = change.collection,
                version,
                added = change.added.len(),
                removed = change.removed.len(),
                "applying"
            );
            let applied = updater.apply(change).await;
            machine.commit(commit, applied)
        }
    };
    let error = reply.error_detail.as_ref();
    metrics.answered(&reply.collection, error.map(|error| error.code));
    if let Some(error) = error {
        tracing::warn!(
            collection = reply.collection,
            version,
            error = error.message,
            "rejected a message of the source"
        );
    }
    reply
}
