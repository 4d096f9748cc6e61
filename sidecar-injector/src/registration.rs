//! Keeps the caBundle of the MutatingWebhookConfiguration: the certificates by which API servers
//! verify this webhook. Everything else in the object belongs to whoever installed it.
//!
//! Every replica does this. Equal files give equal bundles, so they do not undo each other's work.

mod step;

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration as Configuration;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use mesh_common::backoff::Backoff;
use mesh_common::kubeclient::Client;
use mesh_common::metrics::{IntCounterVec, Registry};
use mesh_common::{drain, fswatch, tls};

use step::Step;

/// Changes of the file are looked at when they have been quiet for this long.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Delays after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// Largest bundle that is read, in bytes: an API server takes objects of half as much again.
const MAX_BUNDLE: u64 = 1 << 20;

/// Which object is kept, and with what.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Name of the object.
    pub(crate) name: String,
    /// End of the names of its entries that are this injector's.
    pub(crate) suffix: String,
    /// An object that is labelled with another revision is left alone.
    pub(crate) revision: String,
    /// Certificates that the webhook's own is verified with.
    pub(crate) ca_file: PathBuf,
}

/// Metric families, named as in Istio.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    attempts: IntCounterVec,
    retries: IntCounterVec,
    failures: IntCounterVec,
}

impl Metrics {
    /// Registers the families.
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            attempts: registry.counter_vec(
                "webhook_patch_attempts_total",
                "Times that the caBundle of the webhook was compared with what it should be",
                &["name"],
            ),
            retries: registry.counter_vec(
                "webhook_patch_retries_total",
                "Times that this is tried again after a failure",
                &["name"],
            ),
            failures: registry.counter_vec(
                "webhook_patch_failures_total",
                "Times that it could not be made so, by reason",
                &["name", "reason"],
            ),
        }
    }
}

/// Why the bundle is not as it should be.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("MutatingWebhookConfiguration {0} is not there")]
    Absent(String),
    #[error(transparent)]
    Step(#[from] step::Refusal),
    #[error("CA bundle: {0}")]
    Bundle(String),
    #[error("MutatingWebhookConfiguration {name}: {source}")]
    Api {
        name: String,
        source: Box<kube::Error>,
    },
}

impl Error {
    /// Istio's words for the label `reason`.
    fn reason(&self) -> &'static str {
        match self {
            Self::Absent(_) => "webhook_config_not_found",
            Self::Step(step::Refusal::Revision { .. }) => "wrong_revision",
            Self::Step(step::Refusal::NoEntry { .. }) => "webhook_entry_not_found",
            Self::Bundle(_) => "load_ca_bundle_failure",
            Self::Api { .. } => "webhook_update_failure",
        }
    }

    /// Whether a change of the object or the file, which is noticed, is all that can help.
    fn waits_for_change(&self) -> bool {
        !matches!(self, Self::Api { .. })
    }
}

/// Keeps the bundle until the process drains.
pub(crate) async fn keep(
    client: Client,
    settings: Settings,
    metrics: Metrics,
    drain: drain::Watch,
) {
    let keeper = Keeper {
        api: Api::all(client),
        settings,
        metrics,
    };
    tokio::select! {
        () = drain.signaled() => {}
        () = keeper.run() => {}
    }
}

struct Keeper {
    api: Api<Configuration>,
    settings: Settings,
    metrics: Metrics,
}

impl Keeper {
    async fn run(&self) {
        let name = self.settings.name.as_str();
        let mut changes = fswatch::watch(vec![self.settings.ca_file.clone()], DEBOUNCE);
        let one = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = watcher(self.api.clone(), one).default_backoff().boxed();
        let mut retry = Backoff::new(RETRY.0, RETRY.1);
        let mut again = Some(Duration::ZERO);
        let mut told = String::new();
        loop {
            let delay = again.unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(delay), if again.is_some() => {}
                Some(()) = changes.recv() => {}
                event = events.next() => match event {
                    // Its own writes come back, too; they are found to be as they should.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        tracing::debug!("watch of the registration: {error}");
                        continue;
                    }
                    None => return,
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
                        tracing::warn!("registration of the webhook: {text}");
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

    /// One look and at most one write.
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
                tracing::info!(name, "the caBundle of the webhook is set");
                Ok(())
            }
        }
    }

    /// The text of the file, when a server could be verified with it.
    fn bundle(&self) -> Result<Vec<u8>, String> {
        let path = &self.settings.ca_file;
        let is_small = std::fs::metadata(path)
            .map_err(|error| format!("{}: {error}", path.display()))?
            .len()
            <= MAX_BUNDLE;
        if !is_small {
            return Err(format!(
                "{} has more than {MAX_BUNDLE} bytes",
                path.display()
            ));
        }
        tls::load_roots(path).map_err(|error| error.to_string())?;
        std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
    }
}
