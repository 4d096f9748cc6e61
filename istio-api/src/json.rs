//! Messages in their JSON form, read and written by descriptor.
//!
//! The form is protobuf's with what Istio adds: durations as Go writes them, names in camelCase
//! or snake_case. Reading collects every mistake with its path instead of stopping at the first,
//! and equal input gives equal bytes, `Any` inside maps inside `Any` included.

mod read;
mod scalar;
mod wire;
mod write;

use std::fmt;

use prost::{Message, Name};
use serde_json::Value;

use crate::descriptor;

pub use write::{WriteError, write, write_message};

/// Messages may be nested this deep; prost decodes no deeper.
const MAX_DEPTH: usize = 100;

/// What to do with members that the message does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// They are errors.
    Refuse,
    /// They are left out and reported as issues.
    Prune,
}

/// One thing that is wrong, or was left out, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldIssue {
    /// Path from the message that was read, e.g. `http[0].route[1].weight`; empty for the
    /// message itself. Map keys are in brackets: `headers[x-user].exact`.
    pub path: String,
    /// What was wanted and what was found.
    pub message: String,
}

impl fmt::Display for FieldIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// Reads a `T`. `null` is the empty message.
///
/// # Errors
/// Everything that is wrong with the value. With [`Unknown::Prune`], members that `T` does not
/// have are not errors, but are returned beside the message.
pub fn read<T>(value: &Value, mode: Unknown) -> Result<(T, Vec<FieldIssue>), Vec<FieldIssue>>
where
    T: Message + Name + Default,
{
    let (bytes, issues) = read_dynamic(&T::full_name(), value, mode)?;
    match T::decode(bytes.as_slice()) {
        Ok(message) => Ok((message, issues)),
        Err(e) => Err(vec![FieldIssue {
            path: String::new(),
            message: e.to_string(),
        }]),
    }
}

/// Reads the message of the given full name into its encoding. See [`read`].
///
/// # Errors
/// As [`read`], and if there is no such message.
pub fn read_dynamic(
    full_name: &str,
    value: &Value,
    mode: Unknown,
) -> Result<(Vec<u8>, Vec<FieldIssue>), Vec<FieldIssue>> {
    let Some(message) = descriptor::message(full_name) else {
        return Err(vec![FieldIssue {
            path: String::new(),
            message: format!("unknown message {full_name}"),
        }]);
    };
    read::Reader::new(mode).read(&message, value)
}

#[cfg(test)]
mod tests;
