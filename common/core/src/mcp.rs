//! The Mesh Configuration Protocol (`istio.mcp.v1alpha1`) without IO and without a clock.
//!
//! * [`source::Machine`] is the source's side of a stream, for both services; [`wire`] translates
//!   the messages of the older one.
//! * [`sink::Machine`] is the sink's side.
//! * [`Snapshot`] is what a source serves. Its maps share structure, so that the cost of publishing
//!   a change, and of computing what a stream lacks, depends on the change and not on the size.
//!
//! ```
//! use std::time::Instant;
//! use mesh_core::mcp::sink::{Machine as Sink, Step};
//! use mesh_core::mcp::source::{Dialect, Machine as Source};
//! use mesh_core::mcp::{Collection, Snapshot};
//!
//! let mut snapshot = Snapshot::default();
//! let collection = Collection { version: "1".into(), ..Collection::default() };
//! snapshot.insert("istio/networking/v1alpha3/gateways", collection);
//! let now = Instant::now();
//! let mut source = Source::new(Dialect::Resources, true);
//! let mut sink = Sink::new("node", ["istio/networking/v1alpha3/gateways".to_owned()], true);
//! for request in sink.open(now) {
//!     source.request(request, Some(&snapshot), now);
//! }
//! let sent = source.next(&snapshot, now).ok_or("nothing is due")?;
//! if let Step::Apply(change, commit) = sink.receive(sent.message).step {
//!     assert!(change.first && change.added.is_empty());
//!     sink.commit(commit, Ok(()));
//! }
//! assert!(sink.missing().is_empty());
//! # Ok::<(), &str>(())
//! ```

pub mod sink;
mod snapshot;
pub mod source;
#[cfg(test)]
mod tests;
pub mod wire;

pub use snapshot::{Collection, Resources, Snapshot};
