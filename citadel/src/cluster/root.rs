//! The self-signed authority in its Secret: opened, followed, renewed, and restored when somebody
//! deletes it. The decisions are in `store::secret`.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use mesh_common::backoff::Backoff;
use mesh_common::drain;
use mesh_common::lease::Leadership;
use mesh_common::list_watch::Failure;
use tokio::sync::watch;

use super::at;
use super::single::{Seen, WatchedSecret};
use crate::ca::{Authority, Bundle};
use crate::metrics::Metrics;
use crate::store::StoreError;
use crate::store::secret::{self, Change, NAME};
use crate::store::self_signed::Options;

/// How long a starting process waits for a root or for the API server.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// Time limit of one request.
const LIMIT: Duration = Duration::from_secs(10);

/// How often a renewal is retried after conflicts.
const ATTEMPTS: u32 = 5;

/// Access to the Secret.
#[derive(Clone)]
pub(crate) struct RootSecret {
    api: Api<Secret>,
    namespace: String,
    options: Options,
    /// First and longest delay between attempts.
    pauses: (Duration, Duration),
}

/// Why a request failed.
enum Stop {
    /// It may succeed later.
    Later(String),
    /// It cannot succeed.
    Fatal(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Fatal(error)
    }
}

impl From<kube::Error> for Stop {
    fn from(error: kube::Error) -> Self {
        Self::Later(match &error {
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => format!(
                "the API server refuses access ({}): {}; the ServiceAccount needs the verbs get, \
                 list, watch, create and update on this Secret",
                status.code, status.message
            ),
            _ => Failure::from(error).to_string(),
        })
    }
}

impl RootSecret {
    pub(crate) fn new(
        client: mesh_common::kubeclient::Client,
        namespace: &str,
        options: Options,
        pauses: (Duration, Duration),
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            options,
            pauses,
        }
    }

    /// Name of the Secret in messages.
    pub(crate) fn place(&self) -> String {
        format!("Secret {}/{NAME}", self.namespace)
    }

    /// The bundle in the Secret, which is created if there is none. Requests are repeated while the
    /// API server does not answer.
    pub(crate) async fn open(&self, drain: &drain::Watch) -> Result<Bundle> {
        let mut backoff = Backoff::new(self.pauses.0, self.pauses.1);
        let end = Instant::now() + PATIENCE;
        let place = self.place();
        loop {
            let waiting_for = match self.get_or_create().await {
                Ok(Some(bundle)) => return Ok(bundle),
                Ok(None) => "no other citadel has created it yet".to_owned(),
                Err(Stop::Later(why)) => why,
                Err(Stop::Fatal(error)) => return Err(error.into()),
            };
            if Instant::now() >= end {
                bail!("gave up waiting for {place}: {waiting_for}");
            }
            tracing::warn!(
                place,
                reason = waiting_for,
                "waiting for the self-signed root"
            );
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = drain.signaled() => bail!("stopped while waiting for {place}"),
            }
        }
    }

    /// `None` if there is none and this process may not create one.
    async fn get_or_create(&self) -> Result<Option<Bundle>, Stop> {
        if let Some(found) = in_time(self.api.get_opt(NAME)).await? {
            return Ok(Some(self.bundle(found).await?));
        }
        if self.options.read_only {
            return Ok(None);
        }
        let options = self.options.clone();
        let made = blocking(move || secret::make(&options, SystemTime::now())).await?;
        // The key is used only once it is stored in the API server.
        let created = in_time(self.api.create(&PostParams::default(), &made)).await;
        secret::wipe(made);
        match created {
            Ok(created) => {
                let trust_domain = &self.options.trust_domain;
                tracing::info!(place = self.place(), %trust_domain, "created a self-signed root");
                Ok(Some(self.bundle(created).await?))
            }
            Err(Stop::Later(why)) => {
                // Another process was faster, or the response was lost: use what is stored.
                match in_time(self.api.get_opt(NAME)).await? {
                    Some(found) => Ok(Some(self.bundle(found).await?)),
                    None => Err(Stop::Later(why)),
                }
            }
            Err(fatal) => Err(fatal),
        }
    }

    async fn bundle(&self, mut found: Secret) -> Result<Bundle, Stop> {
        found.metadata.namespace = Some(self.namespace.clone());
        let options = self.options.clone();
        let bundle = blocking(move || {
            let bundle = secret::read(&found, &options, SystemTime::now());
            secret::wipe(found);
            bundle
        });
        bundle.await
    }

    /// Reads the Secret and, with `may_renew`, renews its root if that is due. Returns the bundle
    /// to use from now on, if it differs from the current one.
    async fn look(&self, current: &Arc<Bundle>, may_renew: bool) -> Result<Option<Bundle>, Stop> {
        for _ in 0..ATTEMPTS {
            let Some(found) = in_time(self.api.get_opt(NAME)).await? else {
                // Restoring does not check for renewal; the next round does.
                return Ok(None);
            };
            let (options, bundle) = (self.options.clone(), Arc::clone(current));
            let looked = blocking(move || {
                let now = SystemTime::now();
                Ok(match secret::compare(&found, &bundle, &options, now)? {
                    Change::Adopted(bundle) => {
                        secret::wipe(found);
                        Looked::Adopt(bundle)
                    }
                    Change::None if !may_renew => {
                        secret::wipe(found);
                        Looked::Keep
                    }
                    Change::None => match secret::renew(found, &bundle, &options, now)? {
                        None => Looked::Keep,
                        Some((secret, bundle)) => Looked::Write(Box::new(secret), Box::new(bundle)),
                    },
                })
            });
            let (renewed, bundle) = match looked.await? {
                Looked::Keep => return Ok(None),
                Looked::Adopt(bundle) => return Ok(Some(*bundle)),
                Looked::Write(renewed, bundle) => (renewed, bundle),
            };
            // The resource version guards against concurrent writes.
            let params = PostParams::default();
            let written = in_time(self.api.replace(NAME, &params, &renewed)).await;
            secret::wipe(*renewed);
            match written {
                Ok(written) => {
                    secret::wipe(written);
                    return Ok(Some(*bundle));
                }
                // A conflict or a lost response: what is stored counts.
                Err(Stop::Later(why)) => {
                    tracing::info!(reason = why, "retrying the renewal of the root")
                }
                Err(fatal) => return Err(fatal),
            }
        }
        Err(Stop::Later(
            "too many conflicts during the renewal".to_owned(),
        ))
    }

    /// Restores the Secret of the current bundle.
    async fn restore(&self, current: &Arc<Bundle>) -> Result<(), Stop> {
        let secret = secret::restored(current);
        let created = in_time(self.api.create(&PostParams::default(), &secret)).await;
        secret::wipe(secret);
        match created {
            Ok(created) => secret::wipe(created),
            // Somebody else restored it; the watch reports its content.
            Err(stop) => match in_time(self.api.get_opt(NAME)).await? {
                Some(found) => {
                    secret::wipe(found);
                    return Ok(());
                }
                None => return Err(stop),
            },
        }
        tracing::warn!(
            place = self.place(),
            "the Secret was deleted; restored it with the current key"
        );
        Ok(())
    }
}

