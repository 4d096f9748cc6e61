//! Changes to request and response headers.

use std::collections::BTreeMap;

use istio_api::{
    envoy::config::core::v3::{
        HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
    },
    networking::v1alpha3::{self as api, headers::HeaderOperations},
};

/// Header changes of a route or a destination in Envoy's form.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) request_add: Vec<HeaderValueOption>,
    pub(super) request_remove: Vec<String>,
    pub(super) response_add: Vec<HeaderValueOption>,
    pub(super) response_remove: Vec<String>,
    /// Set when the host is overwritten: Envoy has a separate field for it.
    pub(super) host: Option<String>,
}

/// The fields of Istio 1.1 that `headers` replaced.
pub(super) struct Legacy<'a> {
    pub(super) request_append: Vec<&'a BTreeMap<String, String>>,
    pub(super) request_remove: &'a [String],
    pub(super) response_append: &'a BTreeMap<String, String>,
    pub(super) response_remove: &'a [String],
}

pub(super) fn changes(headers: Option<&api::Headers>, legacy: &Legacy<'_>) -> Changes {
    let request = headers.and_then(|headers| headers.request.as_ref());
    let response = headers.and_then(|headers| headers.response.as_ref());
    Changes {
        request_add: additions(request, &legacy.request_append),
        request_remove: removals(request, legacy.request_remove),
        response_add: additions(response, &[legacy.response_append]),
        response_remove: removals(response, legacy.response_remove),
        host: request.and_then(|operations| {
            operations
                .set
                .iter()
                .find(|(name, _)| is_host(name))
                .map(|(_, value)| value.clone())
        }),
    }
}

/// Headers to set, then headers to add, each sorted by name.
fn additions(
    operations: Option<&HeaderOperations>,
    legacy: &[&BTreeMap<String, String>],
) -> Vec<HeaderValueOption> {
    let empty = BTreeMap::new();
    let (set, add) = operations.map_or((&empty, &empty), |o| (&o.set, &o.add));
    let mut added = add.clone();
    for (name, value) in legacy.iter().copied().flatten() {
        added.entry(name.clone()).or_insert_with(|| value.clone());
    }
    let option = |(name, value): (&String, &String), action: HeaderAppendAction| {
        (!is_reserved(name)).then(|| HeaderValueOption {
            header: Some(HeaderValue {
                key: name.clone(),
                value: value.clone(),
                ..Default::default()
            }),
            append_action: action.into(),
            ..Default::default()
        })
    };
    set.iter()
        .filter_map(|pair| option(pair, HeaderAppendAction::OverwriteIfExistsOrAdd))
        .chain(
            added
                .iter()
                .filter_map(|pair| option(pair, HeaderAppendAction::AppendIfExistsOrAdd)),
        )
        .collect()
}

fn removals(operations: Option<&HeaderOperations>, legacy: &[String]) -> Vec<String> {
    let mut names: Vec<String> = operations
        .map(|operations| operations.remove.as_slice())
        .unwrap_or_default()
        .iter()
        .chain(legacy)
        .filter(|name| !is_reserved(name))
        .cloned()
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.to_ascii_lowercase()));
    names
}

/// Envoy rejects route configurations that change these.
fn is_reserved(name: &str) -> bool {
    name.is_empty() || name.starts_with(':') || name.eq_ignore_ascii_case("host")
}

fn is_host(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}
