//! A serde seed that builds a JSON value within a budget.

use std::cell::Cell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde_json::{Map, Number, Value};

/// Cost of a value besides its text, in bytes; roughly its size in memory.
const NODE_COST: usize = 16;

/// Reads one value.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    budget: &'a Cell<usize>,
}

impl<'a> Node<'a> {
    pub(super) fn new(budget: &'a Cell<usize>) -> Self {
        Self { budget }
    }

    fn spend<E: Error>(self, text: usize) -> Result<(), E> {
        let left = self.budget.get().checked_sub(NODE_COST + text);
        self.budget.set(left.ok_or_else(|| {
            E::custom("aliases expand to more than the limit for a document of this size")
        })?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::from(value))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        self.visit_string(value.to_string())
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        self.visit_string(value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.spend(0)?;
        // Numbers that JSON does not have, in the words of the protobuf JSON mapping.
        Ok(Number::from_f64(value).map_or_else(
            || {
                let word = if value.is_nan() {
                    "NaN"
                } else if value > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                };
                Value::from(word)
            },
            Value::Number,
        ))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.spend(value.len())?;
        Ok(Value::from(value))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        self.spend(value.len())?;
        Ok(Value::String(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut object = Map::new();
        let mut merges = Vec::new();
        while let Some(key) = map.next_key_seed(Key {
            node: self,
            taken: &object,
        })? {
            let value = map.next_value_seed(self)?;
            if key == "<<" {
                merges.push(value);
            } else {
                object.insert(key, value);
            }
        }
        for merge in merges {
            let sources = match merge {
                Value::Array(sources) => sources,
                one => vec![one],
            };
            for source in sources {
                let Value::Object(source) = source else {
                    return Err(A::Error::custom(
                        "the value of a merge key (<<) is not valid: want a mapping",
                    ));
                };
                for (key, value) in source {
                    object.entry(key).or_insert(value);
                }
            }
        }
        Ok(Value::Object(object))
    }

    /// An application tag (`!thing`) is dropped and its value kept.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        let (_, value) = tagged.variant_seed(Key {
            node: self,
            taken: &Map::new(),
        })?;
        value.newtype_variant_seed(self)
    }
}

/// Reads a key and rejects a duplicate; the error then points at the second one.
struct Key<'a> {
    node: Node<'a>,
    taken: &'a Map<String, Value>,
}

impl Key<'_> {
    fn new_key<E: Error>(&self, key: String) -> Result<String, E> {
        self.node.spend(key.len())?;
        if self.taken.contains_key(&key) {
            return Err(E::custom(format!("duplicate key {key:?}")));
        }
        Ok(key)
    }
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        self.new_key(key.to_owned())
    }

    fn visit_string<E: Error>(self, key: String) -> Result<String, E> {
        self.new_key(key)
    }

    fn visit_bool<E: Error>(self, key: bool) -> Result<String, E> {
        self.new_key(key.to_string())
    }

    fn visit_i64<E: Error>(self, key: i64) -> Result<String, E> {
        self.new_key(key.to_string())
    }

    fn visit_u64<E: Error>(self, key: u64) -> Result<String, E> {
        self.new_key(key.to_string())
    }

    fn visit_f64<E: Error>(self, key: f64) -> Result<String, E> {
        self.new_key(key.to_string())
    }
}
