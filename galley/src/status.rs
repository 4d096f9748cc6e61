//! The `status` of each configuration object: whether it is accepted, how many proxies hold it,
//! what the analysis of the whole configuration found, and since when.
//!
//! ```text
//! pilots ─► reception ──reports────────────┐
//! source ─► state task ──observations──────┤
//!               │                          ▼
//!               └─ snapshot ─► analysis ─► board (pure): what each status should be, and which
//!                              findings      │           objects differ, the longest waiting first
//!                                            ▼
//!                         writer: while this replica holds the lease, at a bounded rate
//! ```
//!
//! A status that is already right is not written, whoever wrote it: the desired status is compared
//! with the one that the API server shows. Objects in files have no status; `/debug/status` shows
//! what it would be.

mod analysis;
mod board;
mod desired;
mod distribution;
mod metrics;
mod observation;
mod page;
mod patch;
mod reception;
mod shown;
mod statement;
mod writer;

pub use analysis::{Analysis, Finding, Findings};
pub use distribution::{Report, Share, Timing as ReportTiming};
pub use metrics::Metrics;
pub use observation::{Live, Observation, Verdict, observe, version_hash};
pub use page::page;
pub use reception::{Listener, Reception};
pub use shown::Shown;
pub use writer::{Inputs, Question, Target, Writer};
