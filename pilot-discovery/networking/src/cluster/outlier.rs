//! Outlier detection: failing endpoints are ejected for a while.

use istio_api::{
    envoy::{
        config::cluster::v3::{Cluster, OutlierDetection},
        r#type::v3::Percent,
    },
    networking::v1alpha3::OutlierDetection as Settings,
};

use super::positive;

/// Applies `settings` to `cluster`; without them endpoints are never ejected.
pub(super) fn apply(cluster: &mut Cluster, settings: Option<&Settings>) {
    let Some(settings) = settings else {
        return;
    };
    let enforcing = |count: u32| Some(if count > 0 { 100 } else { 0 });
    let mut detection = OutlierDetection {
        interval: settings.interval,
        base_ejection_time: settings.base_ejection_time,
        max_ejection_percent: positive(settings.max_ejection_percent),
        enforcing_success_rate: Some(0),
        ..Default::default()
    };
    if let Some(count) = settings.consecutive_5xx_errors {
        detection.consecutive_5xx = Some(count);
        detection.enforcing_consecutive_5xx = enforcing(count);
    }
    if let Some(count) = settings.consecutive_gateway_errors {
        detection.consecutive_gateway_failure = Some(count);
        detection.enforcing_consecutive_gateway_failure = enforcing(count);
    } else if let Some(count) = positive(settings.consecutive_errors) {
        // The field of 1.1 counts gateway errors only.
        detection.consecutive_gateway_failure = Some(count);
        detection.enforcing_consecutive_gateway_failure = enforcing(count);
        if settings.consecutive_5xx_errors.is_none() {
            detection.enforcing_consecutive_5xx = Some(0);
        }
    }
    if settings.split_external_local_origin_errors {
        detection.split_external_local_origin_errors = true;
        detection.enforcing_local_origin_success_rate = Some(0);
        if let Some(count) = settings
            .consecutive_local_origin_failures
            .filter(|count| *count > 0)
        {
            detection.consecutive_local_origin_failure = Some(count);
            detection.enforcing_consecutive_local_origin_failure = Some(100);
        }
    }
    cluster.outlier_detection = Some(detection);
    // Zero by default: without healthy endpoints traffic fails instead of going to all of them.
    let minimum = f64::from(settings.min_health_percent.clamp(0, 100));
    cluster
        .common_lb_config
        .get_or_insert_default()
        .healthy_panic_threshold = Some(Percent { value: minimum });
}
