//! What citadel does in a cluster of Kubernetes, beside signing.
//!
//! ```text
//!                  ┌─ accounts ──► authenticate::Accounts, UIDs of the control plane's accounts
//! API server ◄─────┼─ root ──────► the authority (Secret istio-ca-secret, watched by every replica)
//!                  └─ lease ─────► the holder has duties:
//!                                  roots (ConfigMaps), security (ConfigMap of 1.1),
//!                                  control_plane (Secrets)
//! ```
//!
//! Signing goes on while the API server is away: what was known last counts.

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

/// The Lease whose holder writes, under Istio's name for it.
const LEASE: &str = "istio-namespace-controller-election";

/// The times that matter in a cluster; others than the defaults are for tests.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Of lists and watches.
    pub lists: list_watch::Timing,
    /// Of the election.
    pub lease: lease::Timing,
    /// After failed writes: the first pause and the longest.
    pub pauses: (Duration, Duration),
    /// For one token review; shorter than a call may take.
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

/// The cluster.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    api: list_watch::Api,
    /// Namespace of the control plane.
    namespace: String,
    /// Owner of what is made.
    owner: Owner,
    timing: Timing,
    metrics: Metrics,
}

/// What the holder of the Lease keeps.
pub(crate) struct Duties {
    pub(crate) authority: Arc<Authority>,
    /// Name of the ConfigMap with the roots.
    pub(crate) root_map: String,
    /// Certificates of the control plane, if they are wanted as Secrets, and the accounts that own
    /// them.
    pub(crate) secrets: Option<(Arc<Profile>, watch::Receiver<Owners>)>,
}

impl Cluster {
    /// Reads the credentials. Nothing is connected yet.
    pub(crate) async fn new(
        args: &KubeArgs,
        namespace: &str,
        owner: Owner,
        timing: Timing,
        metrics: Metrics,
    ) -> Result<Self> {
        let config = kubeclient::config(args, "citadel").await?;
        tracing::info!(server = %config.cluster_url, "with a cluster");
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

    /// The authenticator of tokens.
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

    /// Keeps the authority as its Secret is, and the Secret as the authority is, until the drain
    /// begins. At `ticks` the end of the root is looked at.
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

    /// Takes part in the election, under the name of this process, until the drain begins.
    pub(crate) fn elect(&self, pod: &str, tasks: &Tasks) -> Leadership {
        let (announce, leadership) = lease::channel();
        let settings = lease::Settings {
            namespace: self.namespace.clone(),
            name: LEASE.to_owned(),
            // Two processes of one name are two.
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

    /// Does the duties of the holder of the Lease whenever this process is that, until the drain
    /// begins.
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

/// Returns at this time; never without one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
