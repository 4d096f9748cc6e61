//! Statuses: the tasks around the writer.

use std::time::Duration;

use axum::Router;
use mesh_common::drain;
use mesh_common::kubeclient::Client;
use mesh_common::lease;
use mesh_common::mcp::source::Snapshots;
use mesh_common::metrics::Registry;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::args::ServerArgs;
use crate::env;
use crate::state::Task;
use crate::status::{self, Analysis, Inputs, Metrics, Target, Writer};

/// Observations on their way: as many batches as the state takes of the source.
const OBSERVATIONS: usize = 4;
/// The Lease, in the namespace of galley, whose holder writes.
const LEASE: &str = "istio-status-leader";

/// The times that matter; others than the defaults are for tests.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// From the start of one analysis to the start of the next, at least.
    pub analysis: Duration,
    /// Of the election.
    pub lease: lease::Timing,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            analysis: Duration::from_secs(5),
            lease: lease::Timing::default(),
        }
    }
}

/// What statuses are made from, and where they are written.
pub(super) struct Parts<'a> {
    pub(super) args: &'a ServerArgs,
    pub(super) timing: Timing,
    /// Without it nothing is written: configuration is in files.
    pub(super) client: Option<Client>,
    pub(super) snapshots: Snapshots,
    pub(super) registry: &'a Registry,
}

/// Starts the tasks, if statuses are wanted, and makes `task` tell them of objects. The second
/// part is the page that shows them.
pub(super) fn start(
    parts: Parts<'_>,
    task: Task,
    tasks: &mut JoinSet<()>,
    drain: &drain::Watch,
) -> (Task, Router) {
    let Parts {
        args,
        timing,
        client,
        snapshots,
        registry,
    } = parts;
    if !args.status.enable_status {
        return (task, status::page(None));
    }
    let metrics = Metrics::register(registry);
    let namespace = args.validation.deployment_namespace.clone();
    let target = client.map(|client| {
        let (announce, leadership) = lease::channel();
        let settings = lease::Settings {
            namespace: namespace.clone(),
            name: LEASE.to_owned(),
            identity: format!("{}_{}", env::pod_name(), super::epoch::epoch()),
            timing: timing.lease,
        };
        let election = lease::keep(client.clone(), settings, announce, drain.clone());
        tasks.spawn(election);
        Target {
            client,
            leadership,
            per_second: args.status.writes_per_second,
        }
    });
    let analysis = Analysis {
        namespace,
        excluded: args.excluded_resource_kinds.iter().cloned().collect(),
        interval: timing.analysis,
    };
    let (findings_tx, findings) = watch::channel(None);
    let analyze = analysis.follow(snapshots, findings_tx, metrics.clone(), drain.clone());
    tasks.spawn(analyze);
    let (observer, observations) = mpsc::channel(OBSERVATIONS);
    let inputs = Inputs {
        observations,
        findings,
    };
    let (writer, question) = Writer::new(inputs, target, metrics);
    tasks.spawn(writer.run(drain.clone()));
    (task.observed_by(observer), status::page(Some(question)))
}
