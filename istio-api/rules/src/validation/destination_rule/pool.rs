//! Limits of connections and requests.

use crate::validation::primitives::number;
use crate::validation::report::{At, Check};
use istio_api::networking::v1alpha3::ConnectionPoolSettings;
use istio_api::networking::v1alpha3::connection_pool_settings::http_settings::H2UpgradePolicy;
use istio_api::networking::v1alpha3::connection_pool_settings::{HttpSettings, TcpSettings};

pub(in crate::validation) fn validate(
    check: &mut Check<'_>,
    at: &At<'_>,
    settings: &ConnectionPoolSettings,
) {
    check.refuse(
        settings.http.is_none() && settings.tcp.is_none(),
        "DR-35",
        at,
        "there are no settings: want http or tcp",
    );
    if let Some(settings) = &settings.http {
        http(check, &at.field("http"), settings);
    }
    if let Some(settings) = &settings.tcp {
        tcp(check, &at.field("tcp"), settings);
    }
}

fn http(check: &mut Check<'_>, at: &At<'_>, settings: &HttpSettings) {
    let limits = [
        (
            "DR-36",
            "http1MaxPendingRequests",
            settings.http1_max_pending_requests,
        ),
        ("DR-37", "http2MaxRequests", settings.http2_max_requests),
        (
            "DR-38",
            "maxRequestsPerConnection",
            settings.max_requests_per_connection,
        ),
        ("DR-39", "maxRetries", settings.max_retries),
        (
            "DR-42",
            "maxConcurrentStreams",
            settings.max_concurrent_streams,
        ),
    ];
    for (rule, field, limit) in limits {
        check.test(rule, &at.field(field), number::not_negative(limit));
    }
    if let Some(time) = &settings.idle_timeout {
        check.test("DR-40", &at.field("idleTimeout"), number::duration(time));
    }
    check.refuse(
        settings.h2_upgrade_policy() == H2UpgradePolicy::Upgrade && settings.use_client_protocol,
        "DR-41",
        &at.field("useClientProtocol"),
        "the client's protocol cannot be both kept and upgraded: want useClientProtocol or h2UpgradePolicy: UPGRADE",
    );
}

fn tcp(check: &mut Check<'_>, at: &At<'_>, settings: &TcpSettings) {
    check.test(
        "DR-43",
        &at.field("maxConnections"),
        number::not_negative(settings.max_connections),
    );
    if let Some(time) = &settings.connect_timeout {
        check.test("DR-44", &at.field("connectTimeout"), number::duration(time));
    }
    if let Some(time) = &settings.max_connection_duration {
        check.test(
            "DR-45",
            &at.field("maxConnectionDuration"),
            number::duration(time),
        );
    }
    if let Some(time) = &settings.idle_timeout {
        check.test(
            "DR-46",
            &at.field("idleTimeout"),
            number::duration_or_off(time),
        );
    }
    if let Some(keepalive) = &settings.tcp_keepalive {
        let at = at.field("tcpKeepalive");
        for (field, time) in [("time", &keepalive.time), ("interval", &keepalive.interval)] {
            if let Some(time) = time {
                check.test("DR-47", &at.field(field), number::duration(time));
            }
        }
    }
}
