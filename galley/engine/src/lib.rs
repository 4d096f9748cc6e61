//! From the updates of a configuration source to the collections that are served: pure, for files
//! and clusters alike.
//!
//! ```text
//! text, JSON ─► content ─► update ─► engine: store (which object is in force)
//!                                      │     processing (what is made from other objects)
//!                                      ▼
//!                                    publish (when) ─► mesh_core::mcp::Snapshot
//! ```
//!
//! ```
//! use std::{path::Path, sync::Arc};
//! use galley_engine::content;
//! use galley_engine::engine::Engine;
//! use galley_engine::processing::synthesis::Names;
//! use galley_engine::update::{FileUpdate, Update};
//!
//! let names = Names { domain: "cluster.local".into(), trust_domain: "cluster.local".into() };
//! let mut engine = Engine::new(names, "epoch");
//! let path: Arc<Path> = Path::new("a.yaml").into();
//! let text = "apiVersion: networking.istio.io/v1\nkind: Sidecar\n\
//!             metadata: {name: default, namespace: shop}\nspec: {outboundTrafficPolicy: {}}\n";
//! let content = content::read(&path, text);
//! let report = engine.apply(Update::Files(vec![FileUpdate::Read(path, content)]));
//! assert_eq!((report.changes, report.new_problems.len()), (1, 0));
//! engine.apply(Update::Synced);
//! let snapshot = engine.publish();
//! let sidecars = snapshot.get("istio/networking/v1alpha3/sidecars");
//! assert_eq!(sidecars.map_or(0, |sidecars| sidecars.resources.len()), 1);
//! ```

#![deny(missing_docs)]

pub mod content;
pub mod engine;
pub mod native;
pub mod object;
pub mod problem;
pub mod processing;
pub mod publish;
pub mod settings;
pub mod store;
pub mod update;
