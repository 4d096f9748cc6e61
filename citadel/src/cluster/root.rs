//! The self-signed authority in its Secret: opened, followed, renewed, and put back when somebody
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

/// How long a start waits for a root, or for the API server.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// For one request.
const LIMIT: Duration = Duration::from_secs(10);

/// How often a renewal that somebody else disturbs is begun anew.
const ATTEMPTS: u32 = 5;

/// The Secret.
#[derive(Clone)]
pub(crate) struct RootSecret {
    api: Api<Secret>,
    namespace: String,
    options: Options,
    /// Between attempts: first and longest.
    pauses: (Duration, Duration),
}

/// Why a request did not do what it should.
enum Stop {
    /// It may work later.
    Later(String),
    /// It never will.
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
                "the API server refuses it ({}): {}; the account needs get, list, watch, create \
                 and update of this Secret",
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

    /// What it is called in texts for people.
    pub(crate) fn place(&self) -> String {
        format!("Secret {}/{NAME}", self.namespace)
    }

    /// The bundle in the Secret, which is made if there is none. While the API server does not
    /// answer it is asked again.
    pub(crate) async fn open(&self, drain: &drain::Watch) -> Result<Bundle> {
        let mut backoff = Backoff::new(self.pauses.0, self.pauses.1);
        let end = Instant::now() + PATIENCE;
        let place = self.place();
        loop {
            let waiting_for = match self.get_or_create().await {
                Ok(Some(bundle)) => return Ok(bundle),
                Ok(None) => "no other citadel has made it yet".to_owned(),
                Err(Stop::Later(why)) => why,
                Err(Stop::Fatal(error)) => return Err(error.into()),
            };
            if Instant::now() >= end {
                bail!("{place}: {waiting_for}");
            }
            tracing::warn!("waiting for {place}: {waiting_for}");
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = drain.signaled() => bail!("stopped while waiting for {place}"),
            }
        }
    }

    /// `None`: there is none, and this process may not make one.
    async fn get_or_create(&self) -> Result<Option<Bundle>, Stop> {
        if let Some(found) = in_time(self.api.get_opt(NAME)).await? {
            return Ok(Some(self.bundle(found).await?));
        }
        if self.options.read_only {
            return Ok(None);
        }
        let options = self.options.clone();
        let made = blocking(move || secret::make(&options, SystemTime::now())).await?;
        // The key counts, and is used, only when the server has it.
        let created = in_time(self.api.create(&PostParams::default(), &made)).await;
        secret::wipe(made);
        match created {
            Ok(created) => {
                let trust_domain = &self.options.trust_domain;
                tracing::info!(place = self.place(), %trust_domain, "new self-signed root");
                Ok(Some(self.bundle(created).await?))
            }
            Err(Stop::Later(why)) => {
                // Another one was faster, or the answer was lost: what the server has counts.
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

    /// Reads the Secret and renews its root if it is near its end and `may_renew`. The bundle to use
    /// from now on, if it is another one.
    async fn look(&self, current: &Arc<Bundle>, may_renew: bool) -> Result<Option<Bundle>, Stop> {
        for _ in 0..ATTEMPTS {
            let Some(found) = in_time(self.api.get_opt(NAME)).await? else {
                // Whoever restores it does not look at its end; the next round does.
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
            // The version that was read guards the write.
            let params = PostParams::default();
            let written = in_time(self.api.replace(NAME, &params, &renewed)).await;
            secret::wipe(*renewed);
            match written {
                Ok(written) => {
                    secret::wipe(written);
                    return Ok(Some(*bundle));
                }
                // Conflict, or a lost answer: what the server has counts.
                Err(Stop::Later(why)) => tracing::info!("renewal begins anew: {why}"),
                Err(fatal) => return Err(fatal),
            }
        }
        Err(Stop::Later(
            "the renewal was disturbed again and again".to_owned(),
        ))
    }

    /// Puts the bundle in use back.
    async fn restore(&self, current: &Arc<Bundle>) -> Result<(), Stop> {
        let secret = secret::restored(current);
        let created = in_time(self.api.create(&PostParams::default(), &secret)).await;
        secret::wipe(secret);
        match created {
            Ok(created) => secret::wipe(created),
            // It was there again already: the watch tells what is in it.
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
            "deleted by somebody, and restored with the key in use"
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

/// RSA takes its time.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Stop> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(Stop::Later(error.to_string())),
    }
}

/// What [`keep`] works with.
pub(crate) struct Keeper {
    pub(crate) secret: RootSecret,
    pub(crate) authority: Arc<Authority>,
    pub(crate) seen: watch::Receiver<Seen<WatchedSecret>>,
    pub(crate) leadership: Leadership,
    pub(crate) metrics: Metrics,
}

/// Follows the Secret, renews it at `ticks` and restores it, until the drain begins.
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
            // Only the leader restores: one with an old root must not.
            () = leadership.gained(), if is_absent && !is_leader => {}
            () = at(retry), if retry.is_some() => is_tick = true,
            tick = futures::StreamExt::next(&mut ticks) => {
                // Ticks that have ended leave the other events.
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
                // The watch may be behind what this process wrote itself.
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
                    // Nothing changes before the Secret does.
                    Stop::Fatal(error) => error.to_string(),
                };
                tracing::error!(
                    error,
                    "certificate authority not replaced, the old one stays in use"
                );
            }
        }
    }
}
