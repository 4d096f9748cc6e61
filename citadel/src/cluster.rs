//! Citadel's duties in a Kubernetes cluster, apart from signing.
//!
//! ```text
//!                  ┌─ accounts ──► authenticate::Accounts, UIDs of the control plane's accounts
//! API server ◄─────┼─ root ──────► the authority (Secret istio-ca-secret, watched by every replica)
//!                  └─ lease ─────► the leader's duties:
//!                                  roots (ConfigMaps), security (ConfigMap of 1.1),
//!                                  control_plane (Secrets)
//! ```
//!
//! Signing continues while the API server is unreachable, with the last known state.

mod accounts;
mod config_map;
mod control_plane;
mod root;
mod roots;
mod security;
mod single;
mod trouble;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use mesh_common::args::KubeArgs;
use mesh_common::kubeclient::{self, Client};
use mesh_common::lease::{self, Leadership};
use mesh_common::list_watch;
use mesh_common::owner::Owner;
use mesh_common::readiness::Gate;
use mesh_common::tasks::Tasks;
use tokio::sync::watch;

use crate::authenticate::{Accounts, Reviewer};
use crate::ca::Authority;
use crate::control_plane::{COMPONENTS, Profile, service_account};
use crate::metrics::Metrics;
pub(crate) use accounts::Owners;
pub(crate) use root::RootSecret;
use single::Seen;
use trouble::Trouble;

/// Name of the Lease of the leader election, as Istio has it.
const LEASE: &str = "istio-namespace-controller-election";

/// Timing parameters; tests use values other than the defaults.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Lists and watches.
    pub lists: list_watch::Timing,
    /// Leader election.
    pub lease: lease::Timing,
    /// First and longest delay after failed writes.
    pub pauses: (Duration, Duration),
    /// Time limit of a token review; shorter than that of a call.
    pub review: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lists: list_watch::Timing::default(),
            lease: lease::Timing::default(),
            pauses: (Duration::from_millis(500), Duration::from_secs(60)),
            review: Duration::from_secs(8),
        }
    }
}

/// Access to the cluster.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    api: list_watch::Api,
    /// Namespace of the control plane.
    namespace: String,
    /// Owner of the objects that citadel creates.
    owner: Owner,
    timing: Timing,
    metrics: Metrics,
}

/// Duties of the leader.
pub(crate) struct Duties {
    pub(crate) authority: Arc<Authority>,
    /// Name of the ConfigMap with the root certificates.
    pub(crate) root_map: String,
    /// Profile of the control plane's certificates, if they are kept as Secrets, and the accounts
    /// that own these.
    pub(crate) secrets: Option<(Arc<Profile>, watch::Receiver<Owners>)>,
}

impl Cluster {
    /// Reads the credentials; connects later.
    pub(crate) async fn new(
        args: &KubeArgs,
        namespace: &str,
        owner: Owner,
        timing: Timing,
        metrics: Metrics,
    ) -> Result<Self> {
        let config = kubeclient::config(args, "citadel").await?;
        tracing::info!(server = %config.cluster_url, "using a Kubernetes cluster");
        let client = kubeclient::client(config)?;
        Ok(Self {
            api: list_watch::Api::new(client.clone(), timing.lists, metrics.lists.clone()),
            client,
            namespace: namespace.to_owned(),
            owner,
            timing,
            metrics,
        })
    }

    /// Authenticator that checks tokens with the API server.
    pub(crate) fn reviewer(&self, audiences: Vec<String>) -> Reviewer {
        let seconds = self.metrics.reviews.clone();
        Reviewer::new(self.client.clone(), audiences, self.timing.review, seconds)
    }

    /// Follows the ServiceAccounts until the drain begins. `gate` opens when all are known.
    pub(crate) fn follow_accounts(
        &self,
        gate: Option<Gate>,
        tasks: &Tasks,
    ) -> (Arc<Accounts>, watch::Receiver<Owners>) {
        let accounts = Arc::new(Accounts::default());
        let names = COMPONENTS.map(service_account).into();
        let (writer, owners) =
            accounts::Writer::new(Arc::clone(&accounts), self.namespace.clone(), names, gate);
        tasks.keep_until_drain("accounts", writer.run(self.api.clone()));
        (accounts, owners)
    }

    /// The Secret of the self-signed authority.
    pub(crate) fn root_secret(&self, options: crate::store::self_signed::Options) -> RootSecret {
        RootSecret::new(
            self.client.clone(),
            &self.namespace,
            options,
            self.timing.pauses,
        )
    }

    /// Keeps the authority and its Secret in step until the drain begins. Each of `ticks` checks
    /// whether the root is due for renewal.
    pub(crate) fn keep_root(
        &self,
        secret: RootSecret,
        authority: Arc<Authority>,
        leadership: Leadership,
        ticks: futures::stream::BoxStream<'static, ()>,
        tasks: &Tasks,
    ) {
        let (sender, seen) = watch::channel(Seen::Unknown);
        let target = single::target(&self.namespace, "secrets", crate::store::secret::NAME);
        let trouble = Trouble::new(secret.place());
        tasks.keep_until_drain(
            "root secret",
            single::follow(self.api.clone(), target, trouble, sender),
        );
        let keeper = root::Keeper {
            secret,
            authority,
            seen,
            leadership,
            metrics: self.metrics.clone(),
        };
        tasks.keep("root", root::keep(keeper, ticks, tasks.drain().clone()));
    }

    /// Takes part in the leader election, under the name of this process, until the drain begins.
    pub(crate) fn elect(&self, pod: &str, tasks: &Tasks) -> Leadership {
        let (announce, leadership) = lease::channel();
        let settings = lease::Settings {
            namespace: self.namespace.clone(),
            name: LEASE.to_owned(),
            // Two processes with the same Pod name must not share a Lease.
            identity: format!("{pod}_{:016x}", rand::random::<u64>()),
            owner: self.owner.clone(),
            timing: self.timing.lease,
        };
        let drain = tasks.drain().clone();
        tasks.keep(
            "election",
            lease::keep(self.client.clone(), settings, announce, drain),
        );
        leadership
    }

    /// Performs the leader's duties whenever this process is the leader, until the drain begins.
    pub(crate) fn lead(&self, duties: Duties, mut leadership: Leadership, tasks: &Tasks) {
        let roots = roots::Options {
            client: self.client.clone(),
            api: self.api.clone(),
            name: duties.root_map,
            authority: Arc::clone(&duties.authority),
            owner: self.owner.clone(),
            errors: self.metrics.root_map_errors.clone(),
            pauses: self.timing.pauses,
        };
        let control_plane = duties
            .secrets
            .map(|(profile, owners)| control_plane::Options {
                client: self.client.clone(),
                api: self.api.clone(),
                profile,
                authority: Arc::clone(&duties.authority),
                owners,
                metrics: self.metrics.clone(),
                pauses: self.timing.pauses,
            });
        let namespace = self.namespace.clone();
        tasks.keep_until_drain::<()>("duties", async move {
            loop {
                leadership.gained().await;
                let all = async {
                    let security = security::run(
                        roots.client.clone(),
                        &namespace,
                        Arc::clone(&duties.authority),
                        roots.owner.clone(),
                        roots.errors.clone(),
                        roots.pauses,
                    );
                    let control_plane = async {
                        if let Some(options) = control_plane.clone() {
                            control_plane::run(options).await;
                        }
                    };
                    tokio::join!(roots::run(roots.clone()), security, control_plane)
                };
                tokio::select! {
                    () = leadership.lost() => {}
                    _ = all => {}
                }
            }
        });
    }
}

/// Completes at `time`; never if there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
