//! Keeps the ValidatingWebhookConfiguration up to date: the caBundle with which API servers verify
//! the webhook and, if a file is given, the whole object.
//!
//! Every replica does this. Equal inputs give equal objects, so replicas do not undo each other's
//! work.

mod desired;
mod selftest;
mod service;

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration as Configuration;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use mesh_common::backoff::Backoff;
use mesh_common::drain;
use mesh_common::fswatch::{self, Changes, WatchDied};
use mesh_common::kubeclient::Client;
use mesh_common::metrics::Registry;
use prometheus::{IntCounter, IntCounterVec, IntGauge};

use desired::{Desired, Step};

/// Files are read after they have not changed for this long.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// First and longest delay after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What to register.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the object.
    pub name: String,
    /// Namespace of galley's Service.
    pub namespace: String,
    /// Name of galley's Service: nothing is registered until one of its endpoints is ready.
    pub service: String,
    /// CA certificates that verify the webhook's certificate.
    pub ca_file: PathBuf,
    /// The object to install; without it, something else installs the object and only its caBundle
    /// is kept up to date.
    pub file: Option<PathBuf>,
    /// Whether the object is installed with `Ignore` and switched to `Fail` once the webhook works.
    pub managed_policy: bool,
}

impl Settings {
    /// The present contents of the files.
    fn contents(&self) -> [Option<Vec<u8>>; 2] {
        let files = [Some(&self.ca_file), self.file.as_ref()];
        // Read errors are reported when the file is loaded.
        files.map(|file| file.and_then(|path| desired::read(path).ok()))
    }
}

/// Metric families, under the names of 1.1 where 1.1 had them.
#[derive(Debug, Clone)]
pub struct Metrics {
    updates: IntCounter,
    update_errors: IntCounterVec,
    loads: IntCounter,
    load_errors: IntCounterVec,
    self_test: IntGauge,
}

impl Metrics {
    /// Registers the metric families.
    pub fn register(registry: &Registry) -> Self {
        Self {
            updates: registry.counter(
                "galley_validation_config_updates",
                "Writes of the webhook's registration.",
            ),
            update_errors: registry.counter_vec(
                "galley_validation_config_update_error",
                "Requests for the webhook's registration that failed.",
                &["error"],
            ),
            loads: registry.counter(
                "galley_validation_config_load",
                "Times that the files of the registration were loaded.",
            ),
            load_errors: registry.counter_vec(
                "galley_validation_config_load_error",
                "Times that the files of the registration could not be loaded.",
                &["error"],
            ),
            self_test: registry.int_gauge(
                "galley_validation_self_test",
                "Whether an API server calls the webhook, as the self-test found: 1 if so.",
            ),
        }
    }
}

/// Keeps the object up to date until the process drains.
///
/// # Errors
/// When the files are no longer watched.
pub async fn keep(
    client: Client,
    settings: Settings,
    metrics: Metrics,
    drain: drain::Watch,
) -> Result<(), WatchDied> {
    tokio::select! {
        () = drain.signaled() => Ok(()),
        kept = run(client, settings, metrics) => kept,
    }
}

async fn run(client: Client, settings: Settings, metrics: Metrics) -> Result<(), WatchDied> {
    service::ready(&client, &settings).await;
    let files = [Some(&settings.ca_file), settings.file.as_ref()];
    let changes = fswatch::watch(files.into_iter().flatten().cloned().collect(), DEBOUNCE);
    let keeper = Keeper {
        api: Api::all(client.clone()),
        client,
        settings,
        metrics,
    };
    keeper.follow(changes).await
}

/// Why the object could not be updated.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Load(#[from] desired::LoadError),
    #[error("cannot {what} ValidatingWebhookConfiguration {name}: {source}")]
    Api {
        what: &'static str,
        name: String,
        source: Box<kube::Error>,
    },
}

struct Keeper {
    client: Client,
    api: Api<Configuration>,
    settings: Settings,
    metrics: Metrics,
}

