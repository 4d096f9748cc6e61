//! The content of a status, apart from how it is written.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};

use k8s_openapi::jiff::Timestamp;
use xxhash_rust::xxh3::Xxh3;

/// Condition: whether the object is in force as written.
pub(super) const ACCEPTED: &str = "Accepted";
/// Condition: whether every proxy that the object reaches holds it.
pub(super) const DISTRIBUTED: &str = "Distributed";

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

/// A condition of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Condition {
    /// Value of the condition.
    pub(super) state: State,
    /// Machine-readable reason in one word.
    pub(super) reason: Cow<'static, str>,
    /// Human-readable reason.
    pub(super) message: String,
    /// Generation that the condition is about.
    pub(super) generation: Option<i64>,
}

/// The state of a condition, and since when.
pub(super) type Since = (State, Timestamp);

/// One element of `validationMessages`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Note {
    pub(super) code: Cow<'static, str>,
    pub(super) name: Cow<'static, str>,
    /// In upper case.
    pub(super) level: Cow<'static, str>,
    pub(super) url: String,
}

/// Everything in a status except for the times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) generation: Option<i64>,
    pub(super) accepted: Option<Condition>,
    pub(super) distributed: Option<Condition>,
    pub(super) notes: Vec<Note>,
}

/// Two hashes of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Digest {
    /// Of the whole statement.
    pub(super) full: u64,
    /// Without `Distributed`.
    pub(super) rest: u64,
}

impl Statement {
    pub(super) fn digest(&self) -> Digest {
        let mut hash = HashOf::default();
        (self.generation, &self.accepted, &self.notes).hash(&mut hash);
        let rest = hash.finish();
        self.distributed.hash(&mut hash);
        let full = hash.finish();
        Digest { full, rest }
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
