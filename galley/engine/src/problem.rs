//! Problems of a source of configuration, for people.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// How severe a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object is in force, but part of it is ignored or questionable.
    Warning,
    /// The object, document or file is not in force as written.
    Error,
}

/// A problem. Equal problems are reported once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Problem {
    /// File, relative to the root of the source; empty for the root itself.
    #[serde(serialize_with = "as_text")]
    pub file: Arc<Path>,
    /// Position of the document in the file, from 1; 0 if the problem is about the file.
    pub document: usize,
    /// Line in the file, from 1; 0 if not known.
    pub line: usize,
    /// `Kind namespace/name`, empty if not known.
    pub object: String,
    /// Path of the field, for example `spec.http[0].route`; empty if the problem is not about a
    /// field.
    pub field: String,
    /// What is wrong, and what would be valid.
    pub message: String,
    /// The consequence.
    pub effect: &'static str,
    /// Severity.
    pub severity: Severity,
}

fn as_text<S: Serializer>(path: &Arc<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Consequences of problems.
pub mod effect {
    /// For an invalid object.
    pub const LAST_GOOD: &str = "its last good state stays in force, if it had one";
    /// For a document or file of unknown content.
    pub const LAST_GOOD_FILE: &str =
        "objects of this file that are not found elsewhere in it keep their last good state";
    /// For an unknown field.
    pub const IGNORED: &str = "the field is ignored";
    /// For a second object of the same identity.
    pub const SHADOWED: &str = "the first one in path order is in force, but this one is not";
    /// For a part of an Ingress.
    pub const NOT_ROUTED: &str = "this part of the Ingress is not served, but the rest is";
    /// For a warning.
    pub const ACCEPTED: &str = "the object is in force";
    /// For the whole directory.
    pub const KEPT: &str = "everything read before stays in force";
}

impl Problem {
    /// An error about a whole file (or the root, if `file` is empty).
    pub fn file(file: &Arc<Path>, message: impl Into<String>, effect: &'static str) -> Self {
        Self {
            file: file.clone(),
            document: 0,
            line: 0,
            object: String::new(),
            field: String::new(),
            message: message.into(),
            effect,
            severity: Severity::Error,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.document > 0 {
            write!(f, ", document {}", self.document)?;
        }
        if self.line > 0 {
            write!(f, ", line {}", self.line)?;
        }
        for part in [&self.object, &self.field] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        write!(f, ": {}; {}", self.message, self.effect)
    }
}
