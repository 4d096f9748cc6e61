//! Envoy resources from a snapshot.
//!
//! Every generator has the same steps, so that it cannot read anything that is not in its key:
//!
//! ```text
//! gather(client, what) ──► Inputs (#[derive(Hash)]) ──► hash ──► cached: the shared result
//!                                                         └────► build(&Inputs) ──► resources
//! ```
//!
//! A generator is a pure function: no clock, no randomness, no logging; equal inputs give equal
//! bytes in every process. [`class::fleet::Fleet`] keeps the resources of connected proxies:
//!
//! ```
//! use std::time::Instant;
//!
//! use istio_api::{
//!     collections,
//!     envoy::config::core::v3::Node,
//!     json::{self, Unknown},
//!     object::{Meta, Object},
//! };
//! use pilot_model::{builder::Builder, key::ObjectKey, mesh::Mesh, proxy::Proxy};
//! use pilot_networking::{class::fleet::Fleet, kind::Kind};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // An object, as galley or a file delivers it.
//! let collection = collections::by_gvk("networking.istio.io", "ServiceEntry").ok_or("a known kind")?;
//! let spec = serde_json::json!({
//!     "hosts": ["api.example.com"],
//!     "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
//!     "resolution": "DNS",
//! });
//! let (body, _) = json::read_dynamic(collection.message, &spec, Unknown::Refuse)
//!     .map_err(|issues| format!("{issues:?}"))?;
//! let meta = Meta { namespace: "shop".into(), name: "api".into(), ..Meta::default() };
//! let object = Object { meta, collection, body: body.into() };
//!
//! // The state of the mesh.
//! let mut builder = Builder::new(Mesh::default());
//! builder.apply(collection, &ObjectKey::new("shop", "api"), Some(object))?;
//! let (snapshot, _) = builder.publish();
//!
//! // The resources of a sidecar.
//! let node = Node { id: "sidecar~10.0.0.1~web.shop~shop.svc.cluster.local".into(), ..Node::default() };
//! let mut fleet = Fleet::default();
//! let sides = fleet.connect(1, Proxy::parse(Some(&node))?, &snapshot, Instant::now());
//! assert!(sides.outbound[Kind::Cluster].contains_key("outbound|80||api.example.com"));
//! # Ok(())
//! # }
//! ```

#![deny(missing_docs)]

pub mod class;
pub mod cluster;
pub mod config_source;
pub mod discovery;
pub mod endpoint;
pub mod gateway;
pub mod hash;
pub mod kind;
pub mod listener;
pub mod manifest;
pub mod name;
pub mod policy;
pub mod resource;
pub mod route;
pub mod tls;
mod wire;
