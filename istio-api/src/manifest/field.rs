//! Typed access to JSON with the path of the field in every error.

use std::collections::BTreeMap;

use serde_json::Value;

/// A field that does not hold what it must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FieldError {
    /// Path from the object's root.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// A place in an object. `null` counts as absent.
#[derive(Debug, Clone)]
pub struct Field<'a> {
    value: Option<&'a Value>,
    path: String,
}

impl<'a> Field<'a> {
    /// The object itself.
    pub fn root(value: &'a Value) -> Self {
        Self {
            value: Some(value),
            path: String::new(),
        }
    }

    /// The member of that name; absent if this is absent.
    pub fn get(&self, name: &str) -> Result<Self, FieldError> {
        let separator = if self.path.is_empty() { "" } else { "." };
        let path = format!("{}{separator}{name}", self.path);
        let value = match self.value {
            None => None,
            Some(Value::Object(members)) => members.get(name).filter(|value| !value.is_null()),
            Some(_) => return Err(self.wrong("an object")),
        };
        Ok(Self { value, path })
    }

    fn wrong(&self, wanted: &str) -> FieldError {
        let found = match self.value {
            None | Some(Value::Null) => "nothing".to_owned(),
            Some(Value::Array(_)) => "a list".to_owned(),
            Some(Value::Object(_)) => "an object".to_owned(),
            Some(value) => {
                let text = value.to_string();
                let mut short: String = text.chars().take(80).collect();
                if short.len() < text.len() {
                    short.push('…');
                }
                short
            }
        };
        FieldError {
            path: self.path.clone(),
            message: format!("found {found}, want {wanted}"),
        }
    }

    /// An error at this place.
    pub fn error(&self, message: impl Into<String>) -> FieldError {
        FieldError {
            path: self.path.clone(),
            message: message.into(),
        }
    }

    /// True when there is a value.
    pub fn is_present(&self) -> bool {
        self.value.is_some()
    }

    /// Text, if present.
    pub fn text(&self) -> Result<Option<&'a str>, FieldError> {
        match self.value {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong("text")),
        }
    }

    /// A boolean, if present.
    pub fn flag(&self) -> Result<Option<bool>, FieldError> {
        match self.value {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(word)) => match word.as_str() {
                "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Ok(Some(true)),
                "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => Ok(Some(false)),
                _ => Err(self.wrong("true or false")),
            },
            Some(_) => Err(self.wrong("true or false")),
        }
    }

    /// A port number, if present: 0 to 65535.
    pub fn port(&self) -> Result<Option<u16>, FieldError> {
        match self.value {
            None => Ok(None),
            Some(value) => value
                .as_u64()
                .and_then(|number| u16::try_from(number).ok())
                .map(Some)
                .ok_or_else(|| self.wrong("a port number of at most 65535")),
        }
    }

    /// The elements of a list; none if absent.
    pub fn list(&self) -> Result<Vec<Self>, FieldError> {
        match self.value {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => Ok(values
                .iter()
                .enumerate()
                .map(|(i, value)| Self {
                    value: Some(value).filter(|value| !value.is_null()),
                    path: format!("{}[{i}]", self.path),
                })
                .collect()),
            Some(_) => Err(self.wrong("a list")),
        }
    }

    /// A map from text to text; empty if absent.
    pub fn text_map(&self) -> Result<BTreeMap<String, String>, FieldError> {
        match self.value {
            None => Ok(BTreeMap::new()),
            Some(Value::Object(members)) => members
                .iter()
                .map(|(name, value)| match value {
                    Value::String(text) => Ok((name.clone(), text.clone())),
                    _ => {
                        let path = format!("{}[{name:?}]", self.path);
                        Err(Self {
                            value: Some(value),
                            path,
                        }
                        .wrong("text (put it in quotes)"))
                    }
                })
                .collect(),
            Some(_) => Err(self.wrong("a map from names to text")),
        }
    }

    /// Its path from the object's root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value as it is.
    pub fn value(&self) -> Option<&'a Value> {
        self.value
    }
}
