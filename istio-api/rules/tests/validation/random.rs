//! Random messages of every kind: validation never panics.

use istio_api::collections::COLLECTIONS;
use istio_api::descriptor;
use istio_api::object::{Meta, Object};
use istio_rules::validation::{Severity, validate};
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

/// Choices from bytes; once these are used up, always the first.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> i64 {
        let known = [
            0,
            1,
            -1,
            80,
            100,
            503,
            65_536,
            5_000_011,
            i64::from(i32::MIN),
            i64::MAX,
            i64::MIN,
        ];
        let index = usize::from(self.byte());
        known.get(index).copied().unwrap_or(index as i64)
    }

    fn text(&mut self) -> String {
        let known = [
            "",
            "a",
            "*",
            "*.a.com",
            "a.com",
            "ns/*",
            "./é",
            "~/x.y",
            "unix:///s",
            "unix://@",
            "10.0.0.0/8",
            "::1",
            "[::1]:80",
            ":80",
            "127.0.0.1:99999",
            "%A(%",
            "@request.auth.claims[",
            "@request.auth.claims[é]",
            "outbound_.80_._.a",
            "(?P<é>",
            "[[:",
            "\\p{",
            "\\x{",
            "a{2,}{",
            "{**}/{*}",
            "/{",
            "configmap:///",
            "https://[::1]:a@%",
            "{\"keys\": [{}]}",
            "{\"kty\": \"oct\", \"k\": 1}",
            "a.b(",
            "'\\u12",
            "0x",
            "us/*/a",
            "source.ip",
            "request.headers[",
            "]",
            "TLS",
            "HTTP",
            "TCP",
            "default",
            ".",
            "~",
            "envoy.lua",
        ];
        let index = usize::from(self.byte());
        match known.get(index) {
            Some(text) => (*text).to_owned(),
            None => {
                let length = usize::from(self.byte() % 8);
                (0..length).map(|_| char::from(self.byte())).collect()
            }
        }
    }

    fn message(&mut self, message: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut built = DynamicMessage::new(message.clone());
        if depth == 0 {
            return built;
        }
        for field in message.fields() {
            // Rarely set deep inside: otherwise a message would be nothing but its first branch.
            if self.byte() % 3 == 1 {
                let value = self.field(&field, depth);
                built.set_field(&field, value);
            }
        }
        built
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        let count = usize::from(self.byte() % 3) + 1;
        if field.is_map() {
            let Kind::Message(entry) = field.kind() else {
                unreachable!("maps are lists of messages")
            };
            let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            let pairs = (0..count).map(|_| {
                let key = match key.kind() {
                    Kind::String => MapKey::String(self.text()),
                    _ => MapKey::U32(self.number() as u32),
                };
                (key, self.single(&value.kind(), depth))
            });
            Value::Map(pairs.collect())
        } else if field.is_list() {
            Value::List(
                (0..count)
                    .map(|_| self.single(&field.kind(), depth))
                    .collect(),
            )
        } else {
            self.single(&field.kind(), depth)
        }
    }

    fn single(&mut self, kind: &Kind, depth: usize) -> Value {
        match kind {
            Kind::Double => Value::F64(
                [0.5, -1.0, f64::NAN, f64::INFINITY, 1e300][usize::from(self.byte() % 5)],
            ),
            Kind::Float => Value::F32(0.5),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(self.number() as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(self.number()),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(self.number() as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(self.number() as u64),
            Kind::Bool => Value::Bool(self.byte().is_multiple_of(2)),
            Kind::String => Value::String(self.text()),
            Kind::Bytes => Value::Bytes(self.text().into_bytes().into()),
            Kind::Message(message) => Value::Message(self.message(message, depth - 1)),
            Kind::Enum(_) => Value::EnumNumber(i32::from(self.byte() % 16)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn random_messages_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000), name in ".{0,3}") {
        for collection in COLLECTIONS {
            let message = descriptor::message(collection.message).unwrap();
            let built = Choices(&bytes).message(&message, 8);
            let problems = validate(&Object {
                meta: Meta { name: name.clone(), namespace: name.clone(), ..Meta::default() },
                collection,
                body: built.encode_to_vec().into(),
            });
            prop_assert!(problems.len() <= 101);
            prop_assert!(problems.iter().all(|problem| !problem.message.is_empty()));
            let decoded = problems.iter().all(|problem| problem.rule != "DECODE");
            prop_assert!(decoded, "{problems:?}");
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for collection in COLLECTIONS {
            let problems = validate(&Object {
                meta: Meta::default(),
                collection,
                body: bytes.clone().into(),
            });
            if problems.iter().any(|problem| problem.rule == "DECODE") {
                prop_assert!(problems.iter().any(|problem| problem.severity == Severity::Error));
            }
        }
    }
}
