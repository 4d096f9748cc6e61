//! The certificates of the control plane as Secrets. Each is watched by name, so that citadel needs
//! no access to other Secrets. The decisions are in `control_plane::secret`.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use mesh_common::backoff::Backoff;
use mesh_common::kubeclient::Client;
use mesh_common::list_watch::{self, Failure};
use tokio::sync::watch;

use super::accounts::Owners;
use super::single::{self, Seen, WatchedSecret};
use super::trouble::Trouble;
use crate::ca::Authority;
use crate::control_plane::secret::{self, Fault, Wanted};
use crate::control_plane::{COMPONENTS, Profile, service_account};
use crate::metrics::Metrics;

/// Time limit of all requests for one Secret.
const LIMIT: Duration = Duration::from_secs(20);

/// Minimum time between two writes of a Secret, so that a conflict with another writer stays cheap.
const REST: Duration = Duration::from_secs(1);

/// Dependencies of the task.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) client: Client,
    pub(crate) api: list_watch::Api,
    pub(crate) profile: Arc<Profile>,
    pub(crate) authority: Arc<Authority>,
    /// Existing ServiceAccounts.
    pub(crate) owners: watch::Receiver<Owners>,
    pub(crate) metrics: Metrics,
    /// First and longest delay after failures.
    pub(crate) pauses: (Duration, Duration),
}

/// Maintains the Secrets until it is dropped.
pub(crate) async fn run(options: Options) {
    let all = COMPONENTS.map(|component| {
        let options = options.clone();
        async move {
            let (sender, seen) = watch::channel(Seen::Unknown);
            let name = secret::name(component);
            let namespace = &options.profile.namespace;
            let target = single::target(namespace, "secrets", &name);
            let trouble = Trouble::new(format!("Secret {namespace}/{name}"));
            let follow = single::follow(options.api.clone(), target, trouble, sender);
            tokio::select! {
                () = follow => {}
                () = keep(&options, component, seen) => {}
            }
        }
    });
    futures::future::join_all(all).await;
}

/// What to wait for after a check.
enum Next {
    /// A change.
    Wait,
    /// A change, or the end of this time.
    Sleep(Duration),
}

/// Result of a write.
enum Written {
    /// The Secret was valid already.
    Good(Next),
    /// A new certificate was written.
    New(Next),
}

async fn keep(
    options: &Options,
    component: &'static str,
    mut seen: watch::Receiver<Seen<WatchedSecret>>,
) {
    let mut owners = options.owners.clone();
    let mut changes = options.authority.subscribe();
    let mut backoff = Backoff::new(options.pauses.0, options.pauses.1);
    let mut rests_until = Instant::now();
    loop {
        changes.mark_unchanged();
        let owner = owners
            .borrow_and_update()
            .get(&service_account(component))
            .cloned();
        let state = seen.borrow_and_update().clone();
        let found = match (&owner, &state) {
            // The chart of the component is not installed, or the Secret is not known yet.
            (None, _) | (_, Seen::Unknown) => None,
            (Some(owner), Seen::Absent) => Some((owner, None)),
            (Some(owner), Seen::Present(found)) => Some((owner, Some(&found.0))),
        };
        let next = match found {
            None => Next::Wait,
            Some((owner, found)) => match judge(options, component, owner, found) {
                Ok(next) => next,
                Err(_) if Instant::now() < rests_until => {
                    Next::Sleep(rests_until.saturating_duration_since(Instant::now()))
                }
                Err(why) => {
                    rests_until = Instant::now() + REST;
                    let written = write(options, component, owner).await;
                    match written {
                        Ok(Written::Good(next)) => next,
                        Ok(Written::New(next)) => {
                            options.metrics.control_plane_written(component, true);
                            tracing::info!(component, why, "control-plane certificate written");
                            backoff.reset();
                            next
                        }
                        Err(error) => {
                            options.metrics.control_plane_written(component, false);
                            tracing::error!(
                                component,
                                error = format!("{error:#}"),
                                "cannot write the control-plane certificate"
                            );
                            Next::Sleep(backoff.next())
                        }
                    }
                }
            },
        };
        let pause = async {
            match next {
                Next::Wait => std::future::pending().await,
                Next::Sleep(time) => tokio::time::sleep(time).await,
            }
        };
        tokio::select! {
            () = pause => {}
            Ok(()) = owners.changed() => {}
            Ok(()) = changes.changed() => {}
            changed = seen.changed() => if changed.is_err() { return },
        }
    }
}