enum Looked {
    Keep,
    Adopt(Box<Bundle>),
    Write(Box<Secret>, Box<Bundle>),
}

async fn in_time<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Stop> {
    match tokio::time::timeout(LIMIT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Stop::Later(Failure::Silent.to_string())),
    }
}

/// Generating RSA keys takes long.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Stop> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(Stop::Later(error.to_string())),
    }
}

/// Dependencies of [`keep`].
pub(crate) struct Keeper {
    pub(crate) secret: RootSecret,
    pub(crate) authority: Arc<Authority>,
    pub(crate) seen: watch::Receiver<Seen<WatchedSecret>>,
    pub(crate) leadership: Leadership,
    pub(crate) metrics: Metrics,
}

/// Follows the Secret, renews its root at `ticks` and restores it, until the drain begins.
pub(crate) async fn keep(
    keeper: Keeper,
    mut ticks: futures::stream::BoxStream<'static, ()>,
    drain: drain::Watch,
) {
    let Keeper {
        secret,
        authority,
        mut seen,
        mut leadership,
        metrics,
    } = keeper;
    let mut backoff = Backoff::new(secret.pauses.0, secret.pauses.1);
    let mut retry: Option<Instant> = None;
    let end = drain.signaled();
    tokio::pin!(end);
    loop {
        let is_absent = matches!(*seen.borrow(), Seen::Absent);
        let is_leader = leadership.is_held();
        let mut is_tick = false;
        tokio::select! {
            () = &mut end => return,
            changed = seen.changed() => if changed.is_err() { return },
            // Only the leader restores: a process with an outdated root must not.
            () = leadership.gained(), if is_absent && !is_leader => {}
            () = at(retry), if retry.is_some() => is_tick = true,
            tick = futures::StreamExt::next(&mut ticks) => {
                // When the ticks have ended the other events still count.
                if tick.is_none() {
                    ticks = Box::pin(futures::stream::pending());
                    continue;
                }
                is_tick = true;
            }
        }
        retry = None;
        let state = seen.borrow_and_update().clone();
        let current = authority.bundle();
        let result = match state {
            Seen::Absent if leadership.is_held() => secret.restore(&current).await.map(|()| None),
            Seen::Present(found) if !is_tick => {
                if secret::is_of(&found.0, &current) {
                    continue;
                }
                // The watch may lag behind this process's own writes.
                secret.look(&current, false).await
            }
            Seen::Present(_) | Seen::Unknown if is_tick => secret.look(&current, true).await,
            _ => continue,
        };
        match result {
            Ok(None) => backoff.reset(),
            Ok(Some(bundle)) => {
                backoff.reset();
                metrics.reloads.with_label_values(&["success"]).inc();
                tracing::info!(
                    subject = bundle.subject(),
                    serial = bundle.serial(),
                    "certificate authority replaced"
                );
                authority.replace(bundle);
            }
            Err(stop) => {
                metrics.reloads.with_label_values(&["failure"]).inc();
                let error = match stop {
                    Stop::Later(why) => {
                        retry = Some(Instant::now() + backoff.next());
                        format!("{}: {why}", secret.place())
                    }
                    // Nothing to do until the Secret changes.
                    Stop::Fatal(error) => error.to_string(),
                };
                tracing::error!(
                    error,
                    "cannot replace the certificate authority, the old one stays in use"
                );
            }
        }
    }
}
