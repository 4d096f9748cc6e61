//! Values of annotations.

use super::super::super::resources::ParseYaml;
use crate::validation::primitives::host;
use istio_api::duration;
use istio_api::json::{self, Unknown};
use istio_api::mesh::v1alpha1::ProxyConfig;

type Outcome = Result<(), String>;

/// Checks the value of an annotation.
pub(super) fn check(name: &str, value: &str, yaml: ParseYaml) -> Outcome {
    match name {
        "sidecar.istio.io/interceptionMode" => match value {
            "REDIRECT" | "TPROXY" | "NONE" => Ok(()),
            _ => Err(format!(
                "{value:?} is not a valid mode: want REDIRECT, TPROXY or NONE"
            )),
        },
        "status.sidecar.istio.io/port" => port(value),
        "readiness.status.sidecar.istio.io/initialDelaySeconds"
        | "readiness.status.sidecar.istio.io/periodSeconds"
        | "readiness.status.sidecar.istio.io/failureThreshold" => value
            .parse::<u32>()
            .map(drop)
            .map_err(|_| format!("{value:?} is not a valid number: want 0 to {}", u32::MAX)),
        "traffic.sidecar.istio.io/includeOutboundIPRanges" if value == "*" => Ok(()),
        "traffic.sidecar.istio.io/includeOutboundIPRanges"
        | "traffic.sidecar.istio.io/excludeOutboundIPRanges" => ranges(value),
        "traffic.sidecar.istio.io/includeInboundPorts" if value == "*" => Ok(()),
        "traffic.sidecar.istio.io/includeInboundPorts"
        | "traffic.sidecar.istio.io/excludeInboundPorts"
        | "traffic.sidecar.istio.io/excludeOutboundPorts" => ports(value),
        "traffic.sidecar.istio.io/excludeInterfaces"
        | "traffic.sidecar.istio.io/kubevirtInterfaces"
        | "istio.io/reroute-virtual-interfaces" => interfaces(value),
        "prometheus.istio.io/merge-metrics" => boolean(value),
        "proxy.istio.io/config" => proxy_config(value, yaml),
        "sidecar.istio.io/proxyCPU"
        | "sidecar.istio.io/proxyMemory"
        | "sidecar.istio.io/proxyCPULimit"
        | "sidecar.istio.io/proxyMemoryLimit" => quantity(value),
        _ => Ok(()),
    }
}

fn port(text: &str) -> Outcome {
    text.trim()
        .parse::<u16>()
        .map(drop)
        .map_err(|_| format!("{text:?} is not a valid port: want 0 to 65535"))
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(move |_| !text.trim().is_empty())
}

fn ports(text: &str) -> Outcome {
    items(text).try_for_each(port)
}

fn ranges(text: &str) -> Outcome {
    items(text).try_for_each(|item| {
        if item.contains('/') && host::is_ip_or_prefix(item) {
            return Ok(());
        }
        Err(format!(
            "{item:?} is not a valid address range: want one such as 10.0.0.0/8"
        ))
    })
}

/// The longest name of a Linux network interface.
const MAX_INTERFACE: usize = 15;

fn interfaces(text: &str) -> Outcome {
    items(text).try_for_each(|item| {
        let name = item.trim();
        let is_name = name.len() <= MAX_INTERFACE
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if is_name {
            return Ok(());
        }
        Err(format!(
            "{name:?} is not a valid interface: want a letter and then up to 14 letters, digits, dots and dashes"
        ))
    })
}