/// Decides about a Secret; an error is the reason to write it.
fn judge(
    options: &Options,
    component: &'static str,
    owner: &str,
    found: Option<&Secret>,
) -> Result<Next, &'static str> {
    let Some(found) = found else {
        return Err("the Secret does not exist");
    };
    let Ok(identity) = options.profile.identity(component) else {
        return Ok(Next::Wait);
    };
    let dns = options.profile.names_of(component);
    let bundle = options.authority.bundle();
    let wanted = Wanted {
        component,
        owner,
        identity: &identity,
        dns: &dns,
        bundle: &bundle,
    };
    let now = SystemTime::now();
    match secret::check(found, &wanted, now) {
        Ok(until) => {
            let left = until.duration_since(now).unwrap_or_default();
            // Random, so that processes do not reload together.
            Ok(Next::Sleep(
                left.mul_f64(rand::random_range(0.9..=1.0)) + REST,
            ))
        }
        Err(Fault::Foreign) => {
            let name = secret::name(component);
            tracing::warn!(name, "the Secret has another type and is left unchanged");
            Ok(Next::Wait)
        }
        Err(Fault::Outdated(why)) => Err(why),
    }
}

/// Writes the Secret unless it is valid by now.
async fn write(options: &Options, component: &'static str, owner: &str) -> anyhow::Result<Written> {
    let written = tokio::time::timeout(LIMIT, write_now(options, component, owner)).await;
    written.context("the API server does not answer")?
}

async fn write_now(
    options: &Options,
    component: &'static str,
    owner: &str,
) -> anyhow::Result<Written> {
    let name = secret::name(component);
    let api: Api<Secret> = Api::namespaced(options.client.clone(), &options.profile.namespace);
    let found = api.get_opt(&name).await.map_err(explained)?;
    if let Ok(next) = judge(options, component, owner, found.as_ref()) {
        return Ok(Written::Good(next));
    }
    let is_new = found.is_none();
    let (profile, authority) = (Arc::clone(&options.profile), Arc::clone(&options.authority));
    let owner = owner.to_owned();
    let (made, until) = tokio::task::spawn_blocking(move || {
        let now = SystemTime::now();
        let issued = profile.issue(&authority, component, now)?;
        let wanted = Wanted {
            component,
            owner: &owner,
            identity: &profile.identity(component)?,
            dns: &profile.names_of(component),
            bundle: &issued.bundle,
        };
        let made = secret::content(found, &wanted, &issued);
        let half = crate::metrics::half_life(issued.leaf.not_after, now);
        anyhow::Ok((made, half))
    })
    .await??;
    // The resource version guards against concurrent writes.
    let params = PostParams::default();
    let written = if is_new {
        api.create(&params, &made).await
    } else {
        api.replace(&name, &params, &made).await
    };
    crate::store::secret::wipe(made);
    crate::store::secret::wipe(written.map_err(explained)?);
    Ok(Written::New(Next::Sleep(until)))
}

fn explained(error: kube::Error) -> anyhow::Error {
    match &error {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => anyhow::anyhow!(
            "the API server refuses access ({}): {}; the ServiceAccount needs the verbs get, \
             list, watch, create and update on this Secret",
            status.code,
            status.message
        ),
        _ => Failure::from(error).into(),
    }
}
