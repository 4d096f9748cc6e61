//! Metric families of a sink, under the names of 1.1 (without its `connectionID` label).

use prometheus::{IntCounter, IntCounterVec};
use tonic::Code;

use crate::metrics::Registry;

/// Counters of one sink.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(super) reconnections: IntCounter,
    acks: IntCounterVec,
    nacks: IntCounterVec,
    send_failures: IntCounterVec,
    receive_failures: IntCounterVec,
    dropped: IntCounterVec,
    refused: IntCounterVec,
}

impl Metrics {
    /// Registers the metric families `<prefix>_mcp_sink_*` and `<prefix>_mcp_unusable_resources`.
    pub fn register(registry: &Registry, prefix: &str) -> Self {
        let name = |suffix: &str| format!("{prefix}_mcp_sink_{suffix}");
        Self {
            reconnections: registry
                .counter(&name("reconnections"), "Streams opened to the source."),
            acks: registry.counter_vec(
                &name("request_acks_total"),
                "Accepted messages.",
                &["collection"],
            ),
            nacks: registry.counter_vec(
                &name("request_nacks_total"),
                "Rejected messages.",
                &["collection", "code"],
            ),
            send_failures: registry.counter_vec(
                &name("send_failures_total"),
                "Streams that ended while sending.",
                &["code", "error"],
            ),
            receive_failures: registry.counter_vec(
                &name("recv_failures_total"),
                "Streams that ended while receiving or connecting.",
                &["code", "error"],
            ),
            dropped: registry.counter_vec(
                &format!("{prefix}_mcp_unusable_resources"),
                "Resources ignored because of an invalid name or body.",
                &["collection"],
            ),
            refused: registry.counter_vec(
                &name("refused_total"),
                "Rejected streams of sources, by reason.",
                &["reason"],
            ),
        }
    }

    pub(super) fn answered(&self, collection: &str, code: Option<i32>) {
        match code {
            None => self.acks.with_label_values(&[collection]).inc(),
            Some(code) => {
                let code = format!("{:?}", Code::from(code));
                self.nacks.with_label_values(&[collection, &code]).inc();
            }
        }
    }

    pub(super) fn dropped(&self, collection: &str) {
        self.dropped.with_label_values(&[collection]).inc();
    }

    pub(super) fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    pub(super) fn send_failed(&self) {
        failed(&self.send_failures, Code::Unavailable);
    }

    pub(super) fn receive_failed(&self, code: Code) {
        failed(&self.receive_failures, code);
    }
}

fn failed(family: &IntCounterVec, code: Code) {
    let number = i32::from(code).to_string();
    family
        .with_label_values(&[&*number, &format!("{code:?}")])
        .inc();
}
