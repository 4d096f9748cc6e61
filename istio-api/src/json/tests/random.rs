//! Random messages there and back, and random nonsense in.

use proptest::prelude::*;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::super::{Unknown, read_dynamic, write};
use crate::descriptor;

/// Choices out of a seed: enough for tests, and shrinks with the seed.
struct Choices(u64);

impl Choices {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn text(&mut self) -> String {
        [
            "",
            "a",
            "reviews.default",
            "*",
            "é\u{1f980}",
            "yes",
            "1.5s",
            "\"\\\n",
        ][self.below(8)]
        .to_owned()
    }

    fn message(&mut self, message: &MessageDescriptor, depth: usize) -> Value {
        match message.full_name() {
            "google.protobuf.Any" => {
                json!({"@type": "type.googleapis.com/envoy.config.rbac.v3.RBAC",
                       "policies": {(self.text()): {"principals": [{"any": true}]}, "z": {}}})
            }
            "google.protobuf.Duration" => json!(["0s", "1h", "-1.5s", "3ns", "9us"][self.below(5)]),
            "google.protobuf.Timestamp" => {
                json!(["1970-01-01T00:00:00Z", "2030-12-31T23:59:59.123456789Z"][self.below(2)])
            }
            "google.protobuf.FieldMask" => json!(["", "a", "fooBar,baz.quxQuux"][self.below(3)]),
            "google.protobuf.Struct" => {
                json!({(self.text()): self.next() as u32, "l": [null, {}, [true]]})
            }
            "google.protobuf.Value" => {
                [json!(null), json!(1.5), json!({"a": []}), json!("x")][self.below(4)].clone()
            }
            "google.protobuf.ListValue" => json!([1, null, {}]),
            name if name.starts_with("google.protobuf.") && name.ends_with("Value") => {
                self.scalar(&message.get_field(1).unwrap().kind())
            }
            _ => {
                let mut members = Map::new();
                for field in message.fields() {
                    if self.below(3) == 0
                        && (depth < 6 || !matches!(field.kind(), Kind::Message(_)))
                    {
                        let name = if self.below(2) == 0 {
                            field.name()
                        } else {
                            field.json_name()
                        };
                        members.insert(name.to_owned(), self.field(&field, depth));
                    }
                }
                Value::Object(members)
            }
        }
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        if field.is_map() {
            let Kind::Message(entry) = field.kind() else {
                unreachable!()
            };
            let mut members = Map::new();
            for _ in 0..self.below(3) {
                let key = match entry.map_entry_key_field().kind() {
                    Kind::String => self.text(),
                    Kind::Bool => "true".to_owned(),
                    _ => self.below(100_000).to_string(),
                };
                members.insert(
                    key,
                    self.single(&entry.map_entry_value_field().kind(), depth),
                );
            }
            Value::Object(members)
        } else if field.is_list() {
            (0..self.below(3))
                .map(|_| self.single(&field.kind(), depth))
                .collect()
        } else {
            self.single(&field.kind(), depth)
        }
    }

    fn single(&mut self, kind: &Kind, depth: usize) -> Value {
        match kind {
            Kind::Message(message) => self.message(message, depth + 1),
            kind => self.scalar(kind),
        }
    }

    fn scalar(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Bool => json!(self.below(2) == 0),
            Kind::String => json!(self.text()),
            Kind::Bytes => json!(["", "AQID", "+/8="][self.below(3)]),
            Kind::Double | Kind::Float => [
                json!(0),
                json!(-0.0),
                json!(0.1),
                json!(1e20),
                json!("Infinity"),
            ][self.below(5)]
            .clone(),
            Kind::Enum(kind) => {
                let values: Vec<_> = kind.values().collect();
                let value = &values[self.below(values.len())];
                if self.below(2) == 0 {
                    json!(value.name())
                } else {
                    json!(value.number())
                }
            }
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!([0, 1, -1, i32::MIN, i32::MAX][self.below(5)])
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!([0, 1, -1, i64::MIN, i64::MAX][self.below(5)].to_string())
            }
            Kind::Uint32 | Kind::Fixed32 => json!([0, 1, u32::MAX][self.below(3)]),
            Kind::Uint64 | Kind::Fixed64 => json!([0, 1, u64::MAX][self.below(3)].to_string()),
            Kind::Message(_) => unreachable!(),
        }
    }
}

/// Messages that people write, and the Envoy ones with the most kinds of fields.
fn message(index: usize) -> MessageDescriptor {
    let mut names: Vec<_> = descriptor::pool()
        .all_messages()
        .filter(|message| message.full_name().starts_with("istio.") && !message.is_map_entry())
        .collect();
    for name in [
        "envoy.config.bootstrap.v3.Bootstrap",
        "envoy.config.cluster.v3.Cluster",
        "envoy.config.listener.v3.Listener",
        "envoy.config.route.v3.RouteConfiguration",
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "envoy.service.discovery.v3.DeltaDiscoveryResponse",
        "envoy.service.status.v3.ClientStatusResponse",
    ] {
        names.push(descriptor::message(name).unwrap());
    }
    names.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    names[index % names.len()].clone()
}

fn nonsense() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[-+0-9a-zA-Z.=@é]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        let name = prop_oneof![
            "(http|route|match|headers|value|@type|spec|hosts|port|patch|typedConfig|[a-z]{1,4})",
            Just("configPatches".to_owned()),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(name, inner, 0..5)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn random_messages_survive_writing_and_reading(index in any::<usize>(), seed in any::<u64>()) {
        let message = message(index);
        let value = Choices(seed).message(&message, 0);
        let (bytes, issues) = read_dynamic(message.full_name(), &value, Unknown::Refuse)
            .map_err(|errors| TestCaseError::fail(format!("{}: {errors:?}", message.full_name())))?;
        prop_assert_eq!(issues, []);
        let written = write(message.full_name(), &bytes).unwrap();
        prop_assert_eq!(&written, &write(message.full_name(), &bytes).unwrap());
        let (again, _) = read_dynamic(message.full_name(), &written, Unknown::Refuse).unwrap();
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn nonsense_is_read_or_refused(index in any::<usize>(), value in nonsense()) {
        let message = message(index);
        for mode in [Unknown::Refuse, Unknown::Prune] {
            if let Ok((bytes, _)) = read_dynamic(message.full_name(), &value, mode) {
                // A number may stand in a Struct that JSON cannot hold; everything else is written.
                let _ = write(message.full_name(), &bytes);
            }
        }
    }

    #[test]
    fn any_bytes_are_written_or_refused(index in any::<usize>(), bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = write(message(index).full_name(), &bytes);
    }
}
