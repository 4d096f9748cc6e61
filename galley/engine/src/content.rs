//! Reads a file (or an object of the API server): pure, from text or JSON to objects and problems.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use istio_api::manifest::{self, FieldError, Found, Key};
use istio_api::object::Object;
use istio_rules::validation;
use mesh_core::yaml::{self, Document};
use serde_json::Value;

use crate::native::Native;
use crate::object::Item;
use crate::problem::{Problem, Severity, effect};
use mesh_core::limit::DOCUMENT_BYTES;

/// Maximum number of problems that are kept per file.
pub const MAX_PROBLEMS: usize = 100;

/// An object of a file, and its location.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Identity.
    pub key: Key,
    /// Position of its document in the file, from 1.
    pub document: usize,
    /// Line of the file, from 1, on which the content of the document begins.
    pub line: usize,
    /// The object.
    pub item: Item,
}

/// The object at the API server; only of objects whose status may be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Version of the API in which it is read.
    pub api_version: &'static str,
    /// `metadata.resourceVersion`
    pub resource_version: Box<str>,
    /// `metadata.generation`
    pub generation: Option<i64>,
    /// Its `status`.
    pub status: Value,
}

/// The content of a file.
#[derive(Debug, Default)]
pub struct Content {
    /// Valid objects, each identity once.
    pub entries: Vec<Entry>,
    /// Objects that exist but are invalid: their last good state stays.
    pub failed: BTreeSet<Key>,
    /// Whether a document could not be read: it may hold any object that is missing.
    pub obscured: bool,
    /// All problems.
    pub problems: Vec<Problem>,
    /// Number of objects of kinds that are not read, by `apiVersion kind`.
    pub others: BTreeMap<String, usize>,
    /// The object at the API server, if its status may be written.
    pub stored: Option<Box<Stored>>,
}

/// Reads the text of a file. `path` is relative to the root; its extension decides between YAML and
/// JSON.
pub fn read(path: &Arc<Path>, text: &str) -> Content {
    let mut reader = Reader {
        path,
        content: Content::default(),
        seen: BTreeMap::new(),
    };
    if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        reader.json(text);
    } else {
        for document in yaml::split(text) {
            reader.document(&document);
        }
    }
    reader.finish()
}

/// Reads an object that is already parsed; there are no line numbers then.
pub fn read_object(path: &Arc<Path>, object: &Value) -> Content {
    let mut reader = Reader {
        path,
        content: Content::default(),
        seen: BTreeMap::new(),
    };
    let nowhere = Document {
        index: 0,
        line: 0,
        text: "",
    };
    reader.value(&nowhere, object, false);
    reader.finish()
}

struct Reader<'a> {
    path: &'a Arc<Path>,
    content: Content,
    /// Identities so far, with the line of their first document.
    seen: BTreeMap<Key, usize>,
}

