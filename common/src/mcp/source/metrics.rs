//! Metric families of a source, under the names of 1.1 (without its `connectionID` label).

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{Histogram, IntCounterVec, IntGauge};
use tonic::{Code, Status};

use crate::metrics::Registry;

/// Collection names come from sinks; beyond this many unknown ones the label is `other`.
const MAX_UNKNOWN: usize = 50;

/// Counters of one source.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(super) clients: IntGauge,
    pub(super) message_sizes: Histogram,
    pub(super) push_seconds: Histogram,
    acks: IntCounterVec,
    nacks: IntCounterVec,
    send_failures: IntCounterVec,
    receive_failures: IntCounterVec,
    unknown: IntCounterVec,
    refused: IntCounterVec,
    largest: IntGauge,
    known: Arc<Mutex<Names>>,
}

#[derive(Debug, Default)]
struct Names {
    known: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

impl Metrics {
    /// Registers the metric families `<prefix>_mcp_source_*`. `known`: the collections that may
    /// always appear as labels.
    pub fn register(
        registry: &Registry,
        prefix: &str,
        known: impl IntoIterator<Item = String>,
    ) -> Self {
        let name = |suffix: &str| format!("{prefix}_mcp_source_{suffix}");
        let powers = |first: f64, factor: f64| -> Vec<f64> {
            std::iter::successors(Some(first), |bound| Some(bound * factor))
                .take(16)
                .collect()
        };
        Self {
            clients: registry.int_gauge(&name("clients_total"), "Open streams."),
            message_sizes: registry.histogram(
                &name("message_sizes_bytes"),
                "Size of received requests.",
                &powers(1.0, 4.0),
            ),
            push_seconds: registry.histogram(
                &name("push_seconds"),
                "Time from sending a response to its acknowledgement.",
                &powers(0.001, 2.0),
            ),
            acks: registry.counter_vec(
                &name("request_acks_total"),
                "Acknowledged responses, including those with a stale nonce.",
                &["collection"],
            ),
            nacks: registry.counter_vec(
                &name("request_nacks_total"),
                "Rejected responses, including those with a stale nonce.",
                &["collection", "code"],
            ),
            send_failures: registry.counter_vec(
                &name("send_failures_total"),
                "Streams that ended while sending.",
                &["code", "error"],
            ),
            receive_failures: registry.counter_vec(
                &name("recv_failures_total"),
                "Streams that ended while receiving.",
                &["code", "error"],
            ),
            unknown: registry.counter_vec(
                &name("unknown_collections_total"),
                "Responses for collections that are unknown to this source.",
                &["collection"],
            ),
            refused: registry.counter_vec(
                &name("refused_total"),
                "Rejected streams, by reason.",
                &["reason"],
            ),
            largest: registry.int_gauge(
                &name("largest_message_bytes"),
                "Size of the largest response sent so far.",
            ),
            known: Arc::new(Mutex::new(Names {
                known: known.into_iter().collect(),
                unknown: BTreeSet::new(),
            })),
        }
    }

    /// The collection, or `other` beyond the limit of unknown ones.
    fn label(&self, collection: &str) -> String {
        let mut names = self.known.lock();
        if names.known.contains(collection) || names.unknown.contains(collection) {
            return collection.to_owned();
        }
        if names.unknown.len() < MAX_UNKNOWN {
            names.unknown.insert(collection.to_owned());
            return collection.to_owned();
        }
        "other".to_owned()
    }

    pub(super) fn ack(&self, collection: &str) {
        self.acks
            .with_label_values(&[&*self.label(collection)])
            .inc();
    }

    pub(super) fn nack(&self, collection: &str, code: i32) {
        let code = format!("{:?}", Code::from(code));
        self.nacks
            .with_label_values(&[&*self.label(collection), &code])
            .inc();
    }

    pub(super) fn unknown(&self, collection: &str) {
        let label = self.label(collection);
        self.unknown.with_label_values(&[&*label]).inc();
    }

    pub(super) fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    pub(super) fn sent(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if bytes > self.largest.get() {
            self.largest.set(bytes);
        }
    }

    pub(super) fn send_failed(&self, code: Code) {
        failed(&self.send_failures, code);
    }

    pub(super) fn receive_failed(&self, status: &Status) {
        failed(&self.receive_failures, status.code());
    }
}

fn failed(family: &IntCounterVec, code: Code) {
    let number = i32::from(code).to_string();
    family
        .with_label_values(&[&*number, &format!("{code:?}")])
        .inc();
}
