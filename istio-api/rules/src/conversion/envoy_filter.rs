//! EnvoyFilter of 1.1: `workloadLabels` and `filters`.
//!
//! | 1.1 | today |
//! |---|---|
//! | `workloadLabels` | `workloadSelector.labels` |
//! | `filters[]` | one `configPatches` entry each, after the existing ones |
//! | `filterType` `HTTP`, `NETWORK` | `applyTo` `HTTP_FILTER`, `NETWORK_FILTER` |
//! | `listenerMatch.listenerType`, `.portNumber` | `match.context`, `match.listener.portNumber` |
//! | `listenerMatch.portNamePrefix`, `.listenerProtocol`, `.address` | annotation [`CONDITIONS`], as no matcher has them |
//! | `insertPosition` `FIRST`, `LAST`, `BEFORE`, `AFTER` | `INSERT_FIRST`, `ADD`, `INSERT_BEFORE`, `INSERT_AFTER`; absent means `FIRST` |
//! | `relativeTo`, `filterName` | the name that Envoy uses today |
//! | `filterConfig` | `typed_config`; without `@type` the filter is refused, as Envoy does not find filters by name |

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use serde::{Deserialize, Serialize};

use super::{CONVERTED_FROM, Complaint, Converted, Source, made};
use crate::validation::current_filter_name;
use istio_api::networking::v1alpha3::envoy_filter::deprecated_listener_match::{
    ListenerProtocol, ListenerType,
};
use istio_api::networking::v1alpha3::envoy_filter::envoy_config_object_match::ObjectTypes;
use istio_api::networking::v1alpha3::envoy_filter::filter::FilterType;
use istio_api::networking::v1alpha3::envoy_filter::insert_position::Index;
use istio_api::networking::v1alpha3::envoy_filter::listener_match::{
    FilterChainMatch, FilterMatch, SubFilterMatch,
};
use istio_api::networking::v1alpha3::envoy_filter::patch::Operation;
use istio_api::networking::v1alpha3::envoy_filter::{
    ApplyTo, DeprecatedListenerMatch, EnvoyConfigObjectMatch, EnvoyConfigObjectPatch, Filter,
    ListenerMatch, Patch, PatchContext,
};
use istio_api::networking::v1alpha3::{EnvoyFilter, WorkloadSelector};
use istio_api::object::Object;

/// Annotation with conditions on listeners in patches of 1.1 that have no field: a JSON object
/// from the index in `configPatches` to [`Conditions`].
pub const CONDITIONS: &str = "internal.istio.io/listener-conditions";

/// Conditions of a patch on a listener, besides its `match`. All that are set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Conditions {
    /// Start of the name of the service port.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub port_name_prefix: String,
    /// `HTTP` or `TCP`: what the listener speaks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub listener_protocol: String,
    /// IP addresses or CIDR ranges of which the listener has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address: Vec<String>,
}

/// Reads annotation [`CONDITIONS`].
///
/// # Errors
/// If it is not what [`convert`] writes there.
pub fn conditions(object: &Object) -> Result<BTreeMap<usize, Conditions>, serde_json::Error> {
    match object.meta.annotations.get(CONDITIONS) {
        Some(text) => serde_json::from_str(text),
        None => Ok(BTreeMap::new()),
    }
}

/// Converts an EnvoyFilter; one without fields of 1.1 is returned unchanged.
#[must_use]
pub fn convert(object: &Object) -> Converted {
    let mut converted = Converted::default();
    let mut sources = Source::<EnvoyFilter>::all(
        std::slice::from_ref(object),
        "EnvoyFilter",
        &mut converted.complaints,
    );
    let Some(source) = sources.pop() else {
        return converted;
    };
    if source.spec.workload_labels.is_empty() && source.spec.filters.is_empty() {
        converted.objects.push(object.clone());
        return converted;
    }
    let mut spec = source.spec.clone();
    let mut meta = source.meta.clone();
    let labels = std::mem::take(&mut spec.workload_labels);
    if !labels.is_empty() {
        if spec.workload_selector.is_some() {
            converted.complaints.push(source.complaint(
                "spec.workloadLabels",
                "workloadSelector is set too and takes precedence: want one of the two",
            ));
        } else {
            spec.workload_selector = Some(WorkloadSelector { labels });
        }
    }
    let mut conditions: BTreeMap<usize, Conditions> = BTreeMap::new();
    for (i, filter) in std::mem::take(&mut spec.filters).iter().enumerate() {
        match patch(&source, i, filter) {
            Ok((patch, more)) => {
                if more != Conditions::default() {
                    conditions.insert(spec.config_patches.len(), more);
                }
                spec.config_patches.push(patch);
            }
            Err(complaint) => converted.complaints.push(complaint),
        }
    }
    meta.annotations
        .insert(CONVERTED_FROM.to_owned(), source.origin().title());
    if !conditions.is_empty() {
        match serde_json::to_string(&conditions) {
            Ok(text) => {
                meta.annotations.insert(CONDITIONS.to_owned(), text);
            }
            Err(error) => {
                let complaint = source.complaint("spec.filters", error.to_string());
                converted.complaints.push(complaint);
                return converted;
            }
        }
    }
    let made = made::valid(Object {
        meta,
        collection: object.collection,
        body: spec.encode_to_vec().into(),
    });
    match made {
        Ok(object) => converted.objects.push(object),
        Err(message) => converted.complaints.push(source.complaint("spec", message)),
    }
    converted.in_order()
}

