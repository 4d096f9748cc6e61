//! What is wrong with a source of configuration, as a person is told.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object is in force; something in it is not understood.
    Warning,
    /// The object, document or file is not in force as written.
    Error,
}

/// One thing that is wrong. Equal problems are reported once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Problem {
    /// File, relative to the root of the source; empty for the root itself.
    #[serde(serialize_with = "as_text")]
    pub file: Arc<Path>,
    /// Position of the document in the file, from 1; 0 when it concerns the file.
    pub document: usize,
    /// Line in the file, from 1; 0 when not known.
    pub line: usize,
    /// `Kind namespace/name`, empty when not known.
    pub object: String,
    /// Path of the field, for example `spec.http[0].route`; empty when it is not about a field.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// What follows from it.
    pub effect: &'static str,
    /// How much it matters.
    pub severity: Severity,
}

fn as_text<S: Serializer>(path: &Arc<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Effects of problems.
pub mod effect {
    /// Something that was in force is replaced by a file that cannot be used.
    pub const LAST_GOOD: &str = "its last good state stays in force, if it had one";
    /// A document or a file of unknown contents.
    pub const LAST_GOOD_FILE: &str =
        "objects of this file that are not found elsewhere in it keep their last good state";
    /// A field that is not known.
    pub const IGNORED: &str = "the field is ignored";
    /// A second object of one identity.
    pub const SHADOWED: &str = "the first one in path order is in force, this one is not";
    /// A part of an Ingress.
    pub const NOT_ROUTED: &str = "this part of the Ingress is not served, the rest is";
    /// Only a remark.
    pub const ACCEPTED: &str = "the object is in force";
    /// The whole directory.
    pub const KEPT: &str = "everything read before stays in force";
}

impl Problem {
    /// An error about a whole file (or the root, when `file` is empty).
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
