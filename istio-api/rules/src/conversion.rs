//! Conversion of configuration that only Istio 1.1 had into objects of today.
//!
//! ```text
//! Policy, MeshPolicy ─► policy ─► PeerAuthentication, RequestAuthentication, AuthorizationPolicy
//! ServiceRole, ServiceRoleBinding, ClusterRbacConfig, RbacConfig ─► rbac ─► AuthorizationPolicy
//! EnvoyFilter with filters ─► envoy_filter ─► EnvoyFilter with configPatches
//! ```
//!
//! Pure functions: the same objects and [`Service`]s give the same result, whatever their order.
//! Every resulting object passes [`crate::validation`]; what cannot be expressed today is left out
//! and becomes a [`Complaint`].
//!
//! Names of resulting objects contain a `~`, which no API server accepts in a name, so they never
//! collide with those of users; [`CONVERTED_FROM`] names their sources:
//!
//! | from | name |
//! |---|---|
//! | MeshPolicy `default` | `meshpolicy~default`, in the root namespace |
//! | Policy `P` without targets | `policy~P` |
//! | Policies with targets, mutual TLS | `service~S`; `S` is the first by name of the Services with its selector |
//! | Policy `P` with target `S`, tokens | `policy~P~S` |
//! | ClusterRbacConfig or RbacConfig `default` | `rbac~default`, or `rbac~default~S` |
//! | rule `i` of ServiceRole `R`, for `S` | `servicerole~R~i~S`, followed by `~j` if labels need several, and by `~dry-run` if it is one |

pub mod envoy_filter;
mod made;
pub mod policy;
pub mod rbac;
mod service;
mod source;

use std::fmt;

pub use service::{Port, Service};
pub use source::{Origin, Source};

use istio_api::object::Object;

/// Annotation of every resulting object: kind and name of its sources, comma separated.
pub const CONVERTED_FROM: &str = "internal.istio.io/converted-from";

/// Settings of the mesh that conversions need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mesh<'a> {
    /// Namespace whose objects are for the whole mesh.
    pub root_namespace: &'a str,
    /// DNS suffix of the cluster, such as `cluster.local`.
    pub domain: &'a str,
}

/// Something that could not be converted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// Kind of the object.
    pub kind: &'static str,
    /// Its namespace; empty for a cluster-scoped object.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where in it, in the names that users write: `spec.targets[0].name`.
    pub path: String,
    /// Why, and what would be right, in one sentence.
    pub message: String,
}

impl Complaint {
    /// Which object it is about: kind and full name.
    #[must_use]
    pub fn object(&self) -> String {
        title(self.kind, &self.namespace, &self.name)
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.object(), self.path, self.message)
    }
}

fn title(kind: &str, namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        format!("{kind} {name}")
    } else {
        format!("{kind} {namespace}/{name}")
    }
}

/// The result of a conversion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Converted {
    /// Ordered by collection, namespace and name.
    pub objects: Vec<Object>,
    /// Ordered by object and path.
    pub complaints: Vec<Complaint>,
}

impl Converted {
    fn add(&mut self, other: Self) {
        self.objects.extend(other.objects);
        self.complaints.extend(other.complaints);
    }

    fn in_order(mut self) -> Self {
        self.objects.sort_by(|a, b| {
            let key = |object: &Object| {
                let meta = &object.meta;
                (
                    object.collection.name,
                    meta.namespace.clone(),
                    meta.name.clone(),
                )
            };
            key(a).cmp(&key(b))
        });
        self.complaints.sort();
        self.complaints.dedup();
        self
    }
}
