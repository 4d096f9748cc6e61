//! Keeps the ValidatingWebhookConfiguration as it should be: the caBundle that API servers verify
//! the webhook with and, if a file says so, the whole object.
//!
//! Every replica does this. Equal inputs give equal objects, so they do not undo each other's work.

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
use mesh_common::kubeclient::Client;
use mesh_common::metrics::Registry;
use mesh_common::{drain, fswatch};
use prometheus::{IntCounter, IntCounterVec, IntGauge};

use desired::{Desired, Step};

/// Changes of files are looked at when they have been quiet for this long.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Delays after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What is to be registered.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the object.
    pub name: String,
    /// Namespace of galley's Service.
    pub namespace: String,
    /// Galley's Service: nothing is registered before one of its endpoints is ready.
    pub service: String,
    /// Certificates that the webhook's own is verified with.
    pub ca_file: PathBuf,
    /// The object to install; without it, the object is somebody else's and only its bundle is kept.
    pub file: Option<PathBuf>,
    /// Whether the object is installed with `Ignore` and turned to `Fail` when it works.
    pub managed_policy: bool,
}

impl Settings {
    /// What is in the files now.
    fn contents(&self) -> [Option<Vec<u8>>; 2] {
        let files = [Some(&self.ca_file), self.file.as_ref()];
        // What cannot be read is told of when it is loaded.
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
    /// Registers the families.
    pub fn register(registry: &Registry) -> Self {
        Self {
            updates: registry.counter(
                "galley_validation_config_updates",
                "Times that the webhook's registration was written.",
            ),
            update_errors: registry.counter_vec(
                "galley_validation_config_update_error",
                "Times that it could not be written.",
                &["error"],
            ),
            loads: registry.counter(
                "galley_validation_config_load",
                "Times that the files of the registration were read.",
            ),
            load_errors: registry.counter_vec(
                "galley_validation_config_load_error",
                "Times that they could not be used.",
                &["error"],
            ),
            self_test: registry.int_gauge(
                "galley_validation_self_test",
                "Whether an API server refused an object for this webhook: 1 when it did.",
            ),
        }
    }
}

/// Keeps the object until the process drains.
pub async fn keep(client: Client, settings: Settings, metrics: Metrics, drain: drain::Watch) {
    tokio::select! {
        () = drain.signaled() => {}
        () = run(client, settings, metrics) => {}
    }
}

async fn run(client: Client, settings: Settings, metrics: Metrics) {
    service::ready(&client, &settings).await;
    let keeper = Keeper {
        api: Api::all(client.clone()),
        client,
        settings,
        metrics,
    };
    let files = [
        Some(&keeper.settings.ca_file),
        keeper.settings.file.as_ref(),
    ];
    let mut changes = fswatch::watch(files.into_iter().flatten().cloned().collect(), DEBOUNCE);
    let one = watcher::Config::default().fields(&format!("metadata.name={}", keeper.settings.name));
    let mut events = watcher(keeper.api.clone(), one).default_backoff().boxed();
    let mut retry = Backoff::new(RETRY.0, RETRY.1);
    let mut again: Option<Duration> = Some(Duration::ZERO);
    let mut known = keeper.settings.contents();
    loop {
        let delay = again.unwrap_or_default();
        tokio::select! {
            () = tokio::time::sleep(delay), if again.is_some() => {}
            Some(()) = changes.recv() => {
                // Whatever happens in the files' directories is a change.
                let contents = keeper.settings.contents();
                if contents == known {
                    continue;
                }
                known = contents;
            }
            event = events.next() => match event {
                // Its own writes come back, too; they are found to be as they should.
                Some(Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_))) => {}
                Some(Ok(_)) => continue,
                Some(Err(error)) => {
                    tracing::debug!(target: "validation", "watch of the registration: {error}");
                    continue;
                }
                None => return,
            },
        }
        again = match keeper.reconcile().await {
            Ok(next) => {
                retry.reset();
                next
            }
            // Another replica was quicker; what it wrote may be all that is needed.
            Err(Error::Api { source, .. }) if class(&source) == "conflict" => Some(Duration::ZERO),
            Err(error) => {
                tracing::warn!(target: "validation", "registration of the webhook: {error}");
                Some(retry.next())
            }
        };
    }
}

/// Why the object is not as it should be.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Load(#[from] desired::LoadError),
    #[error("{what} ValidatingWebhookConfiguration {name}: {source}")]
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
    /// One look and at most one write; how soon to look again without being asked.
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
            // Whoever installs the object will be seen doing so.
            return Ok(None);
        }
        self.look_after_policy(&desired).await
    }

    /// Whether an API server asks the webhook; then it may fail closed.
    async fn look_after_policy(&self, desired: &Desired) -> Result<Option<Duration>, Error> {
        if self.metrics.self_test.get() == 1 {
            return Ok(None);
        }
        match selftest::run(&self.client, &self.settings.namespace).await {
            Ok(()) => {
                self.metrics.self_test.set(1);
                tracing::info!(target: "validation", "an API server asks the webhook");
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
        tracing::info!(target: "validation", name = self.settings.name, "registration: {what}");
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

/// A few words, for a label.
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
