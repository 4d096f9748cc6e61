//! Rules over Istio's objects: what is refused, what is wrong between objects, what objects of 1.1
//! become, and the schemas of every kind.
//!
//! ```
//! use istio_api::{collections, json, object::{Meta, Object}};
//! use istio_rules::validation::validate;
//!
//! let collection = collections::by_gvk("networking.istio.io", "Gateway").ok_or("unknown kind")?;
//! let spec = serde_json::json!({"servers": []});
//! let (body, _) = json::read_dynamic(collection.message, &spec, json::Unknown::Refuse)
//!     .map_err(|mistakes| format!("{mistakes:?}"))?;
//! let object = Object {
//!     meta: Meta { namespace: "default".into(), name: "front".into(), ..Meta::default() },
//!     collection,
//!     body: body.into(),
//! };
//! let problems = validate(&object);
//! assert_eq!(problems[0].path, "spec.servers");
//! # Ok::<(), String>(())
//! ```

#![deny(missing_docs)]

pub mod analysis;
pub mod conversion;
pub mod crd;
pub mod validation;
