//! The annotations that are known, and the kinds that they belong on.

/// Stands for every kind.
pub(super) const ANY: &str = "any object";

/// A known annotation.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) kinds: &'static [&'static str],
    pub(super) is_deprecated: bool,
}

const fn current(name: &'static str, kinds: &'static [&'static str]) -> Known {
    Known {
        name,
        kinds,
        is_deprecated: false,
    }
}

const fn deprecated(name: &'static str, kinds: &'static [&'static str]) -> Known {
    Known {
        name,
        kinds,
        is_deprecated: true,
    }
}

const POD: &[&str] = &["Pod"];
const POD_OR_SERVICE: &[&str] = &["Pod", "Service"];

/// All of them, ordered by name. The ones of `policy.istio.io` had an effect with 1.1's Mixer only.
static KNOWN: &[Known] = &[
    deprecated("alpha.istio.io/canonical-serviceaccounts", &["Service"]),
    deprecated("alpha.istio.io/kubernetes-serviceaccounts", &["Service"]),
    current("ambient.istio.io/bypass-inbound-capture", POD),
    current("ambient.istio.io/dns-capture", POD),
    current("ambient.istio.io/redirection", POD),
    current(
        "ambient.istio.io/waypoint-inbound-binding",
        &["GatewayClass", "Gateway"],
    ),
    current("galley.istio.io/analyze-suppress", &[ANY]),
    current("gateway.istio.io/controller-version", &[ANY]),
    current("gateway.istio.io/name-override", &["Gateway"]),
    current("gateway.istio.io/service-account", &["Gateway"]),
    current("inject.istio.io/templates", POD),
    current("istio.io/autoRegistrationGroup", &["WorkloadEntry"]),
    current("istio.io/connectedAt", &["WorkloadEntry"]),
    current("istio.io/disconnectedAt", &["WorkloadEntry"]),
    current("istio.io/dry-run", &["AuthorizationPolicy"]),
    current("istio.io/reroute-virtual-interfaces", POD),
    current("istio.io/rev", POD),
    current("istio.io/workloadController", &["WorkloadEntry"]),
    current("kubernetes.io/ingress.class", &["Ingress"]),
    current("networking.istio.io/exportTo", &["Service"]),
    current("networking.istio.io/service-type", &["Gateway"]),
    current(
        "networking.istio.io/traffic-distribution",
        &["Namespace", "Service", "ServiceEntry"],
    ),
    deprecated("policy.istio.io/check", POD_OR_SERVICE),
    deprecated("policy.istio.io/checkBaseRetryWaitTime", POD_OR_SERVICE),
    deprecated("policy.istio.io/checkMaxRetryWaitTime", POD_OR_SERVICE),
    deprecated("policy.istio.io/checkRetries", POD_OR_SERVICE),
    deprecated("policy.istio.io/lang", POD_OR_SERVICE),
    current("prometheus.istio.io/merge-metrics", POD),
    current("proxy.istio.io/config", POD),
    current("proxy.istio.io/overrides", POD),
    current("readiness.status.sidecar.istio.io/applicationPorts", POD),
    current("readiness.status.sidecar.istio.io/failureThreshold", POD),
    current("readiness.status.sidecar.istio.io/initialDelaySeconds", POD),
    current("readiness.status.sidecar.istio.io/periodSeconds", POD),
    current("sidecar.istio.io/agentLogLevel", POD),
    current("sidecar.istio.io/bootstrapOverride", POD),
    current("sidecar.istio.io/componentLogLevel", POD),
    current("sidecar.istio.io/controlPlaneAuthPolicy", POD),
    deprecated("sidecar.istio.io/discoveryAddress", POD),
    deprecated("sidecar.istio.io/extraStatTags", POD),
    deprecated("sidecar.istio.io/inject", POD),
    current("sidecar.istio.io/interceptionMode", POD),
    current("sidecar.istio.io/logLevel", POD),
    current("sidecar.istio.io/nativeSidecar", POD),
    current("sidecar.istio.io/proxyCPU", POD),
    current("sidecar.istio.io/proxyCPULimit", POD),
    current("sidecar.istio.io/proxyImage", POD),
    current("sidecar.istio.io/proxyImageType", POD),
    current("sidecar.istio.io/proxyMemory", POD),
    current("sidecar.istio.io/proxyMemoryLimit", POD),
    current("sidecar.istio.io/rewriteAppHTTPProbers", POD),
    deprecated("sidecar.istio.io/statsCompression", POD),
    current("sidecar.istio.io/statsEvictionInterval", POD),
    current("sidecar.istio.io/statsFlushInterval", POD),
    current("sidecar.istio.io/statsHistogramBins", POD),
    current("sidecar.istio.io/statsHistogramBuckets", POD),
    deprecated("sidecar.istio.io/statsInclusionPrefixes", POD),
    deprecated("sidecar.istio.io/statsInclusionRegexps", POD),
    deprecated("sidecar.istio.io/statsInclusionSuffixes", POD),
    current("sidecar.istio.io/status", POD),
    current("sidecar.istio.io/userVolume", POD),
    current("sidecar.istio.io/userVolumeMount", POD),
    current("status.sidecar.istio.io/port", POD),
    current("topology.istio.io/controlPlaneClusters", &["Namespace"]),
    current("traffic.istio.io/nodeSelector", &["Service"]),
    current("traffic.sidecar.istio.io/excludeInboundPorts", POD),
    current("traffic.sidecar.istio.io/excludeInterfaces", POD),
    current("traffic.sidecar.istio.io/excludeOutboundIPRanges", POD),
    current("traffic.sidecar.istio.io/excludeOutboundPorts", POD),
    current("traffic.sidecar.istio.io/includeInboundPorts", POD),
    current("traffic.sidecar.istio.io/includeOutboundIPRanges", POD),
    current("traffic.sidecar.istio.io/includeOutboundPorts", POD),
    deprecated("traffic.sidecar.istio.io/kubevirtInterfaces", POD),
];

/// The row of an annotation.
pub(super) fn find(name: &str) -> Option<&'static Known> {
    let index = KNOWN.binary_search_by(|row| row.name.cmp(name)).ok()?;
    KNOWN.get(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_order() {
        assert!(KNOWN.is_sorted_by_key(|row| row.name));
        assert!(find("sidecar.istio.io/inject").is_some_and(|row| row.is_deprecated));
        assert!(find("sidecar.istio.io/injected").is_none());
    }
}
