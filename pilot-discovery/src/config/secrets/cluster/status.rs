//! What works and what does not, for the log and a page.

use std::{collections::BTreeMap, sync::Arc};

use mesh_common::list_watch::Failure;
use parking_lot::Mutex;
use serde::Serialize;

/// The state of everything that is asked of the API server.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<Mutex<Shown>>);

/// A copy of it.
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
    /// There are more, or larger ones, than are held.
    pub is_full: bool,
}

impl Status {
    pub fn shown(&self) -> Shown {
        self.0.lock().clone()
    }

    /// An access review was answered or not. Logged when that is news.
    pub(super) fn reviewed(&self, error: Option<&String>) {
        let mut shown = self.0.lock();
        if shown.reviews.as_ref() == error {
            return;
        }
        match error {
            Some(error) => tracing::warn!(error, "no access review; what was known stays in force"),
            None => tracing::info!("access reviews are answered again"),
        }
        shown.reviews = error.cloned();
    }

    /// An attempt to follow a namespace failed. Logged unless the last one ended in the same way.
    pub(super) fn failed(&self, namespace: &str, failure: &Failure) {
        let error = failure.to_string();
        let mut shown = self.0.lock();
        let shown = shown.namespaces.entry(namespace.to_owned()).or_default();
        if shown.trouble.as_ref() != Some(&error) {
            tracing::warn!(
                ns = namespace,
                error,
                "Secrets are not followed, what was known stays in force; it is tried again"
            );
            shown.trouble = Some(error);
        }
    }

    /// A namespace is followed.
    pub(super) fn works(&self, namespace: &str) {
        let mut shown = self.0.lock();
        let shown = shown.namespaces.entry(namespace.to_owned()).or_default();
        if shown.trouble.take().is_some() {
            tracing::info!(ns = namespace, "Secrets are followed again");
        }
    }

    /// So many Secrets of a namespace are held. Logged when it is full.
    pub(super) fn holds(&self, namespace: &str, secrets: usize, is_full: bool) {
        let mut shown = self.0.lock();
        let shown = shown.namespaces.entry(namespace.to_owned()).or_default();
        if is_full && !shown.is_full {
            tracing::warn!(
                ns = namespace,
                secrets,
                "more Secrets with certificates than pilot holds of a namespace; \
                 the others are left out"
            );
        }
        (shown.secrets, shown.is_full) = (secrets, is_full);
    }

    /// A namespace is not followed any more.
    pub(super) fn forget(&self, namespace: &str) {
        self.0.lock().namespaces.remove(namespace);
    }
}
