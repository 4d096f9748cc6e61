//! Documents in files: their objects, and the lines of these.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow};
use istio_rules::analysis::{Builder, Origin, Place};
use mesh_core::yaml;
use serde_json::Value;

use super::lines::Lines;
use mesh_common::input::{self, Input};

/// Result of reading files, besides the objects.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Errors, one line each.
    pub(super) errors: Vec<String>,
    namespaces: BTreeSet<String>,
}

impl Read {
    /// Whether any document is in this namespace.
    pub(super) fn names(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
    }
}

/// Reads the objects of all inputs. Objects without a namespace are put into `namespace`.
pub(super) fn read(inputs: &[Input], namespace: &str, builder: &mut Builder) -> Read {
    let mut reading = Reading {
        namespace,
        builder,
        read: Read::default(),
    };
    for input in inputs {
        reading.input(input);
    }
    reading.read
}

struct Reading<'a> {
    namespace: &'a str,
    builder: &'a mut Builder,
    read: Read,
}

impl Reading<'_> {
    fn input(&mut self, input: &Input) {
        let name = &input.name;
        let text = match &input.text {
            Ok(text) => text,
            Err(reason) => return self.read.errors.push(format!("{name}: {reason}")),
        };
        if input.is_json() {
            match yaml::read_json(text) {
                Err(error) => self.unreadable(name, error.line.unwrap_or(1), &error.message),
                Ok(values) => {
                    let is_located = values.len() == 1;
                    for value in values {
                        self.document(name, 1, text, is_located, value);
                    }
                }
            }
            return;
        }
        for document in yaml::split(text) {
            match yaml::read(&document) {
                Ok(None) => {}
                Ok(Some(value)) => self.document(name, document.line, document.text, true, value),
                Err(error) => {
                    let line = error.line.unwrap_or_else(|| document.content_line());
                    self.unreadable(name, line, &error.message);
                }
            }
        }
    }

    fn unreadable(&mut self, file: &str, line: usize, message: &str) {
        self.read.errors.push(format!("{file}:{line}: {message}"));
    }

    fn document(&mut self, file: &str, line: usize, text: &str, is_located: bool, value: Value) {
        let mut value = value;
        self.settle(&mut value);
        let items = value.get("items").and_then(Value::as_array);
        let count = items.map_or(0, Vec::len);
        let place = Place {
            file: file.into(),
            prefix: String::new(),
            locator: Arc::new(Lines::new(line, text.to_owned(), count, is_located)),
        };
        for unusable in self.builder.read(&value, Some(&place)) {
            let line = unusable.line.unwrap_or(line);
            let parts = [
                &unusable.object,
                &unusable.error.path,
                &unusable.error.message,
            ];
            let parts: Vec<&str> = parts
                .into_iter()
                .map(String::as_str)
                .filter(|part| !part.is_empty())
                .collect();
            self.unreadable(file, line, &parts.join(": "));
        }
    }

    /// Sets the namespace of objects that have none.
    fn settle(&mut self, value: &mut Value) {
        if let Some(items) = value.get_mut("items").and_then(Value::as_array_mut) {
            items.iter_mut().for_each(|item| self.settle(item));
            return;
        }
        let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) else {
            return;
        };
        let namespace = metadata.get("namespace");
        match namespace {
            None | Some(Value::Null) => {
                metadata.insert("namespace".to_owned(), self.namespace.into());
                self.read.namespaces.insert(self.namespace.to_owned());
            }
            Some(Value::String(name)) if name.is_empty() => {
                metadata.insert("namespace".to_owned(), self.namespace.into());
                self.read.namespaces.insert(self.namespace.to_owned());
            }
            Some(Value::String(name)) => {
                self.read.namespaces.insert(name.clone());
            }
            Some(_) => {}
        }
    }
}

/// An object with its location.
pub(super) fn shown(origin: &Origin) -> String {
    let file = origin.place.as_ref().map_or("", |place| &place.file);
    match origin.line("") {
        Some(line) => format!("{origin} ({file}:{line})"),
        None => format!("{origin} ({file})"),
    }
}

/// Reads a mesh configuration file.
pub(super) fn mesh_config(path: &Path, builder: &mut Builder) -> Result<()> {
    let inputs = input::read(&[PathBuf::from(path)], false);
    for input in inputs {
        let name = input.name;
        let text = input.text.map_err(|reason| anyhow!("{name}: {reason}"))?;
        value(&text).map_err(|error| anyhow!("{name}: {error}"))?;
        let place = Place {
            file: name.into(),
            prefix: String::new(),
            locator: Arc::new(Lines::new(1, text.clone(), 0, true)),
        };
        builder.mesh_config(text, place);
    }
    Ok(())
}

/// The first document of a YAML text.
pub(super) fn value(text: &str) -> Result<Option<Value>, String> {
    match yaml::split(text).first() {
        None => Ok(None),
        Some(document) => yaml::read(document).map_err(|error| error.message),
    }
}
