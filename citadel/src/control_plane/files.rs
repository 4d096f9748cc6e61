//! The certificates as files that are renewed in place.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use mesh_common::backoff::Backoff;
use mesh_common::drain;
use mesh_common::readiness::Gate;

use super::{COMPONENTS, Profile};
use crate::ca::{Authority, Issued};
use crate::metrics::{self, Metrics};
use crate::store::atomic;

/// Directory and profile.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) dir: PathBuf,
    pub(crate) profile: Profile,
}

/// Issues and writes all certificates once. Returns when they are due for renewal.
fn write_all(
    authority: &Authority,
    options: &Options,
    metrics: &Metrics,
    now: SystemTime,
) -> anyhow::Result<Duration> {
    let mut next = Duration::MAX;
    for component in COMPONENTS {
        let written = write_one(authority, options, component, now);
        metrics.control_plane_written(component, written.is_ok());
        let issued =
            written.with_context(|| format!("cannot write the certificate of {component}"))?;
        tracing::info!(component, serial = %issued.leaf.serial, "control-plane certificate written");
        next = next.min(metrics::half_life(issued.leaf.not_after, now));
    }
    let root = options.dir.join("root-cert.pem");
    atomic::replace(
        &root,
        authority.bundle().root_pem().as_bytes(),
        atomic::PUBLIC,
    )
    .with_context(|| format!("cannot write {}", root.display()))?;
    Ok(next)
}

fn write_one(
    authority: &Authority,
    options: &Options,
    component: &str,
    now: SystemTime,
) -> anyhow::Result<Issued> {
    let issued = options.profile.issue(authority, component, now)?;
    let dir = options.dir.join(component);
    publish(&dir, &issued).with_context(|| format!("cannot write {}", dir.display()))?;
    Ok(issued)
}

fn publish(dir: &Path, issued: &Issued) -> std::io::Result<()> {
    let chain = issued.chain_pem();
    atomic::publish(
        dir,
        &[
            ("cert-chain.pem", chain.as_bytes(), atomic::PUBLIC),
            ("key.pem", issued.key.as_bytes(), atomic::PRIVATE),
            (
                "root-cert.pem",
                issued.bundle.root_pem().as_bytes(),
                atomic::PUBLIC,
            ),
        ],
    )
}

/// Keeps the files current until the drain begins: renews them at half of their lifetime and after
/// each change of the authority. `gate` opens with the first complete set.
pub(crate) async fn run(
    authority: Arc<Authority>,
    options: Options,
    metrics: Metrics,
    gate: Gate,
    drain: drain::Watch,
) {
    let mut changes = authority.subscribe();
    let end = drain.signaled();
    tokio::pin!(end);
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    loop {
        changes.mark_unchanged();
        let (authority, options, metrics) =
            (Arc::clone(&authority), options.clone(), metrics.clone());
        let written = tokio::task::spawn_blocking(move || {
            write_all(&authority, &options, &metrics, SystemTime::now())
        })
        .await;
        let pause = match written {
            Ok(Ok(next)) => {
                gate.open();
                backoff.reset();
                // Random, so that processes do not reload together.
                next.mul_f64(rand::random_range(0.9..=1.0))
            }
            Ok(Err(error)) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "cannot write the control-plane certificates"
                );
                backoff.next()
            }
            Err(error) => {
                tracing::error!(error = %error, "cannot write the control-plane certificates");
                backoff.next()
            }
        };
        tokio::select! {
            () = &mut end => return,
            () = tokio::time::sleep(pause) => {}
            // An error means that the authority, and with it the process, has ended.
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}
