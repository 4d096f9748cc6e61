//! What a status should say: pure.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use super::analysis::Finding;
use super::observation::Verdict;

/// Condition: whether the object is in force as it is written.
pub(super) const ACCEPTED: &str = "Accepted";

/// Most validation messages of one object.
const MAX_MESSAGES: usize = 64;

/// `status` of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum State {
    /// `True`
    True,
    /// `False`
    False,
    /// `Unknown`
    Unknown,
}

impl State {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let all = [Self::True, Self::False, Self::Unknown];
        all.into_iter().find(|state| state.name() == text)
    }
}

/// One answer to one question about an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Condition {
    /// The answer.
    pub(super) state: State,
    /// The cause in one word.
    pub(super) reason: Cow<'static, str>,
    /// The cause for people.
    pub(super) message: String,
    /// Generation that this is said of.
    pub(super) generation: Option<i64>,
}

/// A state of a condition, and since when.
pub(super) type Since = (State, Timestamp);

/// One element of `validationMessages`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Note {
    pub(super) code: Cow<'static, str>,
    pub(super) name: Cow<'static, str>,
    /// In capitals.
    pub(super) level: Cow<'static, str>,
    pub(super) url: String,
}

/// Everything that a status says, but for the times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) generation: Option<i64>,
    pub(super) accepted: Option<Condition>,
    pub(super) notes: Vec<Note>,
}

impl Statement {
    /// A hash of all of it.
    pub(super) fn digest(&self) -> u64 {
        let mut hash = HashOf::default();
        (self.generation, &self.accepted, &self.notes).hash(&mut hash);
        hash.finish()
    }
}

#[derive(Default)]
struct HashOf(Xxh3);

impl Hasher for HashOf {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.digest()
    }
}

/// What an object's status is made from.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) generation: Option<i64>,
    pub(super) verdict: &'a Verdict,
    /// Another file defines it, and counts.
    pub(super) shadowed_by: Option<String>,
    pub(super) findings: &'a [Finding],
}

/// What the status should be.
pub(super) fn desired(facts: &Facts<'_>) -> Statement {
    let generation = facts.generation;
    let condition = |state, reason: &'static str, message: String| Condition {
        state,
        reason: reason.into(),
        message,
        generation,
    };
    let accepted = match (facts.verdict, &facts.shadowed_by) {
        (Verdict::Refused(why), _) => condition(State::False, "Invalid", why.to_string()),
        (Verdict::Accepted, Some(file)) => {
            let message = format!("{file} defines it too, and is in force");
            condition(State::False, "Shadowed", message)
        }
        (Verdict::Accepted, None) => condition(State::True, "Valid", String::new()),
    };
    Statement {
        generation,
        accepted: Some(accepted),
        notes: notes(facts.findings),
    }
}

/// Sorted, each once: without their texts equal messages cannot be told apart.
fn notes(findings: &[Finding]) -> Vec<Note> {
    let note = |finding: &Finding| Note {
        code: finding.code.code.into(),
        name: finding.code.name.into(),
        level: finding.code.level.name().to_ascii_uppercase().into(),
        url: finding.url(),
    };
    let mut notes: Vec<Note> = findings.iter().map(note).collect();
    notes.sort();
    notes.dedup();
    notes.truncate(MAX_MESSAGES);
    notes
}

/// Since when a condition is as it is: it moves only with its state. `now` counts in whole
/// seconds, as Kubernetes writes them.
pub(super) fn since(before: Option<Since>, state: State, now: Timestamp) -> Since {
    match before {
        Some((known, time)) if known == state => (known, time),
        _ => (
            state,
            Timestamp::from_second(now.as_second()).unwrap_or(now),
        ),
    }
}

/// An empty list of findings.
pub(super) fn nothing() -> Arc<[Finding]> {
    Arc::new([])
}

#[cfg(test)]
mod tests;
