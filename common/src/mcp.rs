//! The Mesh Configuration Protocol (`istio.mcp.v1alpha1`), both ends.
//!
//! A *source* (galley) serves collections of configuration; a *sink* (pilot-discovery) subscribes
//! to them on one long-lived stream, accepts or rejects every message, and receives changes.
//!
//! * [`mesh_core::mcp`] is the protocol: plain state, without IO and clock.
//! * [`source::Server`] and [`sink::Client`] run it on tonic. The server also has the service
//!   of 1.0. [`source::Client`] calls a sink that cannot call, such as a [`sink::Server`].
//!
//! # Using the sink
//!
//! Implement [`sink::Updater`]; its `apply` receives one [`Change`](mesh_core::mcp::sink::Change)
//! at a time. A change is always a *difference* (`added`, `removed`), whatever the message on the
//! wire was: full messages are compared with what was applied before, so that a source that
//! restarts and sends everything again causes no call at all. `apply` is asynchronous so that it
//! can wait for a bounded channel; the stream is not read while it runs, which bounds memory: one
//! message at a time, plus a fingerprint per resource. `Err(reason)` rejects the whole message: the
//! source shows the reason, and sends again when it has something newer. Do not reject a message
//! for a single bad object; keep its last good form and return `Ok`.
//!
//! ```text
//! let tls = ReloadingClientConfig::load(files, Verify::Dns)?;
//! let dial = sink::Dial::new("mcps://istio-galley.istio-system.svc:9901", Some(tls), None)?;
//! let metrics = sink::Metrics::register(&registry, "pilot");
//! let (client, handle) = sink::Client::new(options, dial, updater, metrics);
//! tokio::spawn(client.run(drain));
//! handle.synced().await;              // every collection was applied once
//! handle.missing();                   // the ones that were not, for /ready
//! ```
//!
//! # Deviations from 1.1
//!
//! Deltas on request, names and versions sent on reconnect, unknown collections answered as empty
//! instead of ending the stream (not in the service of 1.0), one-second limit on repeated
//! subscriptions, bounds for everything that a peer makes us store. A source that calls also
//! accepts subscriptions before the answer to its opening message: sinks of 1.1 send them in this
//! order, and sources of 1.1 do not understand it.

mod admit;
mod dial;
pub mod sink;
pub mod source;

pub use dial::{AddressError, Connect, Dial};