/// The spellings that the injector accepts.
fn boolean(text: &str) -> Outcome {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(()),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(()),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// A Kubernetes quantity: a number with a decimal, binary or exponent suffix.
fn quantity(text: &str) -> Outcome {
    const SUFFIXES: [&str; 16] = [
        "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    let unsigned = |text: &str| -> String {
        let text = text.strip_prefix(['+', '-']).unwrap_or(text);
        text.to_owned()
    };
    let text_unsigned = unsigned(text);
    let end = text_unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text_unsigned.len());
    let (number, suffix) = text_unsigned.split_at(end);
    let is_number = number.bytes().any(|byte| byte.is_ascii_digit())
        && number.bytes().filter(|byte| *byte == b'.').count() < 2;
    let is_exponent = suffix
        .strip_prefix(['e', 'E'])
        .map(unsigned)
        .is_some_and(|digits| {
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
    if is_number && (SUFFIXES.contains(&suffix) || is_exponent) {
        return Ok(());
    }
    Err(format!(
        "{text:?} is not a valid quantity: want one such as 100m, 0.5 or 128Mi"
    ))
}

/// Settings of one proxy: only those that are set here are checked, the rest are the mesh's.
fn proxy_config(text: &str, yaml: ParseYaml) -> Outcome {
    let Some(value) = yaml(text)? else {
        return Ok(());
    };
    let (config, _) = json::read::<ProxyConfig>(&value, Unknown::Prune).map_err(|issues| {
        let issues = issues.iter().map(ToString::to_string);
        issues.collect::<Vec<_>>().join("; ")
    })?;
    let at = |field: &str, outcome: Outcome| outcome.map_err(|why| format!("{field}: {why}"));
    let named = [
        ("discoveryAddress", &config.discovery_address),
        ("statsdUdpAddress", &config.statsd_udp_address),
    ];
    for (field, value) in named {
        if !value.is_empty() {
            at(field, address(value))?;
        }
    }
    let services = [
        ("envoyMetricsService.address", &config.envoy_metrics_service),
        (
            "envoyAccessLogService.address",
            &config.envoy_access_log_service,
        ),
    ];
    for (field, service) in services {
        let address_of = service
            .as_ref()
            .map_or("", |service| service.address.as_str());
        if !address_of.is_empty() {
            at(field, address(address_of))?;
        }
    }
    for (field, number) in [
        ("proxyAdminPort", config.proxy_admin_port),
        ("statusPort", config.status_port),
    ] {
        // An absent field is zero.
        if number != 0 {
            let outcome = u16::try_from(number)
                .map(drop)
                .map_err(|_| format!("{number} is not a valid port: want 1 to 65535"));
            at(field, outcome)?;
        }
    }
    if let Some(time) = &config.drain_duration {
        let is_whole = time.nanos == 0 && time.seconds >= 1;
        let shown = duration::format(time);
        let outcome = is_whole.then_some(()).ok_or_else(|| {
            format!("{shown} is not a valid drain time: want whole seconds, such as 45s")
        });
        at("drainDuration", outcome)?;
    }
    Ok(())
}

/// `host:port`, as in `istio-pilot:15010` or `[::1]:80`.
fn address(text: &str) -> Outcome {
    let wrong =
        || format!("{text:?} is not a valid address: want HOST:PORT, such as istio-pilot:15010");
    let (name, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = match name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(ip) => host::is_ip(ip),
        None => host::is_name(name) || (host::is_ip(name) && !name.contains(':')),
    };
    if is_port && is_host {
        Ok(())
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<serde_json::Value>, String> {
        serde_yaml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn each_annotation_takes_good_values_and_refuses_bad_ones() {
        let rows: [(&str, &[&str], &[&str]); 12] = [
            (
                "sidecar.istio.io/interceptionMode",
                &["REDIRECT", "TPROXY", "NONE"],
                &["", "none"],
            ),
            (
                "status.sidecar.istio.io/port",
                &["0", "65535"],
                &["65536", "-1", "a", ""],
            ),
            (
                "readiness.status.sidecar.istio.io/periodSeconds",
                &["0", "7"],
                &["-1", "1s"],
            ),
            (
                "traffic.sidecar.istio.io/includeOutboundIPRanges",
                &["*", "", "10.0.0.0/8,fd00::/8"],
                &["10.0.0.1", "10.0.0.0/33", "10.0.0.0/8, 10.1.0.0/16"],
            ),
            (
                "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                &["", "10.0.0.0/8"],
                &["*"],
            ),
            (
                "traffic.sidecar.istio.io/includeInboundPorts",
                &["*", "80, 81"],
                &["80,,81", "x"],
            ),
            (
                "traffic.sidecar.istio.io/excludeInboundPorts",
                &["", "80"],
                &["*", "70000"],
            ),
            (
                "istio.io/reroute-virtual-interfaces",
                &["", "eth0, a.b-c"],
                &["0a", "a".repeat(16).leak(), "a,,b"],
            ),
            (
                "prometheus.istio.io/merge-metrics",
                &["true", "F"],
                &["yes", ""],
            ),
            (
                "sidecar.istio.io/proxyCPU",
                &["100m", "0.5", "1e3", "-1Ki"],
                &["", "m", "1.2.3", "1x", "1\n"],
            ),
            (
                "proxy.istio.io/config",
                &[
                    "",
                    "discoveryAddress: a.b:15010",
                    "drainDuration: 45s",
                    "discoveryAddress: '[::1]:80'",
                    "unheardOf: 1",
                ],
                &[
                    "a: [",
                    "concurrency: x",
                    "discoveryAddress: a",
                    "proxyAdminPort: 70000",
                    "drainDuration: 1.5s",
                    "statsdUdpAddress: 'a:0'",
                ],
            ),
            ("sidecar.istio.io/userVolume", &["anything"], &[]),
        ];
        for (name, good, bad) in rows {
            for value in good {
                assert_eq!(check(name, value, read), Ok(()), "{name} {value:?}");
            }
            for value in bad {
                assert!(check(name, value, read).is_err(), "{name} {value:?}");
            }
        }
    }
}
