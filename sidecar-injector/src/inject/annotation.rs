//! Validation of annotations: all invalid values are reported together.

use super::prometheus::parse_bool;
use crate::pod;
use crate::refusal::Refusal;
use ipnet::IpNet;
use serde_json::Value;

const STATUS_PORT: &str = "status.sidecar.istio.io/port";

/// Checks a value; the error says what is wrong with it.
type Check = fn(&str) -> Result<(), String>;

/// Annotations with restricted values.
const CHECKS: [(&str, Check); 26] = [
    ("sidecar.istio.io/interceptionMode", interception_mode),
    (STATUS_PORT, port),
    (
        "readiness.status.sidecar.istio.io/initialDelaySeconds",
        unsigned,
    ),
    ("readiness.status.sidecar.istio.io/periodSeconds", unsigned),
    (
        "readiness.status.sidecar.istio.io/failureThreshold",
        unsigned,
    ),
    (
        "traffic.sidecar.istio.io/includeOutboundIPRanges",
        any_or_cidrs,
    ),
    ("traffic.sidecar.istio.io/excludeOutboundIPRanges", cidrs),
    ("traffic.sidecar.istio.io/includeInboundPorts", any_or_ports),
    ("traffic.sidecar.istio.io/excludeInboundPorts", ports),
    ("traffic.sidecar.istio.io/includeOutboundPorts", ports),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", ports),
    ("traffic.sidecar.istio.io/excludeInterfaces", interfaces),
    ("traffic.sidecar.istio.io/kubevirtInterfaces", interfaces),
    ("istio.io/reroute-virtual-interfaces", interfaces),
    ("sidecar.istio.io/proxyCPU", quantity),
    ("sidecar.istio.io/proxyMemory", quantity),
    ("sidecar.istio.io/proxyCPULimit", quantity),
    ("sidecar.istio.io/proxyMemoryLimit", quantity),
    ("sidecar.istio.io/nativeSidecar", true_or_false),
    ("sidecar.istio.io/proxyImageType", image_type),
    ("sidecar.istio.io/userVolume", json_object),
    ("sidecar.istio.io/userVolumeMount", json_object),
    ("prometheus.istio.io/merge-metrics", boolean),
    ("sidecar.istio.io/proxyImage", printable),
    ("sidecar.istio.io/logLevel", printable),
    ("sidecar.istio.io/componentLogLevel", printable),
];

/// Rejects the Pod if any annotation has an invalid value.
pub(super) fn check(pod: &Value) -> Result<(), Refusal> {
    let wrong: Vec<String> = CHECKS
        .iter()
        .filter_map(|(name, check)| {
            let value = pod::annotation(pod, name)?;
            let reason = check(value).err()?;
            Some(format!("invalid annotation {name}={value:?}: {reason}"))
        })
        .collect();
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Refusal::Annotations(wrong))
    }
}

/// Port of the agent's status server; 0 if it is disabled.
pub(super) fn status_port(pod: &Value, proxy_config: &Value) -> u16 {
    let annotated = pod::annotation(pod, STATUS_PORT).and_then(|text| text.trim().parse().ok());
    let configured = proxy_config.get("statusPort").and_then(Value::as_u64);
    annotated
        .or_else(|| configured.and_then(|port| port.try_into().ok()))
        .unwrap_or(15020)
}

fn interception_mode(text: &str) -> Result<(), String> {
    match text {
        "REDIRECT" | "TPROXY" | "NONE" => Ok(()),
        _ => Err("want REDIRECT, TPROXY or NONE".to_owned()),
    }
}

fn port(text: &str) -> Result<(), String> {
    text.trim()
        .parse::<u16>()
        .map(drop)
        .map_err(|_| format!("{text:?} is not a port, want 0 to 65535"))
}

fn unsigned(text: &str) -> Result<(), String> {
    text.parse::<u32>()
        .map(drop)
        .map_err(|_| "want a whole number of at least 0".to_owned())
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(move |_| !text.trim().is_empty())
}

fn ports(text: &str) -> Result<(), String> {
    items(text).try_for_each(port)
}

fn any_or_ports(text: &str) -> Result<(), String> {
    if text.trim() == "*" {
        Ok(())
    } else {
        ports(text)
    }
}

fn cidrs(text: &str) -> Result<(), String> {
    items(text).try_for_each(|item| {
        item.parse::<IpNet>()
            .map(drop)
            .map_err(|_| format!("{item:?} is not a CIDR range such as 10.0.0.0/8"))
    })
}

