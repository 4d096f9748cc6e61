//! Which statistics Envoy keeps, and how their names are split into tags.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};

use super::{Inputs, object, time};
use mesh_core::duration;

/// Tag name and expression; the first group is removed from the name.
const TAGS: [(&str, &str); 12] = [
    ("cluster_name", r"^cluster(\.(.+);)"),
    (
        "http_conn_manager_prefix",
        r"^http\.(((?:[_.[:digit:]\w]*|[_\[\]aAbBcCdDeEfF[:digit:]\w\:]*));\.)",
    ),
    ("thread_name", r"^server(\.(.+))\.watchdog"),
    ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
    ("response_code", r"_rq(_(\d{3}))$"),
    ("response_code_class", r"_rq(_(\dxx))$"),
    (
        "http_conn_manager_listener_prefix",
        r"^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
    ),
    (
        "listener_address",
        r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
    ),
    (
        "mongo_prefix",
        r"^mongo\.(.+?)\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$",
    ),
    ("authz_enforce_result", r"rbac(\.(allowed|denied))"),
    ("authz_dry_run_action", r"(\.istio_dry_run_(allow|deny)_)"),
    ("authz_dry_run_result", r"(\.shadow_(allowed|denied))"),
];
const PREFIXES: [&str; 8] = [
    "reporter=",
    "cluster_manager",
    "listener_manager",
    "server",
    "cluster.xds-grpc",
    "wasm",
    "component",
    "istio",
];
const SUFFIXES: [&str; 4] = [
    "rbac.allowed",
    "rbac.denied",
    "shadow_allowed",
    "shadow_denied",
];
const REGEXES: [&str; 1] = [r"vhost\..*\.route\..*"];
/// Statistic of open connections, used during shutdown.
pub const ACTIVE_CONNECTIONS: &str = "downstream_cx_active";

const INCLUDE: &str = "sidecar.istio.io/statsInclusion";
const EXTRA_TAGS: &str = "sidecar.istio.io/extraStatTags";
const BUCKETS: &str = "sidecar.istio.io/statsHistogramBuckets";
const FLUSH: &str = "sidecar.istio.io/statsFlushInterval";
const EVICTION: &str = "sidecar.istio.io/statsEvictionInterval";
/// Envoy's default.
const DEFAULT_FLUSH: Duration = Duration::from_secs(5);

/// The field `stats_config`.
pub(super) fn config(inputs: &Inputs<'_>, warnings: &mut Vec<String>) -> Result<Value, String> {
    let mut tags: Vec<Value> = TAGS
        .iter()
        .map(|(name, regex)| json!({"tag_name": name, "regex": regex}))
        .collect();
    let mut extra = inputs.config.extra_stat_tags.clone();
    extra.extend(list(inputs.annotations, EXTRA_TAGS).unwrap_or_default());
    extra.sort();
    extra.dedup();
    for tag in extra {
        if tag.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            tags.push(json!({"tag_name": tag, "regex": format!(r"({tag}=\.=(.*?);\.;)")}));
        } else {
            warnings.push(format!(
                "{EXTRA_TAGS}: {tag:?} is not a valid tag name and is ignored"
            ));
        }
    }
    let mut config = object(json!({
        "use_all_default_tags": false,
        "stats_tags": tags,
        "stats_matcher": {"inclusion_list": {"patterns": patterns(inputs)}},
    }));
    if let Some(text) = inputs.annotations.get(BUCKETS) {
        let buckets: BTreeMap<String, Vec<f64>> = serde_json::from_str(text)
            .map_err(|error| format!("invalid annotation {BUCKETS}: {error}"))?;
        let settings: Value = buckets
            .iter()
            .map(|(prefix, buckets)| json!({"match": {"prefix": prefix}, "buckets": buckets}))
            .collect();
        config.insert("histogram_bucket_settings".to_owned(), settings);
    }
    Ok(Value::Object(config))
}

/// Flush and eviction intervals from annotations.
pub(super) fn flush(
    inputs: &Inputs<'_>,
    root: &mut Map<String, Value>,
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    let interval = |name: &str| match inputs.annotations.get(name) {
        None => Ok(None),
        Some(text) => duration::parse(text.trim())
            .ok()
            .filter(|interval| !interval.is_zero())
            .map(Some)
            .ok_or_else(|| {
                format!(
                    "invalid duration {text:?} in annotation {name}: want a number with a unit, \
                     such as 5s"
                )
            }),
    };
    let flush = interval(FLUSH)?;
    if let Some(flush) = flush {
        root.insert("stats_flush_interval".to_owned(), time(flush));
    }
    if let Some(eviction) = interval(EVICTION)? {
        let flush = flush.unwrap_or(DEFAULT_FLUSH);
        if eviction.as_nanos().is_multiple_of(flush.as_nanos()) {
            root.insert("stats_eviction_interval".to_owned(), time(eviction));
        } else {
            warnings.push(format!(
                "annotation {EVICTION} is ignored: it is not a multiple of the flush interval"
            ));
        }
    }
    Ok(())
}

fn patterns(inputs: &Inputs<'_>) -> Vec<Value> {
    let matcher = &inputs.config.proxy_stats_matcher;
    let chosen = |kind: &str, configured: &[String]| {
        list(inputs.annotations, &format!("{INCLUDE}{kind}")).unwrap_or_else(|| configured.to_vec())
    };
    let mut found = Vec::new();
    let mut add = |kind: &str, pattern: &str| {
        for pattern in per_address(pattern, inputs) {
            let value = match kind {
                "safe_regex" => json!({"safe_regex": {"regex": pattern}}),
                _ => json!({kind: pattern}),
            };
            if !found.contains(&value) {
                found.push(value);
            }
        }
    };
    for prefix in PREFIXES {
        add("prefix", prefix);
    }
    for suffix in SUFFIXES {
        add("suffix", suffix);
    }
    if inputs.count_connections {
        add("suffix", ACTIVE_CONNECTIONS);
    }
    for regex in REGEXES {
        add("safe_regex", regex);
    }
    for prefix in chosen("Prefixes", &matcher.inclusion_prefixes) {
        add("prefix", &prefix);
    }
    for suffix in chosen("Suffixes", &matcher.inclusion_suffixes) {
        add("suffix", &suffix);
    }
    for regex in chosen("Regexps", &matcher.inclusion_regexps) {
        add("safe_regex", &regex);
    }
    found
}

/// Expands `{pod_ip}` into one pattern per address.
fn per_address(pattern: &str, inputs: &Inputs<'_>) -> Vec<String> {
    if pattern.contains("{pod_ip}") {
        inputs
            .addresses
            .iter()
            .map(|address| pattern.replace("{pod_ip}", &address.to_string()))
            .collect()
    } else {
        vec![pattern.to_owned()]
    }
}

fn list(annotations: &BTreeMap<String, String>, name: &str) -> Option<Vec<String>> {
    let text = annotations.get(name)?;
    Some(
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect(),
    )
}
