//! Gateways: the workloads, certificates and ports behind them, and conflicts between them.

mod certificate;
mod conflict;
mod port;
mod secret;

pub(super) use certificate::analyze as certificates;
pub(super) use conflict::analyze as conflicts;
pub(super) use port::analyze as ports;
pub(super) use secret::analyze as secrets;

use super::super::catalogue::REFERENCED_RESOURCE_NOT_FOUND;
use super::super::report::Report;
use super::super::resources::Resource;
use super::super::selection::text;
use istio_api::networking::v1alpha3::Gateway;

/// Reports a selector without Pods. Several analyzers do so; equal messages are shown once.
fn no_workload(gateway: &Resource<Gateway>, report: &mut Report) {
    report.add(
        &REFERENCED_RESOURCE_NOT_FOUND,
        &gateway.head.origin,
        "spec.selector",
        ["selector".to_owned(), text(&gateway.spec.selector)],
    );
}
