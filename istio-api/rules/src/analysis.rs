//! Static analysis: problems between objects that are each valid on their own.
//!
//! ```text
//! documents, objects ──► Builder ──► Resources (indexes) ──► analyzers ──► Report ──► Outcome
//! ```
//!
//! Nothing here reads files or asks a cluster; callers provide the objects and say which kinds they
//! do not know. Equal objects give equal messages, in whatever order they come.

pub mod analyzers;
pub mod catalogue;
pub mod kubernetes;
mod level;
mod message;
mod origin;
mod report;
mod resources;
mod selection;
mod suppression;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use analyzers::{ANALYZERS, Analyzer};
pub use level::Level;
pub use message::Message;
pub use origin::{Locate, Origin, Place};
use report::Report;
pub use resources::{Builder, Condition, ParseYaml, Resources, Status, Unusable, istio_kinds};
pub use selection::{LabelSelector, Labels};
pub use suppression::{Suppression, SuppressionError};

/// What to run and what to report.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Only messages about objects of this namespace and cluster-scoped ones; `None`: all.
    pub namespace: Option<String>,
    /// Names of the analyzers to run; all of them if none of the names is known.
    pub analyzers: BTreeSet<String>,
    /// Messages to leave out.
    pub suppressions: Vec<Suppression>,
}

/// The result of an analysis.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Messages, the most severe first; see [`Message`] for the order.
    pub messages: Vec<Message>,
    /// Analyzers that ran, by name.
    pub executed: Vec<&'static str>,
    /// Analyzers that were skipped, as a kind that they need is not known.
    pub skipped: Vec<&'static str>,
}

/// Runs the analyzers.
#[must_use]
pub fn analyze(resources: &Resources, request: &Request) -> Outcome {
    run(ANALYZERS, resources, request)
}

fn run(analyzers: &'static [Analyzer], resources: &Resources, request: &Request) -> Outcome {
    let is_wanted = |analyzer: &&Analyzer| request.analyzers.contains(analyzer.name);
    let all = !analyzers.iter().any(|analyzer| is_wanted(&analyzer));
    let mut outcome = Outcome::default();
    let mut report = Report::default();
    for analyzer in analyzers.iter().filter(|one| all || is_wanted(one)) {
        if !analyzer.inputs.iter().all(|kind| resources.knows(kind)) {
            outcome.skipped.push(analyzer.name);
            continue;
        }
        outcome.executed.push(analyzer.name);
        // A panic in one analyzer must not lose the messages of the others, nor those that it
        // reported before.
        if catch_unwind(AssertUnwindSafe(|| analyzer.run(resources, &mut report))).is_err() {
            report.failed(analyzer.name);
        }
    }
    outcome.messages = report.finish(request);
    outcome
}

#[cfg(test)]
mod tests;
