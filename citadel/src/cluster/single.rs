//! Watching a single object by name.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use mesh_common::list_watch::{Api, Closed, Event, Follower, Listed, Target};
use serde::Deserialize;
use tokio::sync::watch;

use super::trouble::Trouble;
use crate::store::secret;

/// A Secret from a watch; its content is overwritten when it is dropped.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct WatchedSecret(pub(crate) Secret);

impl Listed for WatchedSecret {
    fn version(&self) -> &str {
        let version = self.0.metadata.resource_version.as_deref();
        version.unwrap_or_default()
    }
}

impl Drop for WatchedSecret {
    fn drop(&mut self) {
        secret::wipe(std::mem::take(&mut self.0));
    }
}

/// Known state of an object.
#[derive(Debug)]
pub(crate) enum Seen<T> {
    /// Not known yet.
    Unknown,
    /// It does not exist.
    Absent,
    /// Its last known content.
    Present(Arc<T>),
}

impl<T> Clone for Seen<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Unknown => Self::Unknown,
            Self::Absent => Self::Absent,
            Self::Present(object) => Self::Present(Arc::clone(object)),
        }
    }
}

/// Watch target for one object in a namespace; `plural` names its kind in the core group.
pub(crate) fn target(namespace: &str, plural: &str, name: &str) -> Target {
    Target {
        url: format!("/api/v1/namespaces/{namespace}/{plural}"),
        // There is at most one.
        page: 2,
        fields: Some(format!("metadata.name={name}")),
    }
}

/// Follows the object until all receivers are dropped.
pub(crate) async fn follow<T: Listed + Sync>(
    api: Api,
    target: Target,
    trouble: Trouble,
    seen: watch::Sender<Seen<T>>,
) {
    let mut follower = Single {
        listed: None,
        seen,
        trouble,
    };
    let Closed = api.follow(&target, &mut follower).await;
}

struct Single<T> {
    /// Entry of the current list so far.
    listed: Option<T>,
    seen: watch::Sender<Seen<T>>,
    trouble: Trouble,
}

impl<T: Listed + Sync> Follower<T> for Single<T> {
    async fn take(&mut self, event: Event<'_, T>) -> Result<(), Closed> {
        if self.seen.is_closed() {
            return Err(Closed);
        }
        let seen = match event {
            Event::Started => {
                self.listed = None;
                return Ok(());
            }
            Event::Page(objects) => {
                self.listed = objects.into_iter().next().or_else(|| self.listed.take());
                return Ok(());
            }
            Event::Complete => match self.listed.take() {
                Some(object) => Seen::Present(Arc::new(object)),
                None => Seen::Absent,
            },
            Event::Applied(object) => Seen::Present(Arc::new(object)),
            Event::Deleted(_) => Seen::Absent,
            Event::Failed(failure) => {
                self.trouble.failed(failure);
                return Ok(());
            }
            Event::Works => {
                self.trouble.works();
                return Ok(());
            }
        };
        self.seen.send_replace(seen);
        Ok(())
    }
}
