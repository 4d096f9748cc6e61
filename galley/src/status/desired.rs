//! The desired status: pure.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use super::analysis::Finding;
use super::distribution::{Standing, Sum};
use super::observation::Verdict;

/// Condition: whether the object is in force as written.
pub(super) const ACCEPTED: &str = "Accepted";
/// Condition: whether every proxy that the object reaches holds it.
pub(super) const DISTRIBUTED: &str = "Distributed";

/// Maximum number of validation messages of an object.
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

/// The state of an object that is distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InForce {
    /// Hash of its version on the configuration stream.
    pub(super) version: u64,
    /// `metadata.generation` of that state.
    pub(super) generation: Option<i64>,
}

/// The inputs of an object's status.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) generation: Option<i64>,
    pub(super) verdict: &'a Verdict,
    /// Another file that defines the object and takes precedence.
    pub(super) shadowed_by: Option<String>,
    pub(super) findings: &'a [Finding],
    /// The last state that was accepted, if any.
    pub(super) in_force: Option<InForce>,
    /// What pilots report; `None` as long as their reports cannot be relied on.
    pub(super) standing: Option<Standing>,
    /// The condition `Distributed` that the status shows.
    pub(super) shown: Option<&'a Condition>,
}

/// The desired status.
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
        (Verdict::Accepted(_), Some(file)) => {
            let message = format!("{file} defines the same object and takes precedence");
            condition(State::False, "Shadowed", message)
        }
        (Verdict::Accepted(_), None) => condition(State::True, "Valid", String::new()),
    };
    Statement {
        generation,
        accepted: Some(accepted),
        distributed: distributed(facts),
        notes: notes(facts.findings),
    }
}

/// The condition `Distributed`. Once all proxies held a generation, this stays true of it: later
/// proxies get it with everything else, and would only cause writes.
fn distributed(facts: &Facts<'_>) -> Option<Condition> {
    let in_force = facts.in_force.filter(|_| facts.shadowed_by.is_none());
    let condition = |state, reason: &'static str, message: String| {
        let of = in_force.map_or(facts.generation, |state| state.generation);
        Some(Condition {
            state,
            reason: reason.into(),
            message,
            generation: of,
        })
    };
    let is_done = |shown: &&Condition| {
        let generation = in_force.and_then(|state| state.generation);
        shown.state == State::True && generation.is_some() && shown.generation == generation
    };
    if let Some(shown) = facts.shown.filter(is_done) {
        return Some(shown.clone());
    }
    match facts.standing {
        None => facts.shown.cloned(),
        Some(_) if in_force.is_none() => {
            let message = "no state of the object is in force".to_owned();
            condition(State::False, "NotAccepted", message)
        }
        Some(Standing::NotReported) => {
            let message = "no pilot reports which proxies hold the object".to_owned();
            condition(State::Unknown, "NotReported", message)
        }
        Some(Standing::Reported(Sum {
            reached: 0,
            behind: 0,
            ..
        })) => {
            let message = "the object reaches no connected proxy".to_owned();
            condition(State::Unknown, "NoProxies", message)
        }
        Some(Standing::Reported(sum)) => {
            let mut message = format!("held by {} of {} proxies", sum.held, sum.reached);
            if sum.behind > 0 {
                let behind = format!("; {} of {} pilots do not have it", sum.behind, sum.pilots);
                message.push_str(&behind);
            }
            if sum.behind == 0 && sum.held >= sum.reached {
                condition(State::True, "Held", message)
            } else {
                condition(State::False, "Pending", message)
            }
        }
    }
}

/// Sorted and without duplicates: notes have no texts, so that equal ones cannot be told apart.
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

/// Since when a condition has its state: changes only with the state. `now` is cut to whole
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
