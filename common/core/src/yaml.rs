//! Reads YAML written by people: several documents, where an invalid one does not affect the
//! others.
//!
//! [`split`] cuts a stream at its `---` lines before anything is parsed, so that a syntax error
//! stays within its document. [`read`] converts one document to JSON: duplicate keys are rejected,
//! merge keys (`<<`) applied, keys converted to strings, and the expansion of aliases is bounded.
//! [`line_of`] finds the line of a field, for messages about a value that was read before.

mod locate;
mod value;

use std::cell::Cell;

use serde::de::DeserializeSeed;
use serde_json::Value;

pub use locate::line_of;

/// A document may expand to this many times its own size …
const EXPANSION_FACTOR: usize = 16;
/// … plus this, in bytes.
const EXPANSION_BYTES: usize = 1 << 20;

/// One document of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document<'a> {
    /// Position in the stream, from 1.
    pub index: usize,
    /// Line of the stream on which `text` begins, from 1.
    pub line: usize,
    /// The document, with its `---`.
    pub text: &'a str,
}

impl Document<'_> {
    /// Line of the stream, from 1, of the first content, after separators and comments.
    pub fn content_line(&self) -> usize {
        let is_content = |line: &str| {
            let text = line.trim();
            !text.is_empty()
                && !text.starts_with(['#', '%'])
                && text != "---"
                && !text.starts_with("--- #")
        };
        self.line + self.text.lines().position(is_content).unwrap_or_default()
    }
}

/// Why a document is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ReadError {
    /// Line of the stream, from 1, if it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

/// Splits a stream into its documents. Comments and directives before the first `---` belong to the
/// document after it. Documents may be empty.
pub fn split(stream: &str) -> Vec<Document<'_>> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
    let mut documents = Vec::new();
    let (mut start, mut start_line) = (0, 1);
    // Whether the document so far has a marker or content of its own.
    let mut begun = false;
    let mut offset = 0;
    for (number, line) in stream.split_inclusive('\n').enumerate() {
        if is_marker(line) {
            if begun {
                let text = stream.get(start..offset).unwrap_or_default();
                documents.push(Document {
                    index: documents.len() + 1,
                    line: start_line,
                    text,
                });
                (start, start_line) = (offset, number + 1);
            }
            begun = true;
        } else if !begun {
            let content = line.trim_start();
            begun = !(content.is_empty() || content.starts_with(['#', '%']));
        }
        offset += line.len();
    }
    if begun {
        let text = stream.get(start..).unwrap_or_default();
        documents.push(Document {
            index: documents.len() + 1,
            line: start_line,
            text,
        });
    }
    documents
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Reads a document; `None` if it is empty.
pub fn read(document: &Document<'_>) -> Result<Option<Value>, ReadError> {
    match parse(document.text) {
        Ok(value) => Ok(value),
        Err(first) => {
            // Parsed again with as many empty lines before it as in the stream, so that every line
            // number in the parser's message is one of the stream.
            let mut padded = "\n".repeat(document.line - 1);
            padded.push_str(document.text);
            Err(parse(&padded).err().unwrap_or(first))
        }
    }
}

/// Reads a stream of JSON values.
pub fn read_json(text: &str) -> Result<Vec<Value>, ReadError> {
    let budget = Cell::new(expansion_limit(text));
    let mut parser = serde_json::Deserializer::from_str(text);
    let mut values = Vec::new();
    let fail = |error: &serde_json::Error| ReadError {
        line: Some(error.line()).filter(|line| *line > 0),
        message: error.to_string(),
    };
    while parser.end().is_err() {
        values.push(
            value::Node::new(&budget)
                .deserialize(&mut parser)
                .map_err(|e| fail(&e))?,
        );
    }
    Ok(values)
}

fn expansion_limit(text: &str) -> usize {
    text.len()
        .saturating_mul(EXPANSION_FACTOR)
        .saturating_add(EXPANSION_BYTES)
}

fn parse(text: &str) -> Result<Option<Value>, ReadError> {
    let budget = Cell::new(expansion_limit(text));
    let mut found = None;
    // Several documents are only possible after `...`, which ends one without beginning another.
    for parser in serde_yaml::Deserializer::from_str(text) {
        let value = value::Node::new(&budget)
            .deserialize(parser)
            .map_err(|error| ReadError {
                line: error.location().map(|location| location.line()),
                message: error.to_string(),
            })?;
        if value.is_null() {
            continue;
        }
        if found.is_some() {
            return Err(ReadError {
                line: None,
                message: "content after the end of the document: want a \"---\" line before it"
                    .to_owned(),
            });
        }
        found = Some(value);
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
