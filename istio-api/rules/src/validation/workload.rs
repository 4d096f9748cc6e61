//! Rules for WorkloadEntry, endpoints and WorkloadGroup.

use super::SPEC;
use super::primitives::{header, host, label, number};
use super::report::{At, Check, quote};
use istio_api::networking::v1alpha3::readiness_probe::HealthCheckMethod;
use istio_api::networking::v1alpha3::{
    HttpHealthCheckConfig, ReadinessProbe, WorkloadEntry, WorkloadGroup,
};

/// What the address of a workload may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Addresses {
    /// IP addresses and sockets.
    Numeric,
    /// Host names as well.
    Any,
}

pub(super) fn validate_entry(check: &mut Check<'_>, spec: &WorkloadEntry) {
    entry(check, &SPEC, spec, Addresses::Any);
}

pub(super) fn entry(check: &mut Check<'_>, at: &At<'_>, entry: &WorkloadEntry, allowed: Addresses) {
    let at_address = at.field("address");
    let address = entry.address.as_str();
    if address.is_empty() {
        if entry.network.is_empty() {
            check.error(
                "WE-01",
                &at_address,
                "there is no address: want one, or the network that the workload is in",
            );
        } else {
            check.warn("WE-02", &at_address, "there is no address, so the workload is reached through a gateway of its network: want an address if it has one");
        }
    } else if let Some(path) = address.strip_prefix("unix://") {
        check.test("WE-03", &at_address, host::unix_path(path));
        check.refuse(
            !entry.ports.is_empty(),
            "WE-04",
            &at.field("ports"),
            "a Unix socket has no ports: leave them out",
        );
    } else if !host::is_ip(address) {
        if allowed == Addresses::Numeric {
            check.test("WE-05", &at_address, host::ip(address));
        } else if !host::is_name(address) {
            check.error("WE-05", &at_address, format!(
                "{} is neither an IP address nor a host name: want one of them, or unix:// and a path",
                quote(address)
            ));
        }
    }
    for (name, port) in &entry.ports {
        let at = at.entry("ports", name);
        check.test("WE-06", &at, host::label(name));
        check.test("WE-07", &at, number::port(*port));
    }
    label::labels(check, "WE-08", at, "labels", &entry.labels);
}

pub(super) fn validate_group(check: &mut Check<'_>, spec: &WorkloadGroup) {
    check.refuse(
        spec.template.is_none(),
        "WG-01",
        &SPEC.field("template"),
        "there is no template: want one, which may be empty",
    );
    if let Some(meta) = &spec.metadata {
        let at = SPEC.field("metadata");
        label::labels(check, "WG-02", &at, "labels", &meta.labels);
    }
    if let Some(one) = &spec.probe {
        probe(check, &SPEC.field("probe"), one);
    }
}

fn probe(check: &mut Check<'_>, at: &At<'_>, probe: &ReadinessProbe) {
    let numbers = [
        ("periodSeconds", probe.period_seconds),
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (field, value) in numbers {
        check.test("WG-03", &at.field(field), number::not_negative(value));
    }
    match &probe.health_check_method {
        Some(HealthCheckMethod::HttpGet(get)) => http(check, &at.field("httpGet"), get),
        Some(HealthCheckMethod::TcpSocket(socket)) => {
            let at = at.field("tcpSocket");
            check.test("WG-05", &at.field("port"), number::port(socket.port));
        }
        Some(HealthCheckMethod::Exec(exec)) => {
            let at = at.field("exec");
            check.refuse(
                exec.command.is_empty(),
                "WG-08",
                &at.field("command"),
                "there is no command: want the program and its arguments",
            );
        }
        Some(HealthCheckMethod::Grpc(_)) | None => check.error(
            "WG-04",
            at,
            "there is no known kind of probe: want httpGet, tcpSocket or exec",
        ),
    }
}

fn http(check: &mut Check<'_>, at: &At<'_>, get: &HttpHealthCheckConfig) {
    check.test("WG-05", &at.field("port"), number::port(get.port));
    if !matches!(get.scheme.as_str(), "" | "HTTP" | "HTTPS") {
        check.error(
            "WG-06",
            &at.field("scheme"),
            format!(
                "{} is not a valid scheme for a probe: want HTTP or HTTPS, in upper case",
                quote(&get.scheme)
            ),
        );
    }
    for (i, one) in get.http_headers.iter().enumerate() {
        let at = at.item("httpHeaders", i);
        check.test("WG-07", &at.field("name"), header::probe_name(&one.name));
    }
}
