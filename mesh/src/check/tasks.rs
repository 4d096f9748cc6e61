//! The tasks, one function each; a function is the recipe that its folder's README line tells.

mod egress;
mod failure;
mod ingress;
mod rotation;
mod routing;
mod security;
mod shifting;

use anyhow::Result;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::stage::Stage;

/// A task and how it is driven.
pub(super) struct Task {
    pub(super) name: &'static str,
    pub(super) run: for<'s, 'm> fn(&'s mut Stage<'m>) -> LocalBoxFuture<'s, Result<()>>,
}

/// All tasks in order.
pub(super) const ALL: &[Task] = &[
    Task {
        name: "request-routing",
        run: |stage| routing::request_routing(stage).boxed_local(),
    },
    Task {
        name: "traffic-shifting",
        run: |stage| shifting::traffic_shifting(stage).boxed_local(),
    },
    Task {
        name: "tcp-traffic-shifting",
        run: |stage| shifting::tcp_traffic_shifting(stage).boxed_local(),
    },
    Task {
        name: "request-timeouts",
        run: |stage| failure::request_timeouts(stage).boxed_local(),
    },
    Task {
        name: "retries",
        run: |stage| failure::retries(stage).boxed_local(),
    },
    Task {
        name: "circuit-breaking",
        run: |stage| failure::circuit_breaking(stage).boxed_local(),
    },
    Task {
        name: "fault-injection",
        run: |stage| failure::fault_injection(stage).boxed_local(),
    },
    Task {
        name: "mirroring",
        run: |stage| routing::mirroring(stage).boxed_local(),
    },
    Task {
        name: "headers-rewrite-redirect",
        run: |stage| routing::headers_rewrite_redirect(stage).boxed_local(),
    },
    Task {
        name: "ingress",
        run: |stage| ingress::ingress(stage).boxed_local(),
    },
    Task {
        name: "secure-ingress",
        run: |stage| ingress::secure_ingress(stage).boxed_local(),
    },
    Task {
        name: "egress",
        run: |stage| egress::egress(stage).boxed_local(),
    },
    Task {
        name: "mutual-tls",
        run: |stage| security::mutual_tls(stage).boxed_local(),
    },
    Task {
        name: "certificate-rotation",
        run: |stage| rotation::certificate_rotation(stage).boxed_local(),
    },
    Task {
        name: "config-change",
        run: |stage| routing::config_change(stage).boxed_local(),
    },
];
