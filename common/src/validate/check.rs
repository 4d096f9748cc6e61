//! Checks the documents of one input.

use std::fmt;

use istio_api::manifest::{self, Config, FieldError, Found, Item, Key, Metadata, Native};
use istio_rules::validation::{self, Severity, kubernetes};
use mesh_core::yaml::{self, Document};
use serde::Serialize;
use serde_json::Value;

use crate::input::Input;

/// How severe a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The object is accepted.
    Warning,
    /// The object is rejected.
    Error,
    /// The document or file cannot be read.
    Unreadable,
}

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the input.
    pub file: String,
    /// Line, from 1; 0 if not known.
    pub line: usize,
    /// `Kind/name.namespace`; empty if not known.
    pub object: String,
    /// Field, as written in the document.
    pub field: String,
    /// Id of the rule; empty if no rule found it.
    pub rule: String,
    /// What is wrong, and what would be valid.
    pub message: String,
    /// Its severity.
    pub level: Level,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        for part in [&self.object, &self.field, &self.message] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        Ok(())
    }
}

/// Defaults of namespaces.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Namespace of objects that do not name one.
    pub namespace: &'a str,
    /// Namespace of the control plane, whose workloads follow other rules.
    pub istio_namespace: &'a str,
}

/// Kubernetes kinds with validation rules; others are ignored.
#[derive(Debug)]
struct Checked(Value);

impl Native for Checked {
    fn kind(group: &str, kind: &str) -> Option<(&'static str, &'static str, bool)> {
        match (group, kind) {
            ("", "Service") => Some(("", "Service", true)),
            ("apps", "Deployment") => Some(("apps", "Deployment", true)),
            _ => None,
        }
    }

    fn read(_: &str, _: &Metadata, object: &Value) -> Result<Self, FieldError> {
        Ok(Self(object.clone()))
    }
}

/// All findings in one input, in the order of its documents.
#[must_use]
pub(super) fn input(input: &Input, scope: &Scope<'_>) -> Vec<Finding> {
    let mut checker = Checker {
        file: &input.name,
        scope,
        findings: Vec::new(),
    };
    match &input.text {
        Err(reason) => checker.unreadable(0, reason.clone()),
        Ok(text) if input.is_json() => checker.json(text),
        Ok(text) => {
            for document in yaml::split(text) {
                match yaml::read(&document) {
                    Ok(None) => {}
                    Ok(Some(value)) => checker.document(&document, &value, true),
                    Err(error) => {
                        let line = error.line.unwrap_or_else(|| document.content_line());
                        checker.unreadable(line, error.message);
                    }
                }
            }
        }
    }
    checker.findings
}

struct Checker<'a> {
    file: &'a str,
    scope: &'a Scope<'a>,
    findings: Vec<Finding>,
}

/// Location of an object.
#[derive(Clone, Copy)]
struct Place<'a> {
    document: &'a Document<'a>,
    /// Path of the object in the document, empty unless it is in a list.
    inside: &'a str,
    /// Whether lines can be found by path.
    located: bool,
}

impl Checker<'_> {
    fn unreadable(&mut self, line: usize, message: String) {
        self.findings.push(Finding {
            file: self.file.to_owned(),
            line,
            object: String::new(),
            field: String::new(),
            rule: String::new(),
            message,
            level: Level::Unreadable,
        });
    }

    fn json(&mut self, text: &str) {
        match yaml::read_json(text) {
            Err(error) => self.unreadable(error.line.unwrap_or(1), error.message),
            Ok(values) => {
                let whole = Document {
                    index: 1,
                    line: 1,
                    text,
                };
                for value in &values {
                    // If several values share one text, their lines are not known.
                    self.document(&whole, value, values.len() == 1);
                }
            }
        }
    }

    fn document(&mut self, document: &Document<'_>, value: &Value, located: bool) {
        for (inside, found) in manifest::read::<Checked>(value) {
            let place = Place {
                document,
                inside: &inside,
                located,
            };
            match found {
                Found::Other(_) => {}
                Found::Nothing { object, error } => {
                    self.add(place, &object, error, "", Level::Error);
                }
                Found::Object {
                    key,
                    item,
                    warnings,
                } => self.object(place, &key, item, warnings),
            }
        }
    }

    fn object(
        &mut self,
        place: Place<'_>,
        key: &Key,
        item: Result<Item<Checked>, Vec<FieldError>>,
        unknown: Vec<FieldError>,
    ) {
        let namespace =
            if key.namespace.is_empty() || &*key.namespace != manifest::DEFAULT_NAMESPACE {
                &*key.namespace
            } else {
                self.scope.namespace
            };
        let separator = if namespace.is_empty() { "" } else { "." };
        let name = format!("{}/{}{separator}{namespace}", key.kind, key.name);
        // Galley ignores it, but here it may be a typo of the user.
        for error in unknown {
            self.add(place, &name, error, "CLI-05", Level::Error);
        }
        let problems = match item {
            Err(errors) => {
                for error in errors {
                    self.add(place, &name, error, "", Level::Error);
                }
                return;
            }
            Ok(Item::Config(config)) => validate(&config),
            Ok(Item::Native(Checked(_))) if namespace == self.scope.istio_namespace => return,
            Ok(Item::Native(Checked(object))) => kubernetes::validate(&object),
        };
        for problem in problems {
            let level = match problem.severity {
                Severity::Error => Level::Error,
                Severity::Warning => Level::Warning,
            };
            let error = FieldError {
                path: problem.path,
                message: problem.message,
            };
            self.add(place, &name, error, problem.rule, level);
        }
    }

    fn add(&mut self, place: Place<'_>, object: &str, error: FieldError, rule: &str, level: Level) {
        let separator = if place.inside.is_empty() || error.path.is_empty() {
            ""
        } else {
            "."
        };
        let field = format!("{}{separator}{}", place.inside, error.path);
        let line = place
            .located
            .then(|| yaml::line_of(place.document, &field))
            .flatten();
        self.findings.push(Finding {
            file: self.file.to_owned(),
            line: line.unwrap_or_else(|| place.document.content_line()),
            object: object.to_owned(),
            field,
            rule: rule.to_owned(),
            message: error.message,
            level,
        });
    }
}

fn validate(config: &Config) -> Vec<validation::Problem> {
    validation::validate(&config.into())
}
