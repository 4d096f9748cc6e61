//! The value of a patch, which must be the Envoy message of the patched object.

use prost_reflect::{DynamicMessage, ReflectMessage, Value as Reflected};
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use serde_json::{Map, Number, Value as Json};

use crate::validation::report::{At, Check, quote};
use istio_api::networking::v1alpha3::envoy_filter::ApplyTo;
use istio_api::{any, descriptor, json};

const fn message(apply_to: ApplyTo) -> Option<&'static str> {
    Some(match apply_to {
        ApplyTo::Invalid => return None,
        ApplyTo::Listener => "envoy.config.listener.v3.Listener",
        ApplyTo::FilterChain => "envoy.config.listener.v3.FilterChain",
        ApplyTo::NetworkFilter => "envoy.config.listener.v3.Filter",
        ApplyTo::HttpFilter => {
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter"
        }
        ApplyTo::RouteConfiguration => "envoy.config.route.v3.RouteConfiguration",
        ApplyTo::VirtualHost => "envoy.config.route.v3.VirtualHost",
        ApplyTo::HttpRoute => "envoy.config.route.v3.Route",
        ApplyTo::Cluster => "envoy.config.cluster.v3.Cluster",
        ApplyTo::ExtensionConfig => "envoy.config.core.v3.TypedExtensionConfig",
        ApplyTo::Bootstrap => "envoy.config.bootstrap.v3.Bootstrap",
        ApplyTo::ListenerFilter => "envoy.config.listener.v3.ListenerFilter",
    })
}

pub(super) fn validate(check: &mut Check<'_>, at: &At<'_>, apply_to: ApplyTo, value: &Struct) {
    let Some(name) = message(apply_to) else {
        return;
    };
    let mut value = object(value);
    set_aside(check, at, &mut value);
    match json::read_dynamic(name, &value, json::Unknown::Prune) {
        Err(problems) => {
            for problem in problems {
                let hint = if problem.message.contains(".v2") {
                    ", and types of API version 3 such as envoy.config.cluster.v3.Cluster"
                } else {
                    ""
                };
                check.error(
                    "EF-19",
                    at,
                    format!(
                        "{} is not valid for Envoy: {}: want the fields of {name}{hint}",
                        quote(&problem.path),
                        problem.message
                    ),
                );
            }
        }
        Ok((bytes, unknown)) => {
            for issue in unknown {
                check.warn(
                    "EF-20",
                    at,
                    format!(
                        "{} is ignored: {}: want the fields of {name}",
                        quote(&issue.path),
                        issue.message
                    ),
                );
            }
            let decoded = descriptor::message(name)
                .and_then(|message| DynamicMessage::decode(message, bytes.as_slice()).ok());
            if let Some(message) = decoded {
                without_config(check, at, &message);
            }
        }
    }
}

/// Extensions of Envoy builds other than the stock one, by the start of their names. Their
/// messages are unknown here, but documents with them must not be refused.
const ELSEWHERE: [&str; 31] = [
    "envoy.extensions.compression.qat",
    "envoy.extensions.config.v3alpha.",
    "envoy.extensions.filters.http.checksum.",
    "envoy.extensions.filters.http.dynamo.",
    "envoy.extensions.filters.http.golang.",
    "envoy.extensions.filters.http.language.",
    "envoy.extensions.filters.http.squash.",
    "envoy.extensions.filters.http.sxg.",
    "envoy.extensions.filters.listener.postgres_inspector.",
    "envoy.extensions.filters.network.client_ssl_auth.",
    "envoy.extensions.filters.network.generic_proxy.codecs.",
    "envoy.extensions.filters.network.golang.",
    "envoy.extensions.filters.network.kafka_broker.",
    "envoy.extensions.filters.network.kafka_mesh.",
    "envoy.extensions.filters.network.mysql_proxy.",
    "envoy.extensions.filters.network.postgres_proxy.",
    "envoy.extensions.filters.network.rocketmq_proxy.",
    "envoy.extensions.filters.network.sip_proxy.",
    "envoy.extensions.load_balancing_policies.peak_ewma.",
    "envoy.extensions.matching.input_matchers.hyperscan.",
    "envoy.extensions.network.connection_balance.dlb.",
    "envoy.extensions.private_key_providers.",
    "envoy.extensions.regex_engines.hyperscan.",
    "envoy.extensions.router.cluster_specifier.golang.",
    "envoy.extensions.stat_sinks.",
    "envoy.extensions.tap_sinks.",
    "envoy.extensions.upstreams.http.tcp.golang.",
    "envoy.tcp.metadataexchange.",
    "io.istio.",
    "istio.",
    "stats.",
];

/// Replaces messages that cannot be decoded here by empty ones, with a warning.
fn set_aside(check: &mut Check<'_>, at: &At<'_>, value: &mut Json) {
    if let Some(url) = value.get("@type").and_then(Json::as_str) {
        let name = any::message_name(url);
        let is_elsewhere = ELSEWHERE.iter().any(|prefix| name.starts_with(prefix));
        if is_elsewhere && descriptor::message(name).is_none() {
            check.warn(
                "EF-20",
                at,
                format!(
                    "{} is not checked, as stock Envoy does not have it: want a type of the stock release",
                    quote(name)
                ),
            );
            let empty = any::type_url::<()>();
            *value = Json::Object(Map::from_iter([("@type".to_owned(), Json::String(empty))]));
            return;
        }
    }
    match value {
        Json::Array(values) => values
            .iter_mut()
            .for_each(|value| set_aside(check, at, value)),
        Json::Object(members) => members
            .values_mut()
            .for_each(|value| set_aside(check, at, value)),
        _ => {}
    }
}

/// Warns of filters without configuration: Envoy does not find a filter by its name alone.
fn without_config(check: &mut Check<'_>, at: &At<'_>, message: &DynamicMessage) {
    let has = |field: &str| message.has_field_by_name(field);
    if message
        .descriptor()
        .get_field_by_name("typed_config")
        .is_some()
        && !has("typed_config")
        && !has("config_discovery")
    {
        let name = message.get_field_by_name("name");
        let name = name
            .as_ref()
            .and_then(|name| name.as_str())
            .unwrap_or_default();
        check.warn("EF-22", at, format!(
            "{} has no configuration, and Envoy does not find filters by name: want typed_config with an @type",
            quote(name)
        ));
    }
    for (_, value) in message.fields() {
        inside(check, at, value);
    }
}

fn inside(check: &mut Check<'_>, at: &At<'_>, value: &Reflected) {
    match value {
        Reflected::Message(message) => without_config(check, at, message),
        Reflected::List(values) => {
            for value in values {
                inside(check, at, value);
            }
        }
        Reflected::Map(values) => {
            for value in values.values() {
                inside(check, at, value);
            }
        }
        _ => {}
    }
}

fn object(value: &Struct) -> Json {
    let members = value.fields.iter();
    Json::Object(
        members
            .map(|(name, value)| (name.clone(), plain(value)))
            .collect::<Map<_, _>>(),
    )
}

fn plain(value: &Value) -> Json {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => Json::Bool(*value),
        Some(Kind::NumberValue(value)) => number(*value),
        Some(Kind::StringValue(value)) => Json::String(value.clone()),
        Some(Kind::StructValue(value)) => object(value),
        Some(Kind::ListValue(list)) => Json::Array(list.values.iter().map(plain).collect()),
    }
}

/// Whole numbers become JSON integers: integer fields accept nothing else.
fn number(value: f64) -> Json {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
        return Json::from(value as i64);
    }
    Number::from_f64(value).map_or(Json::Null, Json::Number)
}
