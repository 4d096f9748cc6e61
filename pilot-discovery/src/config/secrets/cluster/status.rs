//! Status of the cluster's Secrets, for logs and a debug page.

use std::{collections::BTreeMap, sync::Arc};

use mesh_common::list_watch::Failure;
use parking_lot::Mutex;
use serde::Serialize;

/// The state of all requests to the API server.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<Mutex<Shown>>);

/// A copy of the state.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// Why the last access review was not answered.
    pub reviews: Option<String>,
    pub namespaces: BTreeMap<String, Namespace>,
}

/// A namespace whose Secrets are followed.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Namespace {
    /// Why the last attempt to list or watch failed.
    pub trouble: Option<String>,
    /// Secrets that are held.
    pub secrets: usize,
    /// Whether some were left out because of the limits.
    pub is_full: bool,
}

impl Status {
    pub fn shown(&self) -> Shown {
        self.0.lock().clone()
    }

    /// Records the result of an access review. Logged if it changed.
    pub(super) fn reviewed(&self, error: Option<&String>) {
        let mut shown = self.0.lock();
        if shown.reviews.as_ref() == error {
            return;
        }
        match error {
            Some(error) => tracing::warn!(error, "access review failed; the last answers hold"),
            None => tracing::info!("access reviews succeed again"),
        }
        shown.reviews = error.cloned();
    }

    /// Records a failed attempt to follow a namespace. Logged unless the last failure was the same.
    pub(super) fn failed(&self, namespace: &str, failure: &Failure) {
        let error = failure.to_string();
        let mut shown = self.0.lock();
        let shown = shown.namespaces.entry(namespace.to_owned()).or_default();
        if shown.trouble.as_ref() != Some(&error) {
            tracing::warn!(
                ns = namespace,
                error,
                "cannot follow Secrets; the known ones stay in force, and it is retried"
            );
            shown.trouble = Some(error);
        }
    }

    /// Records that a namespace is followed.
    pub(super) fn works(&self, namespace: &str) {
        let mut shown = self.0.lock();
        let shown = shown.namespaces.entry(namespace.to_owned()).or_default();
        if shown.trouble.take().is_some() {
            tracing::info!(ns = namespace, "Secrets are followed again");
        }
    }

    /// Records how many Secrets of a namespace are held. Logged when the limits are reached.
    pub(super) fn holds(&self, namespace: &str, secrets: usize, is_full: bool) {
        let mut shown = self.0.lock();
        let shown = shown.namespaces.entry(namespace.to_owned()).or_default();
        if is_full && !shown.is_full {
            tracing::warn!(
                ns = namespace,
                secrets,
                "the namespace has more Secrets with credentials than pilot holds; \
                 the others are left out"
            );
        }
        (shown.secrets, shown.is_full) = (secrets, is_full);
    }

    /// Records that a namespace is no longer followed.
    pub(super) fn forget(&self, namespace: &str) {
        self.0.lock().namespaces.remove(namespace);
    }
}
