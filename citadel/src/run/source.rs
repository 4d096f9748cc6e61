//! The authority in files: opening and following it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use futures::stream::{BoxStream, StreamExt as _, pending};
use mesh_common::drain;
use mesh_common::fswatch::{self, Changes, WatchDied};

use crate::args::Args;
use crate::ca::{Authority, Bundle};
use crate::metrics::Metrics;
use crate::settings::Source;
use crate::store::StoreError;
use crate::store::plugged::Plugged;
use crate::store::self_signed::{Renewal, SelfSigned};

/// With --read-signing-cert-only: how often to look for the root, and for how long.
const WAIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(20 * 60));

/// How long provided files must stay unchanged before they are read.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// The initial bundle; with --read-signing-cert-only as soon as it exists.
pub(super) async fn open(source: &Arc<Source>, drain: &drain::Watch) -> Result<Bundle> {
    let end = tokio::time::Instant::now() + WAIT.1;
    loop {
        let source = Arc::clone(source);
        let opened = tokio::task::spawn_blocking(move || read(&source, SystemTime::now())).await?;
        if let Some(bundle) = opened? {
            return Ok(bundle);
        }
        if tokio::time::Instant::now() >= end {
            bail!(
                "no other process created a root within {} minutes",
                WAIT.1.as_secs() / 60
            );
        }
        tracing::info!("waiting for another process to create the root");
        tokio::select! {
            () = tokio::time::sleep(WAIT.0) => {}
            () = drain.signaled() => bail!("stopped while waiting for a root"),
        }
    }
}

/// The bundle, if it exists yet.
fn read(source: &Source, now: SystemTime) -> Result<Option<Bundle>, StoreError> {
    match source {
        Source::SelfSigned(store) => store.open(now),
        Source::Plugged(plugged) => plugged.load(now).map(Some),
        Source::Secret(_) => Err(StoreError::Refused(
            "a root in a Secret needs a cluster".to_owned(),
        )),
    }
}

/// Applies changes of the files to the authority, until the drain begins.
pub(super) async fn follow(
    source: Arc<Source>,
    authority: Arc<Authority>,
    args: Args,
    metrics: Metrics,
    drain: drain::Watch,
) -> Result<(), WatchDied> {
    let signal: BoxStream<'static, Result<(), WatchDied>> = match &*source {
        Source::SelfSigned(_) => ticks(&args).map(Ok).boxed(),
        // `cluster::root` follows it.
        Source::Secret(_) => return Ok(()),
        Source::Plugged(plugged) => {
            let changes = fswatch::watch(plugged.paths(), DEBOUNCE);
            let next = |mut changes: Changes| async { Some((changes.next().await, changes)) };
            futures::stream::unfold(changes, next).boxed()
        }
    };
    let mut signal = std::pin::pin!(signal);
    let end = drain.signaled();
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return Ok(()),
            next = signal.next() => match next {
                Some(change) => change?,
                None => return Ok(()),
            },
        }
        let (source, current) = (Arc::clone(&source), authority.bundle());
        let multi_root = args.authority.multi_root;
        let changed = tokio::task::spawn_blocking(move || match &*source {
            Source::SelfSigned(store) => renewed(store, &current),
            Source::Plugged(plugged) => reloaded(plugged, &current, multi_root),
            Source::Secret(_) => Ok(None),
        })
        .await;
        match changed
            .map_err(anyhow::Error::from)
            .and_then(|changed| changed)
        {
            Ok(None) => {}
            Ok(Some(bundle)) => {
                metrics.reloads.with_label_values(&["success"]).inc();
                tracing::info!(
                    subject = bundle.subject(),
                    serial = bundle.serial(),
                    "certificate authority replaced"
                );
                authority.replace(bundle);
            }
            Err(error) => {
                metrics.reloads.with_label_values(&["failure"]).inc();
                tracing::error!(
                    error = format!("{error:#}"),
                    "cannot replace the certificate authority, the old one stays in use"
                );
            }
        }
    }
}

fn renewed(store: &SelfSigned, current: &Bundle) -> Result<Option<Bundle>> {
    Ok(match store.renew_if_due(current, SystemTime::now())? {
        Renewal::NotDue => None,
        Renewal::Adopted(bundle) | Renewal::Renewed(bundle) => Some(bundle),
    })
}

fn reloaded(plugged: &Plugged, current: &Bundle, multi_root: bool) -> Result<Option<Bundle>> {
    Ok(plugged.reload(current, multi_root, SystemTime::now())?)
}

/// Times at which the remaining lifetime of the self-signed root is checked.
pub(super) fn ticks(args: &Args) -> BoxStream<'static, ()> {
    let period = args.authority.root_cert_check_interval;
    if period.is_zero() {
        return Box::pin(pending());
    }
    let jitter = if args.authority.root_cert_check_jitter {
        Duration::from_secs(rand::random_range(0..=period.as_secs()))
    } else {
        Duration::ZERO
    };
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + jitter, period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    Box::pin(futures::stream::unfold(interval, |mut interval| async {
        interval.tick().await;
        Some(((), interval))
    }))
}
