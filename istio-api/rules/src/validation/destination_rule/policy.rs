//! The parts of a traffic policy.

use super::{balance, outlier, pool, tls};
use crate::validation::primitives::{host, number};
use crate::validation::report::{At, Check, quote};
use istio_api::networking::v1alpha3::TrafficPolicy;
use istio_api::networking::v1alpha3::traffic_policy::{PortTrafficPolicy, TunnelSettings};

pub(super) fn validate(check: &mut Check<'_>, at: &At<'_>, policy: &TrafficPolicy) {
    check.refuse(
        policy.outlier_detection.is_none()
            && policy.connection_pool.is_none()
            && policy.load_balancer.is_none()
            && policy.tls.is_none()
            && policy.port_level_settings.is_empty()
            && policy.tunnel.is_none()
            && policy.proxy_protocol.is_none()
            && policy.retry_budget.is_none(),
        "DR-10",
        at,
        "the policy is empty: want at least one of loadBalancer, connectionPool, outlierDetection, tls, portLevelSettings, tunnel, proxyProtocol and retryBudget",
    );
    check.refuse(
        policy.tunnel.is_some() && policy.proxy_protocol.is_some(),
        "DR-11",
        at,
        "tunnel and proxyProtocol are both set: want one of them",
    );
    let common = Common {
        balancer: policy.load_balancer.as_ref(),
        pool: policy.connection_pool.as_ref(),
        outlier: policy.outlier_detection.as_ref(),
        tls: policy.tls.as_ref(),
    };
    common.validate(check, at);
    for (i, port) in policy.port_level_settings.iter().enumerate() {
        port_policy(check, &at.item("portLevelSettings", i), port);
    }
    if let Some(settings) = &policy.tunnel {
        tunnel(check, &at.field("tunnel"), settings);
    }
    if let Some(proxy) = &policy.proxy_protocol
        && !matches!(proxy.version, 0 | 1)
    {
        let at = at.field("proxyProtocol");
        check.error(
            "DR-15",
            &at.field("version"),
            format!(
                "{} is not a version of the PROXY protocol: want V1 or V2",
                proxy.version
            ),
        );
    }
}

/// Settings that a policy has for all traffic and for single ports.
struct Common<'a> {
    balancer: Option<&'a istio_api::networking::v1alpha3::LoadBalancerSettings>,
    pool: Option<&'a istio_api::networking::v1alpha3::ConnectionPoolSettings>,
    outlier: Option<&'a istio_api::networking::v1alpha3::OutlierDetection>,
    tls: Option<&'a istio_api::networking::v1alpha3::ClientTlsSettings>,
}

impl Common<'_> {
    fn is_empty(&self) -> bool {
        self.balancer.is_none()
            && self.pool.is_none()
            && self.outlier.is_none()
            && self.tls.is_none()
    }

    fn validate(&self, check: &mut Check<'_>, at: &At<'_>) {
        if let Some(detection) = self.outlier {
            outlier::validate(check, &at.field("outlierDetection"), detection);
        }
        if let Some(settings) = self.pool {
            pool::validate(check, &at.field("connectionPool"), settings);
        }
        if let Some(settings) = self.balancer {
            let at = at.field("loadBalancer");
            balance::validate(check, &at, settings, self.outlier.is_some());
        }
        if let Some(settings) = self.tls {
            tls::validate(check, &at.field("tls"), settings);
        }
    }
}

fn port_policy(check: &mut Check<'_>, at: &At<'_>, policy: &PortTrafficPolicy) {
    check.refuse(
        policy.port.is_none(),
        "DR-18",
        &at.field("port"),
        "there is no port: want port.number, which the settings are for",
    );
    let common = Common {
        balancer: policy.load_balancer.as_ref(),
        pool: policy.connection_pool.as_ref(),
        outlier: policy.outlier_detection.as_ref(),
        tls: policy.tls.as_ref(),
    };
    check.refuse(
        common.is_empty(),
        "DR-19",
        at,
        "there are no settings for the port: want at least one of loadBalancer, connectionPool, outlierDetection and tls",
    );
    common.validate(check, at);
}

fn tunnel(check: &mut Check<'_>, at: &At<'_>, settings: &TunnelSettings) {
    if !matches!(settings.protocol.as_str(), "" | "CONNECT" | "POST") {
        check.error(
            "DR-12",
            &at.field("protocol"),
            format!(
                "{} is not a valid tunnel protocol: want CONNECT or POST",
                quote(&settings.protocol)
            ),
        );
    }
    if !host::is_name(&settings.target_host) && !host::is_ip(&settings.target_host) {
        check.error(
            "DR-13",
            &at.field("targetHost"),
            format!(
                "{} is neither a host name nor an IP address: want one such as \"a.example.com\"",
                quote(&settings.target_host)
            ),
        );
    }
    check.test(
        "DR-14",
        &at.field("targetPort"),
        number::port(settings.target_port),
    );
}
