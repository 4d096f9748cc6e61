//! Leader election among replicas by a Lease of `coordination.k8s.io`.
//!
//! ```text
//! API server ◄── get, create, replace ── keep (a task) ──watch──► Leadership (asked before acting)
//!                                           │
//!                                        Election: whether to claim, until when it is ours
//! ```
//!
//! Not the crate `kube-lease-manager`: it takes an expired Lease by a patch that no version guards,
//! and compares clocks of different machines. Here every write names the version that it replaces,
//! and the age of another process's claim is measured by our own clock.

mod election;

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use tokio::sync::watch;

use crate::drain;
use crate::kubeclient::Client;
use crate::owner::Owner;
use election::Election;
use mesh_core::rate::LogLimit;

/// Timing of an election; only tests change the defaults.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long a claim that is not renewed keeps others away. Whole seconds.
    pub duration: Duration,
    /// How long the holder relies on a claim after requesting it; less than `duration`.
    pub certain: Duration,
    /// Interval between two looks at the Lease.
    pub period: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            certain: Duration::from_secs(10),
            period: Duration::from_secs(3),
        }
    }
}

/// The Lease, and who claims it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Name of this process, unique among all replicas.
    pub identity: String,
    /// Owner of the Lease, if this process creates it.
    pub owner: Owner,
    /// Timing.
    pub timing: Timing,
}

/// Whether this process is the leader; not before [`keep`] announces it.
#[derive(Debug, Clone)]
pub struct Leadership(watch::Receiver<Option<Instant>>);

/// Announces leadership on behalf of [`keep`].
#[derive(Debug)]
pub struct Announce(watch::Sender<Option<Instant>>);

#[cfg(feature = "testing")]
impl Announce {
    /// Announces until when the Lease is held, in place of [`keep`].
    pub fn say(&self, until: Option<Instant>) {
        self.0.send_replace(until);
    }
}

/// A connected pair.
#[must_use]
pub fn channel() -> (Announce, Leadership) {
    let (announce, leadership) = watch::channel(None);
    (Announce(announce), Leadership(leadership))
}

impl Leadership {
    /// Whether this process is the leader now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        // Without the task that renews it, the Lease counts as not held.
        let is_kept = self.0.has_changed().is_ok();
        is_kept && self.0.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Returns when leadership differs from `was_held`.
    pub async fn changed(&mut self, was_held: bool) {
        if was_held {
            self.lost().await;
        } else {
            self.gained().await;
        }
    }

