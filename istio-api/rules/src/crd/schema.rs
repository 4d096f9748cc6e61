//! From a message to a structural schema (`openAPIV3Schema`).

use istio_api::description;
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::limits::{self, Limit};

type Members = Map<String, Value>;

/// The schema of a message that is an object's `spec`.
pub(super) fn of_root(message: &MessageDescriptor) -> Value {
    let mut schema = of_message(message, &mut Vec::new());
    limits::of_message(message.full_name())
        .iter()
        .for_each(|limit| limit.add(&mut schema));
    if let Some(text) = description::of(message.full_name()) {
        schema.insert("description".to_owned(), json!(text));
    }
    Value::Object(schema)
}

/// `open`: the messages around this one, outermost first.
fn of_message(message: &MessageDescriptor, open: &mut Vec<String>) -> Members {
    let name = message.full_name();
    if open.iter().any(|outer| outer == name) {
        // No structural schema can contain itself.
        return anything();
    }
    open.push(name.to_owned());
    let mut properties = Members::new();
    let mut required = Vec::new();
    for field in message.fields() {
        let limits = limits::of_field(name, field.json_name());
        let mut schema = of_field(&field, limits, open);
        if let Some(text) = description(&field) {
            schema.insert("description".to_owned(), json!(text));
        }
        if limits.contains(&Limit::Required) {
            required.push(field.json_name().to_owned());
        }
        if limits.contains(&Limit::ProtoSpelling) {
            properties.insert(field.name().to_owned(), Value::Object(schema.clone()));
        }
        properties.insert(field.json_name().to_owned(), Value::Object(schema));
    }
    open.pop();

    let mut schema = object(json!({"type": "object", "properties": properties}));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    let mut choices: Vec<Value> = message
        .oneofs()
        .filter(|oneof| !oneof.is_synthetic() && oneof.fields().len() > 1)
        .map(|oneof| at_most_one(oneof.fields().map(|field| field.json_name().to_owned())))
        .collect();
    if choices.len() > 1 {
        schema.insert("allOf".to_owned(), Value::Array(choices));
    } else if let Some(choice) = choices.pop() {
        schema.extend(object(choice));
    }
    schema
}

fn of_field(field: &FieldDescriptor, limits: &[Limit], open: &mut Vec<String>) -> Members {
    let own = limits.iter();
    if field.is_map() {
        let value = match field.kind() {
            Kind::Message(entry) => of_kind(&entry.map_entry_value_field(), limits, open),
            _ => Members::new(),
        };
        let mut map = object(json!({
            "type": "object",
            "additionalProperties": with_elements(value, limits),
        }));
        own.for_each(|limit| limit.add(&mut map));
        return map;
    }
    let one = of_kind(field, limits, open);
    let mut schema = if field.is_list() {
        object(json!({"type": "array", "items": with_elements(one, limits)}))
    } else {
        one
    };
    own.for_each(|limit| limit.add(&mut schema));
    schema
}

fn with_elements(mut schema: Members, limits: &[Limit]) -> Members {
    for limit in limits {
        if let Limit::Elements(limits) = limit {
            limits.iter().for_each(|limit| limit.add(&mut schema));
        }
    }
    schema
}

/// The schema of a value: of the field itself, of an element or of a map's value.
fn of_kind(field: &FieldDescriptor, limits: &[Limit], open: &mut Vec<String>) -> Members {
    match field.kind() {
        Kind::Bool => object(json!({"type": "boolean"})),
        Kind::String => object(json!({"type": "string"})),
        Kind::Bytes => object(json!({"type": "string", "format": "byte"})),
        Kind::Float => object(json!({"type": "number", "format": "float"})),
        Kind::Double => object(json!({"type": "number", "format": "double"})),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            object(json!({"type": "integer", "format": "int32"}))
        }
        Kind::Uint32 | Kind::Fixed32 => {
            object(json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}))
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            object(json!({"type": "integer", "format": "int64"}))
        }
        Kind::Uint64 | Kind::Fixed64 => object(json!({"type": "integer", "minimum": 0})),
        Kind::Enum(kind) => of_enum(&kind),
        Kind::Message(message) => of_sub_message(&message, limits, open),
    }
}

fn of_enum(kind: &EnumDescriptor) -> Members {
    let values: Vec<_> = kind.values().map(|value| value.name().to_owned()).collect();
    object(json!({"type": "string", "enum": values}))
}

fn of_sub_message(
    message: &MessageDescriptor,
    limits: &[Limit],
    open: &mut Vec<String>,
) -> Members {
    let wrapped = |schema: Value| {
        let mut schema = object(schema);
        schema.insert("nullable".to_owned(), json!(true));
        schema
    };
    match message.full_name() {
        "google.protobuf.Duration" => {
            let mut schema = object(json!({"type": "string"}));
            if !limits.contains(&Limit::ZeroDuration) {
                limits::LEAST_DURATION.add(&mut schema);
            }
            schema
        }
        "google.protobuf.Timestamp" => object(json!({"type": "string", "format": "date-time"})),
        "google.protobuf.BoolValue" => wrapped(json!({"type": "boolean"})),
        "google.protobuf.StringValue" => wrapped(json!({"type": "string"})),
        "google.protobuf.DoubleValue" => wrapped(json!({"type": "number", "format": "double"})),
        "google.protobuf.Int32Value" => wrapped(json!({"type": "integer", "format": "int32"})),
        "google.protobuf.Int64Value" => wrapped(json!({"type": "integer", "format": "int64"})),
        "google.protobuf.UInt32Value" => {
            wrapped(json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}))
        }
        "google.protobuf.UInt64Value" => wrapped(json!({"type": "integer", "minimum": 0})),
        "google.protobuf.Struct" | "google.protobuf.Any" => anything(),
        "google.protobuf.Value" => object(json!({"x-kubernetes-preserve-unknown-fields": true})),
        name => {
            let mut schema = of_message(message, open);
            if !limits.contains(&Limit::BareMessage) {
                limits::of_message(name)
                    .iter()
                    .for_each(|limit| limit.add(&mut schema));
            }
            schema
        }
    }
}

/// None of the members, or one.
fn at_most_one(names: impl Iterator<Item = String>) -> Value {
    let each: Vec<Value> = names.map(|name| json!({"required": [name]})).collect();
    let mut arms = vec![json!({"not": {"anyOf": each}})];
    arms.extend(each);
    json!({"oneOf": arms})
}

/// The comment of a field, and of the values where it is an enumeration.
fn description(field: &FieldDescriptor) -> Option<String> {
    let own = description::of(field.full_name()).map(str::to_owned);
    let Kind::Enum(kind) = field.kind() else {
        return own;
    };
    let values: Vec<_> = kind
        .values()
        .filter_map(|value| {
            let name = format!("{}.{}", kind.full_name(), value.name());
            description::of(&name).map(|text| format!("`{}`: {text}", value.name()))
        })
        .collect();
    let parts: Vec<String> = own.into_iter().chain(values).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

fn anything() -> Members {
    object(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}))
}

fn object(value: Value) -> Members {
    match value {
        Value::Object(members) => members,
        _ => Members::new(),
    }
}
