//! The desired status: pure.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::analysis::Finding;
use super::distribution::{Standing, Sum};
use super::observation::Verdict;
use super::statement::{Condition, Note, Since, State, Statement};

/// Maximum number of validation messages of an object.
const MAX_MESSAGES: usize = 64;

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
