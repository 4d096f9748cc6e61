//! Functions of templates: those of Istio's injection templates, the ones of sprig that these use,
//! and four additional ones (`portList`, `podPorts`, `appContainers`, `rangeable`).

mod arguments;
mod istio;
mod sprig;

use super::go_value::to_json;
use crate::pod::sorted_json;
use arguments::{Result, arg, arg_text, items, map_of, number, string};
use gotmpl::{FuncMap, TemplateError, Value as GoValue};
use std::sync::Arc;

type Function = fn(&[GoValue]) -> Result;

/// All functions by name.
pub(super) fn all() -> FuncMap {
    let functions: [(&str, Function); 74] = [
        ("annotation", istio::annotation),
        ("isset", istio::isset),
        ("valueOrDefault", istio::value_or_default),
        ("excludeInboundPort", istio::exclude_inbound_port),
        ("includeInboundPorts", |args| {
            istio::container_ports(args, false)
        }),
        ("applicationPorts", |args| {
            istio::container_ports(args, true)
        }),
        ("kubevirtInterfaces", istio::identity),
        ("excludeInterfaces", istio::identity),
        ("formatDuration", istio::identity),
        ("toJSON", sprig::to_json_text),
        ("toJson", sprig::to_json_text),
        ("fromJSON", sprig::from_json),
        ("fromJson", sprig::from_json),
        ("toYaml", sprig::to_yaml),
        ("indent", sprig::indent),
        ("nindent", sprig::nindent),
        ("directory", istio::directory),
        ("structToJSON", istio::struct_to_json),
        ("protoToJSON", istio::proto_to_json),
        ("contains", |args| {
            Ok(GoValue::Bool(
                arg_text(args, 1).contains(&arg_text(args, 0)),
            ))
        }),
        ("toLower", |args| {
            Ok(string(arg_text(args, 0).to_lowercase()))
        }),
        ("lower", |args| Ok(string(arg_text(args, 0).to_lowercase()))),
        ("upper", |args| Ok(string(arg_text(args, 0).to_uppercase()))),
        ("env", |args| Ok(arg(args, 1))),
        ("omit", sprig::omit),
        ("omitNil", sprig::omit_nil),
        ("strdict", sprig::dict),
        ("dict", sprig::dict),
        ("mergeMaps", istio::merge_maps),
        ("toJsonMap", |args| {
            Ok(string(sorted_json(&to_json(&istio::merge_maps(args)?))))
        }),
        ("appendMultusNetwork", istio::append_multus_network),
        ("default", |args| {
            Ok(if arg(args, 1).is_truthy() {
                arg(args, 1)
            } else {
                arg(args, 0)
            })
        }),
        ("coalesce", |args| {
            Ok(args
                .iter()
                .find(|v| v.is_truthy())
                .cloned()
                .unwrap_or(GoValue::Nil))
        }),
        ("ternary", |args| {
            Ok(if arg(args, 2).is_truthy() {
                arg(args, 0)
            } else {
                arg(args, 1)
            })
        }),
        ("empty", |args| Ok(GoValue::Bool(!arg(args, 0).is_truthy()))),
        ("quote", |args| {
            Ok(string(
                args.iter().map(sprig::quoted).collect::<Vec<_>>().join(" "),
            ))
        }),
        ("squote", |args| {
            Ok(string(format!(
                "'{}'",
                arg_text(args, 0).replace('\'', "''")
            )))
        }),
        ("trunc", sprig::trunc),
        ("trim", |args| {
            Ok(string(arg_text(args, 0).trim().to_owned()))
        }),
        ("trimSuffix", |args| {
            Ok(sprig::trimmed(args, |whole, part| whole.strip_suffix(part)))
        }),
        ("trimPrefix", |args| {
            Ok(sprig::trimmed(args, |whole, part| whole.strip_prefix(part)))
        }),
        ("trimAll", |args| {
            let cut = arg_text(args, 0);
            Ok(string(
                arg_text(args, 1)
                    .trim_matches(|c| cut.contains(c))
                    .to_owned(),
            ))
        }),
        // The attributes come from a mesh setting that does not exist here.
        ("otelResourceAttributes", |_| Ok(string(String::new()))),
        ("hasPrefix", |args| {
            Ok(GoValue::Bool(
                arg_text(args, 1).starts_with(&arg_text(args, 0)),
            ))
        }),
        ("hasSuffix", |args| {
            Ok(GoValue::Bool(
                arg_text(args, 1).ends_with(&arg_text(args, 0)),
            ))
        }),
        ("replace", |args| {
            Ok(string(
                arg_text(args, 2).replace(&arg_text(args, 0), &arg_text(args, 1)),
            ))
        }),
        ("join", sprig::join),
        ("split", sprig::split),
        ("splitList", sprig::split),
        ("list", |args| Ok(GoValue::List(args.into()))),
        ("append", sprig::append),
        ("prepend", sprig::prepend),
        ("concat", |args| {
            Ok(GoValue::List(args.iter().flat_map(items).collect()))
        }),
        ("first", |args| {
            Ok(items(&arg(args, 0))
                .first()
                .cloned()
                .unwrap_or(GoValue::Nil))
        }),
        ("last", |args| {
            Ok(items(&arg(args, 0)).last().cloned().unwrap_or(GoValue::Nil))
        }),
        ("rest", |args| {
            Ok(GoValue::List(
                items(&arg(args, 0)).into_iter().skip(1).collect(),
            ))
        }),
        ("uniq", sprig::uniq),
        ("has", |args| {
            Ok(GoValue::Bool(items(&arg(args, 1)).contains(&arg(args, 0))))
        }),
        ("hasKey", |args| istio::isset(args)),
        ("get", |args| {
            Ok(arg(args, 0)
                .field(&arg_text(args, 1))
                .cloned()
                .unwrap_or_else(|| string(String::new())))
        }),
        ("keys", |args| {
            Ok(GoValue::List(
                map_of(&arg(args, 0))
                    .into_keys()
                    .map(GoValue::String)
                    .collect(),
            ))
        }),
        ("values", |args| {
            Ok(GoValue::List(map_of(&arg(args, 0)).into_values().collect()))
        }),
        ("toString", |args| Ok(string(arg_text(args, 0)))),
        ("int", sprig::int),
        ("int64", sprig::int),
        ("atoi", sprig::int),
        ("add", |args| {
            Ok(GoValue::Int(
                args.iter().map(number).fold(0, i64::saturating_add),
            ))
        }),
        ("sub", |args| {
            Ok(GoValue::Int(
                number(&arg(args, 0)).saturating_sub(number(&arg(args, 1))),
            ))
        }),
        ("b64enc", sprig::b64enc),
        ("fail", |args| Err(TemplateError::Exec(arg_text(args, 0)))),
        ("portList", |args| {
            Ok(string(istio::port_list(&arg_text(args, 0)).join(",")))
        }),
        ("podPorts", istio::pod_ports),
        ("appContainers", istio::app_containers),
        ("rangeable", |args| {
            Ok(match arg(args, 0) {
                GoValue::Nil => GoValue::List([].into()),
                value => value,
            })
        }),
    ];
    functions
        .into_iter()
        .map(|(name, function)| (name.to_owned(), Arc::new(function) as gotmpl::ValueFunc))
        .collect()
}
