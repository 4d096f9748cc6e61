//! Finds the line of a field by walking to it and failing there on purpose.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Document;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// The line of the stream, from 1, of the value of the field at `path`
/// (`spec.http[0].route[1].weight`), or of its closest existing ancestor. Keys may be in camelCase
/// or snake_case on either side.
pub fn line_of(document: &Document<'_>, path: &str) -> Option<usize> {
    let steps = parse(path);
    for parser in serde_yaml::Deserializer::from_str(document.text) {
        if let Err(error) = (Walk { steps: &steps }).deserialize(parser) {
            let line = error.location()?.line();
            return Some(document.line + line - 1);
        }
    }
    None
}

fn parse(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some((index, more)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            steps.push(match index.parse() {
                Ok(index) => Step::Index(index),
                Err(_) => Step::Key(index.trim_matches('"').to_owned()),
            });
            rest = more;
        } else if let Some(more) = rest.strip_prefix('.') {
            rest = more;
        } else {
            // At least one byte, so that a stray bracket cannot stop the loop.
            let end = rest
                .get(1..)
                .and_then(|tail| tail.find(['.', '[']))
                .map(|end| end + 1);
            let (key, more) = rest.split_at(end.unwrap_or(rest.len()));
            steps.push(Step::Key(key.to_owned()));
            rest = more;
        }
    }
    steps
}

/// Equal except for camelCase or snake_case.
fn same_key(a: &str, b: &str) -> bool {
    let plain = |key: &str| key.replace('_', "").to_ascii_lowercase();
    a == b || plain(a) == plain(b)
}

struct Walk<'a> {
    steps: &'a [Step],
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

/// The parser adds the position.
fn here<E: Error>() -> E {
    E::custom("here")
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), steps)) = self.steps.split_first() else {
            return Err(here());
        };
        while let Some(key) = map.next_key::<serde_yaml::Value>()? {
            if key.as_str().is_some_and(|key| same_key(key, wanted)) {
                map.next_value_seed(Walk { steps })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Err(here())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((Step::Index(wanted), steps)) = self.steps.split_first() else {
            return Err(here());
        };
        for _ in 0..*wanted {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Err(here());
            }
        }
        seq.next_element_seed(Walk { steps })?;
        Err(here())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Err(here())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Err(here())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Err(here())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Err(here())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Err(here())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Err(here())
    }
}
