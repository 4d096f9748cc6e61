//! Connection pools and circuit breakers.

use istio_api::{
    envoy::{
        config::{
            cluster::v3::{Cluster, UpstreamConnectionOptions, circuit_breakers::thresholds},
            core::v3::TcpKeepalive,
        },
        r#type::v3::Percent,
    },
    networking::v1alpha3::{
        ConnectionPoolSettings, connection_pool_settings::tcp_settings::TcpKeepalive as Keepalive,
        traffic_policy::RetryBudget,
    },
};
use pilot_model::mesh::Mesh;

use super::{positive, seconds};

/// Default percentage of active requests that may be retries.
const RETRY_BUDGET_PERCENT: f64 = 20.0;
/// Default number of retries that are always allowed.
const RETRY_BUDGET_MINIMUM: u32 = 3;

/// Applies limits, timeouts and keepalive to `cluster`.
pub(super) fn apply(cluster: &mut Cluster, pool: Option<&ConnectionPoolSettings>, mesh: &Mesh) {
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    let http = pool.and_then(|pool| pool.http.as_ref());
    let threshold = cluster
        .circuit_breakers
        .as_mut()
        .and_then(|breakers| breakers.thresholds.first_mut());
    if let Some(threshold) = threshold {
        if let Some(tcp) = tcp {
            threshold.max_connections = positive(tcp.max_connections).or(threshold.max_connections);
        }
        if let Some(http) = http {
            threshold.max_pending_requests =
                positive(http.http1_max_pending_requests).or(threshold.max_pending_requests);
            threshold.max_requests = positive(http.http2_max_requests).or(threshold.max_requests);
            threshold.max_retries = positive(http.max_retries).or(threshold.max_retries);
        }
    }
    if let Some(timeout) = tcp.and_then(|tcp| tcp.connect_timeout) {
        cluster.connect_timeout = Some(timeout);
    }
    let own = tcp.and_then(|tcp| tcp.tcp_keepalive.as_ref());
    if let Some(keepalive) = keepalive(mesh.config.tcp_keepalive.as_ref(), own) {
        cluster.upstream_connection_options = Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(keepalive),
            ..Default::default()
        });
    }
}

/// Limits retries to a share of the active requests.
pub(super) fn apply_retry_budget(cluster: &mut Cluster, budget: Option<&RetryBudget>) {
    let threshold = cluster
        .circuit_breakers
        .as_mut()
        .and_then(|breakers| breakers.thresholds.first_mut());
    if let (Some(threshold), Some(budget)) = (threshold, budget) {
        let minimum = match budget.min_retry_concurrency {
            0 => RETRY_BUDGET_MINIMUM,
            minimum => minimum,
        };
        threshold.retry_budget = Some(thresholds::RetryBudget {
            budget_percent: Some(Percent {
                value: budget.percent.unwrap_or(RETRY_BUDGET_PERCENT),
            }),
            min_retry_concurrency: Some(minimum),
            ..Default::default()
        });
    }
}

/// The mesh's keepalive, overridden field by field by the rule's.
fn keepalive(mesh: Option<&Keepalive>, own: Option<&Keepalive>) -> Option<TcpKeepalive> {
    if mesh.is_none() && own.is_none() {
        return None;
    }
    let mut result = TcpKeepalive::default();
    for settings in mesh.into_iter().chain(own) {
        if settings.probes > 0 {
            result.keepalive_probes = Some(settings.probes);
        }
        if let Some(time) = &settings.time {
            result.keepalive_time = Some(seconds(time));
        }
        if let Some(interval) = &settings.interval {
            result.keepalive_interval = Some(seconds(interval));
        }
    }
    Some(result)
}