impl Reader<'_> {
    fn finish(self) -> Content {
        let Self {
            path, mut content, ..
        } = self;
        let more = content.problems.len().saturating_sub(MAX_PROBLEMS);
        if more > 0 {
            content.problems.truncate(MAX_PROBLEMS);
            content
                .problems
                .push(Problem::file(path, format!("{more} more problems"), ""));
        }
        content
    }

    fn json(&mut self, text: &str) {
        match yaml::read_json(text) {
            Ok(values) => {
                for (i, value) in values.iter().enumerate() {
                    let whole = Document {
                        index: i + 1,
                        line: 1,
                        text,
                    };
                    // If several values share one text, their lines are not known.
                    self.value(&whole, value, values.len() == 1);
                }
            }
            Err(error) => {
                let whole = Document {
                    index: 1,
                    line: 1,
                    text,
                };
                self.unreadable(&whole, error.line, error.message);
            }
        }
    }

    fn document(&mut self, document: &Document<'_>) {
        if document.text.len() > DOCUMENT_BYTES {
            let (found, most) = (document.text.len(), DOCUMENT_BYTES);
            let message = format!("the document has {found} bytes, the limit is {most}");
            self.unreadable(document, None, message);
            return;
        }
        match yaml::read(document) {
            Ok(None) => {}
            Ok(Some(value)) => self.value(document, &value, true),
            Err(error) => self.unreadable(document, error.line, error.message),
        }
    }

    fn unreadable(&mut self, document: &Document<'_>, line: Option<usize>, message: String) {
        self.content.obscured = true;
        self.content.problems.push(Problem {
            document: document.index,
            line: line.unwrap_or_else(|| document.content_line()),
            ..Problem::file(self.path, message, effect::LAST_GOOD_FILE)
        });
    }

    fn problem(
        &self,
        document: &Document<'_>,
        located: bool,
        inside: &str,
        object: String,
        error: FieldError,
    ) -> Problem {
        let separator = if inside.is_empty() || error.path.is_empty() {
            ""
        } else {
            "."
        };
        let full_path = format!("{inside}{separator}{}", error.path);
        let line = located
            .then(|| yaml::line_of(document, &full_path))
            .flatten();
        Problem {
            document: document.index,
            line: line.unwrap_or_else(|| document.content_line()),
            object,
            field: full_path,
            ..Problem::file(self.path, error.message, effect::LAST_GOOD)
        }
    }

    fn value(&mut self, document: &Document<'_>, value: &Value, located: bool) {
        for (inside, found) in manifest::read::<Native>(value) {
            match found {
                Found::Other(kind) => {
                    // An unknown kind in one of Istio's groups is probably a typo; other groups are
                    // not ours.
                    if kind
                        .split(['/', ' '])
                        .next()
                        .is_some_and(|group| group.ends_with("istio.io"))
                    {
                        let error = FieldError {
                            path: "kind".to_owned(),
                            message: format!("{kind} is not an Istio kind"),
                        };
                        let problem = self.problem(document, located, &inside, kind.clone(), error);
                        let severity = Severity::Warning;
                        let effect = "the object is ignored";
                        self.content.problems.push(Problem {
                            effect,
                            severity,
                            ..problem
                        });
                    }
                    *self.content.others.entry(kind).or_default() += 1;
                }
                Found::Nothing { object, error } => {
                    self.content.obscured = true;
                    let problem = self.problem(document, located, &inside, object, error);
                    let effect = effect::LAST_GOOD_FILE;
                    self.content.problems.push(Problem { effect, ..problem });
                }
                Found::Object {
                    key,
                    item,
                    warnings,
                } => {
                    self.object(document, located, &inside, key, item, warnings);
                }
            }
        }
    }

    fn object(
        &mut self,
        document: &Document<'_>,
        located: bool,
        inside: &str,
        key: Key,
        item: Result<manifest::Item<Native>, Vec<FieldError>>,
        warnings: Vec<FieldError>,
    ) {
        if let Some(first) = self.seen.get(&key) {
            let message = format!("the object is already defined on line {first} of this file");
            self.content.problems.push(Problem {
                document: document.index,
                line: document.content_line(),
                object: key.to_string(),
                ..Problem::file(self.path, message, effect::SHADOWED)
            });
            return;
        }
        self.seen.insert(key.clone(), document.content_line());
        for warning in warnings {
            let problem = self.problem(document, located, inside, key.to_string(), warning);
            let severity = Severity::Warning;
            self.content.problems.push(Problem {
                effect: effect::IGNORED,
                severity,
                ..problem
            });
        }
        let item = match item {
            Ok(manifest::Item::Config(config)) => {
                let (errors, advice) = validate(&(&config).into());
                for error in advice {
                    let problem = self.problem(document, located, inside, key.to_string(), error);
                    let severity = Severity::Warning;
                    self.content.problems.push(Problem {
                        effect: effect::ACCEPTED,
                        severity,
                        ..problem
                    });
                }
                if errors.is_empty() {
                    Ok(manifest::Item::Config(config))
                } else {
                    Err(errors)
                }
            }
            other => other,
        };
        match item {
            Ok(item) => self.content.entries.push(Entry {
                key,
                document: document.index,
                line: document.content_line(),
                item: item.into(),
            }),
            Err(errors) => {
                for error in errors {
                    let problem = self.problem(document, located, inside, key.to_string(), error);
                    self.content.problems.push(problem);
                }
                self.content.failed.insert(key);
            }
        }
    }
}

/// Errors of a well-formed object, because of which it is not used, and warnings.
pub fn validate(object: &Object) -> (Vec<FieldError>, Vec<FieldError>) {
    let (errors, advice): (Vec<_>, Vec<_>) = validation::validate(object)
        .into_iter()
        .partition(|problem| problem.severity == validation::Severity::Error);
    let located = |problems: Vec<validation::Problem>| {
        let each = problems.into_iter().map(|problem| FieldError {
            path: problem.path,
            message: problem.message,
        });
        each.collect()
    };
    (located(errors), located(advice))
}

#[cfg(test)]
mod tests;