fn any_or_cidrs(text: &str) -> Result<(), String> {
    if text == "*" { Ok(()) } else { cidrs(text) }
}

fn interfaces(text: &str) -> Result<(), String> {
    items(text).try_for_each(|item| {
        let name = item.trim();
        let first = name.starts_with(|c: char| c.is_ascii_alphabetic());
        let rest = name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if first && rest {
            Ok(())
        } else {
            Err(format!("{name:?} is not a valid interface name"))
        }
    })
}

/// A Kubernetes quantity: a number with a decimal, binary or exponent suffix.
fn quantity(text: &str) -> Result<(), String> {
    let wrong = || "want a quantity such as 100m, 0.5 or 128Mi".to_owned();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(digits);
    let is_number = number.bytes().any(|b| b.is_ascii_digit())
        && number.bytes().filter(|b| *b == b'.').count() <= 1;
    let known = [
        "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    let exponent = suffix
        .strip_prefix(['e', 'E'])
        .map(|rest| rest.strip_prefix(['+', '-']).unwrap_or(rest))
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
    if is_number && (known.contains(&suffix) || exponent) {
        Ok(())
    } else {
        Err(wrong())
    }
}

fn true_or_false(text: &str) -> Result<(), String> {
    if matches!(text, "true" | "false") {
        Ok(())
    } else {
        Err("want true or false".to_owned())
    }
}

fn boolean(text: &str) -> Result<(), String> {
    parse_bool(text)
        .map(drop)
        .ok_or_else(|| "want true or false".to_owned())
}

fn image_type(text: &str) -> Result<(), String> {
    match text {
        "" | "default" | "debug" | "distroless" => Ok(()),
        _ => Err("want default, debug or distroless".to_owned()),
    }
}

fn json_object(text: &str) -> Result<(), String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) if map.values().all(Value::is_object) => Ok(()),
        Ok(_) => Err("want a JSON object of objects".to_owned()),
        Err(error) => Err(format!("want a JSON object of objects: {error}")),
    }
}

fn printable(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        Err("control characters are not allowed".to_owned())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn good_and_bad_values_of_each_annotation() {
        let rows: [(&str, &[&str], &[&str]); 8] = [
            (
                "sidecar.istio.io/interceptionMode",
                &["REDIRECT", "TPROXY", "NONE"],
                &["redirect", ""],
            ),
            (STATUS_PORT, &["0", "15020"], &["-1", "65536", "x", ""]),
            (
                "readiness.status.sidecar.istio.io/periodSeconds",
                &["0", "7"],
                &["-1", "1s"],
            ),
            (
                "traffic.sidecar.istio.io/includeOutboundIPRanges",
                &["*", "", "10.0.0.0/8,fd00::/8"],
                &["10.0.0.0", "10.0.0.0/8, 10.1.0.0/16", "*,10.0.0.0/8"],
            ),
            (
                "traffic.sidecar.istio.io/includeInboundPorts",
                &["*", "", "80, 443"],
                &["80,,443", "http", "70000"],
            ),
            (
                "traffic.sidecar.istio.io/excludeInterfaces",
                &["eth0,net-1.2", ""],
                &["0eth", "a b"],
            ),
            (
                "sidecar.istio.io/proxyCPU",
                &["100m", "2", "0.5", "1e3", "128Mi"],
                &["", "m", "1.2.3", "12 Mi", "1\n"],
            ),
            (
                "sidecar.istio.io/userVolume",
                &["{}", r#"{"v":{"emptyDir":{}}}"#],
                &["[]", "x", r#"{"v":1}"#],
            ),
        ];
        for (name, good, bad) in rows {
            for value in good {
                let pod = json!({"metadata": {"annotations": {name: value}}});
                assert_eq!(check(&pod), Ok(()), "{name}={value:?}");
            }
            for value in bad {
                let pod = json!({"metadata": {"annotations": {name: value}}});
                let message = check(&pod).unwrap_err().to_string();
                assert!(
                    message.contains(name) && message.contains(&format!("{value:?}")),
                    "{message}"
                );
            }
        }
    }

    #[test]
    fn all_wrong_values_are_told_together() {
        let pod = json!({"metadata": {"annotations": {
            "traffic.sidecar.istio.io/includeOutboundIPRanges": "10.0.0.0",
            "sidecar.istio.io/nativeSidecar": "maybe"}}});
        let message = check(&pod).unwrap_err().to_string();
        assert!(message.contains("10.0.0.0") && message.contains("maybe"));
    }
}