fn patch(
    source: &Source<EnvoyFilter>,
    index: usize,
    filter: &Filter,
) -> Result<(EnvoyConfigObjectPatch, Conditions), Complaint> {
    let wrong = |field: &str, message: &str| {
        source.complaint(format!("spec.filters[{index}]{field}"), message)
    };
    let is_http = match filter.filter_type() {
        FilterType::Http => true,
        FilterType::Network => false,
        FilterType::Invalid => {
            return Err(wrong(
                ".filterType",
                "the type of the filter is not set: want HTTP or NETWORK",
            ));
        }
    };
    if filter.filter_name.is_empty() {
        return Err(wrong(".filterName", "the filter has no name: want one"));
    }
    let has_type = filter.filter_config.as_ref().is_some_and(|config| {
        let url = config.fields.get("@type").and_then(|url| url.kind.as_ref());
        matches!(url, Some(Kind::StringValue(url)) if !url.is_empty())
    });
    if !has_type {
        return Err(wrong(
            ".filterConfig",
            "there is no \"@type\", and Envoy no longer finds filters by name: want the type of the configuration",
        ));
    }
    let listener = filter.listener_match.clone().unwrap_or_default();
    let more = conditions_of(&listener, is_http)
        .map_err(|message| wrong(".listenerMatch.listenerProtocol", message))?;
    let position = filter.insert_position.clone().unwrap_or_default();
    let operation = match position.index() {
        Index::First => Operation::InsertFirst,
        Index::Last => Operation::Add,
        Index::Before => Operation::InsertBefore,
        Index::After => Operation::InsertAfter,
    };
    let is_relative = matches!(operation, Operation::InsertBefore | Operation::InsertAfter);
    if is_relative && position.relative_to.is_empty() {
        return Err(wrong(
            ".insertPosition.relativeTo",
            "the filter to go before or after is not named: want its name, or index FIRST or LAST",
        ));
    }
    let beside = is_relative.then(|| beside(is_http, &position.relative_to));
    let condition = EnvoyConfigObjectMatch {
        context: context(&listener).into(),
        object_types: (listener.port_number != 0 || beside.is_some()).then(|| {
            ObjectTypes::Listener(ListenerMatch {
                port_number: listener.port_number,
                filter_chain: beside,
                ..Default::default()
            })
        }),
        ..Default::default()
    };
    let one = EnvoyConfigObjectPatch {
        apply_to: if is_http {
            ApplyTo::HttpFilter
        } else {
            ApplyTo::NetworkFilter
        }
        .into(),
        r#match: Some(condition),
        patch: Some(Patch {
            operation: operation.into(),
            value: Some(value(filter)),
            ..Default::default()
        }),
    };
    let alone = EnvoyFilter {
        config_patches: vec![one.clone()],
        ..Default::default()
    };
    check(source, &alone).map_err(|message| wrong("", &message))?;
    Ok((one, more))
}

/// Checks that validation accepts it.
fn check(source: &Source<EnvoyFilter>, spec: &EnvoyFilter) -> Result<(), String> {
    let collection = istio_api::collections::by_gvk("networking.istio.io", source.kind);
    let collection = collection.ok_or_else(|| format!("{} is not a known kind", source.kind))?;
    made::valid(Object {
        meta: source.meta.clone(),
        collection,
        body: spec.encode_to_vec().into(),
    })
    .map(|_| ())
}

fn context(listener: &DeprecatedListenerMatch) -> PatchContext {
    match listener.listener_type() {
        ListenerType::Any => PatchContext::Any,
        ListenerType::SidecarInbound => PatchContext::SidecarInbound,
        ListenerType::SidecarOutbound => PatchContext::SidecarOutbound,
        ListenerType::Gateway => PatchContext::Gateway,
    }
}

fn conditions_of(
    listener: &DeprecatedListenerMatch,
    is_http: bool,
) -> Result<Conditions, &'static str> {
    let listener_protocol = match (listener.listener_protocol(), is_http) {
        (ListenerProtocol::Tcp, true) => {
            return Err(
                "HTTP filters are only in HTTP listeners: want HTTP, or filterType: NETWORK",
            );
        }
        // HTTP filters are in HTTP listeners only, so that condition always holds.
        (ListenerProtocol::All, _) | (ListenerProtocol::Http, true) => "",
        (ListenerProtocol::Http, false) => "HTTP",
        (ListenerProtocol::Tcp, false) => "TCP",
    };
    Ok(Conditions {
        port_name_prefix: listener.port_name_prefix.clone(),
        listener_protocol: listener_protocol.to_owned(),
        address: listener.address.clone(),
    })
}

/// A match on the filter before or after which the new one goes.
fn beside(is_http: bool, name: &str) -> FilterChainMatch {
    let name = current_filter_name(name).to_owned();
    let filter = if is_http {
        FilterMatch {
            name: "envoy.filters.network.http_connection_manager".to_owned(),
            sub_filter: Some(SubFilterMatch { name }),
        }
    } else {
        FilterMatch {
            name,
            sub_filter: None,
        }
    };
    FilterChainMatch {
        filter: Some(filter),
        ..Default::default()
    }
}

fn value(filter: &Filter) -> Struct {
    let name = Kind::StringValue(current_filter_name(&filter.filter_name).to_owned());
    let mut fields = BTreeMap::from([("name".to_owned(), Value { kind: Some(name) })]);
    if let Some(config) = &filter.filter_config {
        let config = Kind::StructValue(config.clone());
        fields.insert("typed_config".to_owned(), Value { kind: Some(config) });
    }
    Struct { fields }
}
