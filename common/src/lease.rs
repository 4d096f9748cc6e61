//! Which one of several replicas acts: leader election by a Lease of `coordination.k8s.io`.
//!
//! ```text
//! API server ◄── get, create, replace ── keep (a task) ──watch──► Leadership (who acts asks it)
//!                                           │
//!                                        Election: whether to claim, until when it is ours
//! ```
//!
//! Own code, because the crate for it (`kube-lease-manager`) takes an expired lease by a patch
//! that no version guards, and compares clocks of different machines. Here every write names the
//! version that it replaces, and the age of somebody else's claim is measured by our own clock.

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

/// The times of an election; others than the defaults are for tests.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long a claim that is not renewed keeps others away. Whole seconds.
    pub duration: Duration,
    /// How long the holder acts on a claim after it asked for it; less than `duration`.
    pub certain: Duration,
    /// Between two looks.
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

/// What is claimed, and by whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Name of this process, unlike that of every other one.
    pub identity: String,
    /// Who owns the Lease, if this process makes it.
    pub owner: Owner,
    /// Times.
    pub timing: Timing,
}

/// Whether this process is the leader. It is not before [`keep`] says so.
#[derive(Debug, Clone)]
pub struct Leadership(watch::Receiver<Option<Instant>>);

/// Where [`keep`] says who leads.
#[derive(Debug)]
pub struct Announce(watch::Sender<Option<Instant>>);

#[cfg(feature = "testing")]
impl Announce {
    /// Says until when the lease is held, in place of [`keep`].
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
    /// Whether it leads at this moment.
    #[must_use]
    pub fn is_held(&self) -> bool {
        // What nobody keeps is not held.
        let is_kept = self.0.has_changed().is_ok();
        is_kept && self.0.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Returns when it leads, if it did not, or does not lead any more, if it did.
    pub async fn changed(&mut self, was_held: bool) {
        if was_held {
            self.lost().await;
        } else {
            self.gained().await;
        }
    }

    /// Returns when it leads. Never, if nobody keeps the lease any more.
    pub async fn gained(&mut self) {
        let is_held = |until: &Option<Instant>| until.is_some_and(|until| Instant::now() < until);
        let came = self.0.wait_for(is_held).await.is_ok();
        if !came || self.0.has_changed().is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns when it does not lead; at once if it does not now.
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

/// Takes part in the election until the process drains; then lets go, so that another one need
/// not wait.
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

/// Between two log lines about a lease that cannot be kept.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(60);
/// A process that ends does not wait longer for the API server.
const RELEASE: Duration = Duration::from_secs(1);

struct Keeper {
    client: Client,
    api: Api<Lease>,
    election: Election,
    announce: watch::Sender<Option<Instant>>,
    settings: Settings,
    /// As we wrote it last: as long as it is so it need not be read before it is renewed.
    known: Option<Lease>,
    trouble: LogLimit,
}

impl Keeper {
    /// One look and at most one write.
    async fn round(&mut self) {
        let start = Instant::now();
        // An answer that is late says nothing about now.
        let result = tokio::time::timeout(self.settings.timing.certain, self.claim(start)).await;
        match result {
            Ok(Ok(Some(lease))) => {
                let was_held = self.announce.borrow().is_some();
                let until = self.election.won(start);
                self.announce.send_replace(Some(until));
                self.known = Some(lease);
                if !was_held {
                    tracing::info!(lease = self.settings.name, "this process leads");
                }
            }
            Ok(Ok(None)) => self.lose(),
            Ok(Err(error)) => self.failed(&error.to_string()),
            Err(_) => self.failed("the API server does not answer"),
        }
        // Announced or not, what is not certain any more is lost.
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
            tracing::info!(lease = self.settings.name, "this process leads no more");
        }
    }

    fn failed(&mut self, error: &str) {
        self.known = None;
        if let Some(left_out) = self.trouble.allow(Instant::now()) {
            let lease = format!("{}/{}", self.settings.namespace, self.settings.name);
            tracing::warn!(
                lease,
                left_out,
                "the lease cannot be kept: {error}; the account needs get, create and update of \
                 leases (coordination.k8s.io), and get of the ClusterRole that owns it, if one does"
            );
        }
    }

    /// The lease as it is after our claim; `None` if it is somebody else's.
    async fn claim(&mut self, now: Instant) -> kube::Result<Option<Lease>> {
        if let Some(known) = self.known.take() {
            match self.write(Some(&known), now).await {
                // Somebody else wrote it: that decides whose it is.
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
        // Others wait for the end of the claim if this fails.
        match tokio::time::timeout(RELEASE, self.let_go()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("the lease is not released: {error}"),
            Err(_) => tracing::debug!("the lease is not released in time"),
        }
    }

    async fn let_go(&self) -> kube::Result<()> {
        let (name, params) = (&self.settings.name, PostParams::default());
        loop {
            // What is known may be out of date: a claim may have been on its way.
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
