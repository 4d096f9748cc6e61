//! Statuses: the tasks around the writer.

use std::time::Duration;

use axum::Router;
use istio_api::distribution::COLLECTION;
use mesh_common::drain;
use mesh_common::kubeclient::Client;
use mesh_common::lease;
use mesh_common::mcp::sink;
use mesh_common::mcp::source::{Admission, Snapshots};
use mesh_common::metrics::Registry;
use mesh_common::owner::Owner;
use mesh_common::tasks::Tasks;
use tokio::sync::{mpsc, watch};

use crate::args::ServerArgs;
use crate::env;
use crate::state::Task;
use crate::status::{self, Analysis, Inputs, Metrics, Reception, ReportTiming, Target, Writer};

/// Observations on their way: as many batches as the state takes of the source.
const OBSERVATIONS: usize = 4;
/// Reports of pilots on their way.
const REPORTS: usize = 16;
/// Largest report in bytes: more objects than a pilot has memory for.
const MAX_REPORT: usize = 32 << 20;
/// Pilots that may report at once.
const MAX_PILOTS: usize = 256;
/// The Lease, in the namespace of galley, whose holder writes.
const LEASE: &str = "istio-status-leader";

/// The times that matter; others than the defaults are for tests.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// From the start of one analysis to the start of the next, at least.
    pub analysis: Duration,
    /// Of the election.
    pub lease: lease::Timing,
    /// Of what pilots say.
    pub reports: ReportTiming,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            analysis: Duration::from_secs(5),
            lease: lease::Timing::default(),
            reports: ReportTiming::default(),
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

/// What came of it.
pub(super) struct Started {
    /// Tells of objects, if statuses are wanted.
    pub(super) task: Task,
    /// Shows statuses.
    pub(super) page: Router,
    /// Where pilots report, if statuses are wanted.
    pub(super) reception: Option<Reception>,
}

/// Starts the tasks, if statuses are wanted.
pub(super) fn start(parts: Parts<'_>, task: Task, tasks: &Tasks) -> Started {
    let drain = tasks.drain();
    let Parts {
        args,
        timing,
        client,
        snapshots,
        registry,
    } = parts;
    if !args.status.enable_status {
        return Started {
            task,
            page: status::page(None),
            reception: None,
        };
    }
    let metrics = Metrics::register(registry);
    let namespace = args.validation.deployment_namespace.clone();
    let target = client.map(|client| {
        let (announce, leadership) = lease::channel();
        let settings = lease::Settings {
            namespace: namespace.clone(),
            name: LEASE.to_owned(),
            identity: format!("{}_{}", env::pod_name(), super::epoch::epoch()),
            owner: Owner::from(&args.status.owner),
            timing: timing.lease,
        };
        let election = lease::keep(client.clone(), settings, announce, drain.clone());
        tasks.keep("status election", election);
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
    tasks.keep("analysis", analyze);
    let (observer, observations) = mpsc::channel(OBSERVATIONS);
    let (reports_tx, reports) = mpsc::channel(REPORTS);
    let inputs = Inputs {
        observations,
        findings,
        reports,
    };
    let (writer, question) = Writer::new(inputs, target, timing.reports, metrics);
    tasks.keep("status writer", writer.run(drain.clone()));
    Started {
        task: task.observed_by(observer),
        page: status::page(Some(question)),
        reception: Some(Reception::new(reports_tx)),
    }
}

/// The service that pilots report to.
pub(super) fn sink(
    reception: Reception,
    args: &ServerArgs,
    admission: Admission,
    registry: &Registry,
    drain: &drain::Watch,
) -> sink::Server<Reception> {
    let namespace = &args.validation.deployment_namespace;
    let options = sink::ServerOptions {
        node_id: format!("{}.{namespace}", env::pod_name()),
        collections: vec![COLLECTION.to_owned()],
        max_message_bytes: MAX_REPORT,
        max_streams: MAX_PILOTS,
    };
    let metrics = sink::Metrics::register(registry, "galley");
    sink::Server::new(options, reception, admission, metrics, drain.clone())
}
