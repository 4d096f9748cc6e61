//! Keeps the caBundle of the MutatingWebhookConfiguration up to date: the certificates with which
//! API servers verify this webhook. The rest of the object belongs to its installer.
//!
//! Every replica does this; equal files give equal bundles, so replicas do not conflict.

mod step;

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration as Configuration;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use mesh_common::backoff::Backoff;
use mesh_common::fswatch::{self, Changes, WatchDied};
use mesh_common::kubeclient::Client;
use mesh_common::metrics::{IntCounterVec, Registry};
use mesh_common::{drain, tls};

use step::Step;

/// How long the file must stay unchanged before it is read.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Shortest and longest delay after failures.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// Maximum size of the bundle, in bytes; an API server accepts objects of 1.5 MiB.
const MAX_BUNDLE: u64 = 1 << 20;

/// The object and its desired content.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Name of the object.
    pub(crate) name: String,
    /// Suffix of the names of webhooks that belong to this injector.
    pub(crate) suffix: String,
    /// Revision of this injector; objects labelled with another one are left unchanged.
    pub(crate) revision: String,
    /// File with the certificates that verify the webhook.
    pub(crate) ca_file: PathBuf,
}

/// Metrics, under Istio's names.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    attempts: IntCounterVec,
    retries: IntCounterVec,
    failures: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics.
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            attempts: registry.counter_vec(
                "webhook_patch_attempts_total",
                "Attempts to keep the caBundle of the webhook up to date",
                &["name"],
            ),
            retries: registry.counter_vec(
                "webhook_patch_retries_total",
                "Retries after a failed attempt",
                &["name"],
            ),
            failures: registry.counter_vec(
                "webhook_patch_failures_total",
                "Failed attempts, by reason",
                &["name", "reason"],
            ),
        }
    }
}

/// Why the bundle could not be updated.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("MutatingWebhookConfiguration {0} does not exist")]
    Absent(String),
    #[error(transparent)]
    Step(#[from] step::Refusal),
    #[error("cannot read the CA bundle: {0}")]
    Bundle(String),
    #[error("MutatingWebhookConfiguration {name}: {source}")]
    Api {
        name: String,
        source: Box<kube::Error>,
    },
}

impl Error {
    /// Istio's values of the label `reason`.
    fn reason(&self) -> &'static str {
        match self {
            Self::Absent(_) => "webhook_config_not_found",
            Self::Step(step::Refusal::Revision { .. }) => "wrong_revision",
            Self::Step(step::Refusal::NoEntry { .. }) => "webhook_entry_not_found",
            Self::Bundle(_) => "load_ca_bundle_failure",
            Self::Api { .. } => "webhook_update_failure",
        }
    }

    /// Whether only a change of the object or the file, which is noticed, can help.
    fn waits_for_change(&self) -> bool {
        !matches!(self, Self::Api { .. })
    }
}

/// Keeps the bundle up to date until the process drains.
///
/// # Errors
/// When the file is no longer watched.
pub(crate) async fn keep(
    client: Client,
    settings: Settings,
    metrics: Metrics,
    drain: drain::Watch,
) -> Result<(), WatchDied> {
    let keeper = Keeper {
        api: Api::all(client),
        settings,
        metrics,
    };
    let changes = fswatch::watch(vec![keeper.settings.ca_file.clone()], DEBOUNCE);
    tokio::select! {
        () = drain.signaled() => Ok(()),
        kept = keeper.run(changes) => kept,
    }
}

struct Keeper {
    api: Api<Configuration>,
    settings: Settings,
    metrics: Metrics,
}

impl Keeper {
    async fn run(&self, mut changes: Changes) -> Result<(), WatchDied> {
        let name = self.settings.name.as_str();
        let one = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = watcher(self.api.clone(), one).default_backoff().boxed();
        let mut retry = Backoff::new(RETRY.0, RETRY.1);
        let mut again = Some(Duration::ZERO);
        let mut told = String::new();
        loop {
            let delay = again.unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(delay), if again.is_some() => {}
                change = changes.next() => change?,
                event = events.next() => match event {
                    // Own writes come back as events, too, and need no further change.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        tracing::debug!(%error, "watch of the webhook registration failed");
                        continue;
                    }
                    None => return Ok(()),
                },
            }
            self.metrics.attempts.with_label_values(&[name]).inc();
            again = match self.reconcile().await {
                Ok(()) => {
                    retry.reset();
                    told.clear();
                    None
                }
                Err(error) => {
                    let labels = [name, error.reason()];
                    self.metrics.failures.with_label_values(&labels).inc();
                    let text = error.to_string();
                    if text != told {
                        tracing::warn!(error = text, "cannot update the webhook registration");
                        told = text;
                    }
                    if error.waits_for_change() {
                        None
                    } else {
                        self.metrics.retries.with_label_values(&[name]).inc();
                        Some(retry.next())
                    }
                }
            };
        }
    }

    /// Reads the object once and writes it if necessary.
    async fn reconcile(&self) -> Result<(), Error> {
        let bundle = self.bundle().map_err(Error::Bundle)?;
        let name = &self.settings.name;
        let api_error = |source| Error::Api {
            name: name.clone(),
            source: Box::new(source),
        };
        let found = self.api.get_opt(name).await.map_err(api_error)?;
        let found = found.ok_or_else(|| Error::Absent(name.clone()))?;
        match step::step(&found, &self.settings, &bundle)? {
            Step::Nothing => Ok(()),
            Step::Patch(patch) => {
                let patch = Patch::Strategic(patch);
                self.api
                    .patch(name, &PatchParams::default(), &patch)
                    .await
                    .map_err(api_error)?;
                tracing::info!(name, "updated the caBundle of the webhook");
                Ok(())
            }
        }
    }

    /// The content of the file, if it can verify a server.
    fn bundle(&self) -> Result<Vec<u8>, String> {
        let path = &self.settings.ca_file;
        let is_small = std::fs::metadata(path)
            .map_err(|error| format!("{}: {error}", path.display()))?
            .len()
            <= MAX_BUNDLE;
        if !is_small {
            return Err(format!(
                "{} is larger than {MAX_BUNDLE} bytes",
                path.display()
            ));
        }
        tls::load_roots(path).map_err(|error| error.to_string())?;
        std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_no_longer_watched_is_an_error() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let keeper = Keeper {
            api: Api::all(mesh_common::kubeclient::client(config).unwrap()),
            settings: Settings {
                name: "istio-sidecar-injector".to_owned(),
                suffix: "sidecar-injector.istio.io".to_owned(),
                revision: "default".to_owned(),
                ca_file: "/nonexistent/root-cert.pem".into(),
            },
            metrics: Metrics::new(&Registry::empty()),
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        drop(sender);
        let kept = tokio::time::timeout(Duration::from_secs(20), keeper.run(receiver.into()));
        assert_eq!(kept.await.unwrap(), Err(WatchDied));
    }
}