impl Keeper {
    /// Reconciles after every change of the object or the files.
    async fn follow(&self, mut changes: Changes) -> Result<(), WatchDied> {
        let one =
            watcher::Config::default().fields(&format!("metadata.name={}", self.settings.name));
        let mut events = watcher(self.api.clone(), one).default_backoff().boxed();
        let mut retry = Backoff::new(RETRY.0, RETRY.1);
        let mut again: Option<Duration> = Some(Duration::ZERO);
        let mut known = self.settings.contents();
        loop {
            let delay = again.unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(delay), if again.is_some() => {}
                change = changes.next() => {
                    change?;
                    // Any change in the directories of the files is reported.
                    let contents = self.settings.contents();
                    if contents == known {
                        continue;
                    }
                    known = contents;
                }
                event = events.next() => match event {
                    // Its own writes are reported, too; reconciling then finds nothing to do.
                    Some(Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_))) => {}
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => {
                        tracing::debug!(target: "validation", "cannot watch the registration: {error}");
                        continue;
                    }
                    None => return Ok(()),
                },
            }
            again = match self.reconcile().await {
                Ok(next) => {
                    retry.reset();
                    next
                }
                // Another replica wrote first; that may be all that was needed.
                Err(Error::Api { source, .. }) if class(&source) == "conflict" => {
                    Some(Duration::ZERO)
                }
                Err(error) => {
                    tracing::warn!(target: "validation", "cannot register the webhook: {error}");
                    Some(retry.next())
                }
            };
        }
    }

    /// Reads the object and writes it at most once; returns how soon to do so again without a
    /// change.
    async fn reconcile(&self) -> Result<Option<Duration>, Error> {
        let desired = match Desired::load(&self.settings) {
            Ok(desired) => desired,
            Err(error) => {
                let errors = &self.metrics.load_errors;
                errors.with_label_values(&[error.class()]).inc();
                return Err(error.into());
            }
        };
        self.metrics.loads.inc();
        let found = self
            .call("get", self.api.get_opt(&self.settings.name))
            .await?;
        let is_registered = found.is_some();
        match desired.step(found.as_ref()) {
            Step::Nothing => {}
            Step::Create(object) => {
                let params = PostParams::default();
                self.write("create", self.api.create(&params, &object))
                    .await?;
            }
            Step::Patch(patch) => {
                let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
                let name = &self.settings.name;
                self.write("patch", self.api.patch(name, &params, &patch))
                    .await?;
            }
            Step::Replace(object) => {
                let (params, name) = (PostParams::default(), &self.settings.name);
                self.write("replace", self.api.replace(name, &params, &object))
                    .await?;
            }
        }
        if !is_registered && !desired.is_owner() {
            // The watch will show when the object is installed.
            return Ok(None);
        }
        self.look_after_policy(&desired).await
    }

    /// Tests whether an API server calls the webhook; once it does, the webhook may fail closed.
    async fn look_after_policy(&self, desired: &Desired) -> Result<Option<Duration>, Error> {
        if self.metrics.self_test.get() == 1 {
            return Ok(None);
        }
        match selftest::run(&self.client, &self.settings.namespace).await {
            Ok(()) => {
                self.metrics.self_test.set(1);
                tracing::info!(target: "validation", "an API server calls the webhook");
                let found = self
                    .call("get", self.api.get_opt(&self.settings.name))
                    .await?;
                if let Some(object) = desired.fail_closed(found) {
                    let (params, name) = (PostParams::default(), &self.settings.name);
                    self.write("replace", self.api.replace(name, &params, &object))
                        .await?;
                }
                Ok(None)
            }
            Err(reason) => {
                tracing::debug!(target: "validation", "self-test: {reason}");
                Ok(Some(selftest::PAUSE))
            }
        }
    }

    async fn write<T>(
        &self,
        what: &'static str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<(), Error> {
        self.call(what, request).await?;
        self.metrics.updates.inc();
        tracing::info!(target: "validation", name = self.settings.name, "registration written: {what}");
        Ok(())
    }

    async fn call<T>(
        &self,
        what: &'static str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        request.await.map_err(|source| {
            let errors = &self.metrics.update_errors;
            errors.with_label_values(&[class(&source)]).inc();
            Error::Api {
                what,
                name: self.settings.name.clone(),
                source: Box::new(source),
            }
        })
    }
}

/// A short class of error, for a label.
fn class(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) => match status.code {
            401 => "unauthorized",
            403 => "forbidden",
            404 => "not_found",
            409 => "conflict",
            422 => "invalid",
            _ => "api",
        },
        _ => "connection",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_that_are_no_longer_watched_are_an_error() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = mesh_common::kubeclient::client(config).unwrap();
        let keeper = Keeper {
            api: Api::all(client.clone()),
            client,
            settings: Settings {
                name: "istio-galley".to_owned(),
                namespace: "istio-system".to_owned(),
                service: "istio-galley".to_owned(),
                ca_file: "/nonexistent/root-cert.pem".into(),
                file: None,
                managed_policy: false,
            },
            metrics: Metrics::register(&Registry::empty()),
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        drop(sender);
        let kept = tokio::time::timeout(Duration::from_secs(20), keeper.follow(receiver.into()));
        assert_eq!(kept.await.unwrap(), Err(WatchDied));
    }
}
