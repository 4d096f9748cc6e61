//! A custom bootstrap template, in Go's text/template syntax.

use std::sync::Arc;

use gotmpl::{Template, Value as Go};
use serde_json::{Value, json};

use super::Inputs;

/// Renders the template with the values of the built-in bootstrap.
///
/// # Errors
/// If the template cannot be parsed or executed.
pub fn render(text: &str, inputs: &Inputs<'_>) -> Result<String, gotmpl::TemplateError> {
    Template::new("bootstrap")
        .func("toJSON", |arguments| {
            let value = arguments.first().map_or(Value::Null, from_go);
            Ok(Go::String(value.to_string().into()))
        })
        .parse(text)?
        .execute_to_string(&to_go(&variables(inputs)))
}

/// The variables of a template.
#[must_use]
pub fn variables(inputs: &Inputs<'_>) -> Value {
    let [region, zone, sub_zone] = &inputs.node.locality;
    let families = inputs.families;
    json!({
        "node_id": inputs.node.id,
        "cluster": inputs.node.cluster,
        "region": region,
        "zone": zone,
        "sub_zone": sub_zone,
        "meta_json": Value::Object(inputs.node.metadata.clone()).to_string(),
        "localhost": families.localhost(),
        "wildcard": families.wildcard(),
        "additional_wildcard": families.other_wildcard().unwrap_or_default(),
        "dns_lookup_family": families.dns(),
        "admin_port": inputs.config.proxy_admin_port,
        "status_port": inputs.status_port,
        "envoy_status_port": inputs.envoy_status_port,
        "prometheus_port": inputs.envoy_prometheus_port,
        "discovery_host": inputs.discovery.host,
        "discovery_port": inputs.discovery.port,
        "discovery_name": inputs.discovery_name,
        "sds_socket": inputs.sds_socket,
        "connect_timeout": mesh_core::duration::json(inputs.config.connect_timeout),
        "zipkin": inputs.config.tracing.zipkin.as_ref().map_or("", |at| at.address.as_str()),
        "datadog": inputs.config.tracing.datadog.as_ref().map_or("", |at| at.address.as_str()),
        "statsd": inputs.statsd.map(|at| at.to_string()).unwrap_or_default(),
        "outlier_log_path": inputs.outlier_log_path,
    })
}

fn to_go(value: &Value) -> Go {
    match value {
        Value::Null => Go::Nil,
        Value::Bool(on) => Go::Bool(*on),
        Value::Number(number) => number
            .as_i64()
            .map_or_else(|| Go::Float(number.as_f64().unwrap_or(f64::NAN)), Go::Int),
        Value::String(text) => Go::String(text.as_str().into()),
        Value::Array(items) => Go::List(items.iter().map(to_go).collect()),
        Value::Object(map) => Go::Map(Arc::new(
            map.iter()
                .map(|(key, value)| (key.as_str().into(), to_go(value)))
                .collect(),
        )),
    }
}

fn from_go(value: &Go) -> Value {
    match value {
        Go::Bool(on) => (*on).into(),
        Go::Int(number) => (*number).into(),
        Go::Uint(number) => (*number).into(),
        Go::Float(number) => (*number).into(),
        Go::String(text) => text.as_ref().into(),
        Go::List(items) => items.iter().map(from_go).collect(),
        Go::Map(map) => Value::Object(
            map.iter()
                .map(|(key, value)| (key.to_string(), from_go(value)))
                .collect(),
        ),
        _ => Value::Null,
    }
}