    /// Returns when this process is the leader. Never returns if nothing renews the Lease any more.
    pub async fn gained(&mut self) {
        let is_held = |until: &Option<Instant>| until.is_some_and(|until| Instant::now() < until);
        let came = self.0.wait_for(is_held).await.is_ok();
        if !came || self.0.has_changed().is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns when this process is not the leader; at once if it is not now.
    pub async fn lost(&mut self) {
        loop {
            let until = *self.0.borrow_and_update();
            let Some(until) = until.filter(|until| Instant::now() < *until) else {
                return;
            };
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                changed = self.0.changed() => if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Takes part in the election until the process drains; then releases the Lease, so that another
/// process need not wait.
pub async fn keep(client: Client, settings: Settings, announce: Announce, drain: drain::Watch) {
    let mut keeper = Keeper {
        api: Api::namespaced(client.clone(), &settings.namespace),
        client,
        election: Election::new(settings.identity.clone(), settings.timing),
        announce: announce.0,
        settings,
        known: None,
        trouble: LogLimit::new(TROUBLE_INTERVAL, 1),
    };
    let signaled = drain.signaled();
    tokio::pin!(signaled);
    loop {
        tokio::select! {
            () = &mut signaled => break,
            () = keeper.round() => {}
        }
        tokio::select! {
            () = &mut signaled => break,
            () = tokio::time::sleep(keeper.settings.timing.period) => {}
        }
    }
    keeper.release().await;
}

/// Interval between two log messages about a Lease that cannot be renewed.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(60);
/// Time that a process waits for the API server when it ends.
const RELEASE: Duration = Duration::from_secs(1);

struct Keeper {
    client: Client,
    api: Api<Lease>,
    election: Election,
    announce: watch::Sender<Option<Instant>>,
    settings: Settings,
    /// As we last wrote it: until it changes, it need not be read before it is renewed.
    known: Option<Lease>,
    trouble: LogLimit,
}

impl Keeper {
    /// Reads the Lease at most once and writes it at most once.
    async fn round(&mut self) {
        let start = Instant::now();
        // A late response says nothing about the present.
        let result = tokio::time::timeout(self.settings.timing.certain, self.claim(start)).await;
        match result {
            Ok(Ok(Some(lease))) => {
                let was_held = self.announce.borrow().is_some();
                let until = self.election.won(start);
                self.announce.send_replace(Some(until));
                self.known = Some(lease);
                if !was_held {
                    tracing::info!(
                        lease = self.settings.name,
                        "this process has become the leader"
                    );
                }
            }
            Ok(Ok(None)) => self.lose(),
            Ok(Err(error)) => self.failed(&error.to_string()),
            Err(_) => self.failed("the API server does not answer"),
        }
        // Leadership that is no longer certain is lost, whether announced or not.
        if self
            .announce
            .borrow()
            .is_some_and(|until| until <= Instant::now())
        {
            self.lose();
        }
    }

    fn lose(&mut self) {
        self.known = None;
        if self.announce.send_replace(None).is_some() {
            tracing::info!(
                lease = self.settings.name,
                "this process is no longer the leader"
            );
        }
    }

    fn failed(&mut self, error: &str) {
        self.known = None;
        if let Some(left_out) = self.trouble.allow(Instant::now()) {
            let lease = format!("{}/{}", self.settings.namespace, self.settings.name);
            tracing::warn!(
                lease,
                left_out,
                "cannot renew the Lease: {error}; the ServiceAccount needs get, create and update \
                 of leases (coordination.k8s.io), and get of the ClusterRole that owns it, if any"
            );
        }
    }

    /// The Lease after our claim; `None` if another process holds it.
    async fn claim(&mut self, now: Instant) -> kube::Result<Option<Lease>> {
        if let Some(known) = self.known.take() {
            match self.write(Some(&known), now).await {
                // Another process wrote it first, which decides who holds it.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                other => return other,
            }
        }
        let found = self.api.get_opt(&self.settings.name).await?;
        self.write(found.as_ref(), now).await
    }

    async fn write(&mut self, found: Option<&Lease>, now: Instant) -> kube::Result<Option<Lease>> {
        let name = self.settings.name.clone();
        let Some(mut wanted) = self.election.look(found, now, Timestamp::now()) else {
            return Ok(None);
        };
        wanted.metadata.name = Some(name.clone());
        let params = PostParams::default();
        let written = match found {
            None => {
                wanted.metadata.owner_references =
                    self.settings.owner.references(&self.client).await?;
                self.api.create(&params, &wanted).await?
            }
            Some(_) => self.api.replace(&name, &params, &wanted).await?,
        };
        Ok(Some(written))
    }

    async fn release(&mut self) {
        if self.announce.send_replace(None).is_none() {
            return;
        }
        // If this fails, others wait until the claim expires.
        match tokio::time::timeout(RELEASE, self.let_go()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("cannot release the Lease: {error}"),
            Err(_) => tracing::debug!("cannot release the Lease in time"),
        }
    }

    async fn let_go(&self) -> kube::Result<()> {
        let (name, params) = (&self.settings.name, PostParams::default());
        loop {
            // The known state may be outdated: a claim may have been in flight.
            let found = self.api.get_opt(name).await?;
            let Some(released) = found.and_then(|lease| self.election.released(lease)) else {
                return Ok(());
            };
            match self.api.replace(name, &params, &released).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                other => return other.map(|_| ()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
