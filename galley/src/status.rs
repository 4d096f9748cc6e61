//! What becomes of each configuration object, told in its `status`: accepted or not, by how many
//! proxies held, what the analysis of the whole configuration says, since when.
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
//! A status that is right already is not written, whoever wrote it: what should be is compared
//! with what the API server shows. Objects of files have no status; `/debug/status` shows what it
//! would be.

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
mod writer;

pub use analysis::{Analysis, Finding, Findings};
pub use distribution::{Report, Share, Timing as ReportTiming};
pub use metrics::Metrics;
pub use observation::{Live, Observation, Verdict, observe, version_hash};
pub use page::page;
pub use reception::{Listener, Reception};
pub use shown::Shown;
pub use writer::{Inputs, Question, Target, Writer};
