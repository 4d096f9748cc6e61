//! What a pilot reports to galley about the proxies that hold a configuration object.
//!
//! It travels over the configuration stream in the other direction: the pilot is the source of the
//! collection [`COLLECTION`], with one resource for each configuration object.
//!
//! | part of the resource | what it says |
//! |---|---|
//! | `metadata.name` | which object: `<its collection>/<namespace>/<name>`, without a namespace for a cluster-scoped object |
//! | `metadata.version` | changes whenever `body` does |
//! | `body` | [`Distribution`] |
//!
//! An object without a resource is one that the pilot does not have.

use std::fmt::Write as _;

use prost::Message as _;
use prost_types::Any;

use crate::collections::{COLLECTIONS, Collection};
use crate::manifest::Key;
use crate::mcp::v1alpha1::{Metadata, Resource};
use crate::{any, collections};

/// Name of the collection on the configuration stream.
pub const COLLECTION: &str = "istio/status/v1alpha1/distributions";
/// Metadata key of the call: the name of the pilot. A new stream replaces an earlier one of the
/// same name.
pub const NODE: &str = "mcp-node";

/// Full name of the message.
const MESSAGE: &str = "keelson.status.v1alpha1.Distribution";

/// How many of the proxies that are connected to one pilot hold an object.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Distribution {
    /// Version of the object that this is about, as it was on the configuration stream.
    #[prost(string, tag = "1")]
    pub version: String,
    /// Proxies that the object reaches: some of their resources are made from it.
    #[prost(uint32, tag = "2")]
    pub reached: u32,
    /// Those of them that acknowledged all that is made from it.
    #[prost(uint32, tag = "3")]
    pub held: u32,
}

/// Error of reading a [`Distribution`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DistributionError {
    /// The name is not that of an object.
    #[error("{0:?} is not an object of configuration: want <collection>/<namespace>/<name>")]
    Name(String),
    /// The body is something else.
    #[error("{name}: the body is not a {MESSAGE}: {reason}")]
    Body {
        /// Name of the resource.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More proxies hold the object than it reaches.
    #[error("{name}: held by {held} of {reached} proxies")]
    Numbers {
        /// Name of the resource.
        name: String,
        /// [`Distribution::held`]
        held: u32,
        /// [`Distribution::reached`]
        reached: u32,
    },
}

impl Distribution {
    /// The resource that reports this about the object `namespace/name` of a collection.
    #[must_use]
    pub fn to_mcp(&self, collection: &Collection, namespace: &str, name: &str) -> Resource {
        let mut version = String::new();
        // Writing to a string does not fail.
        let _ = write!(version, "{}/{}/{}", self.version, self.reached, self.held);
        Resource {
            metadata: Some(Metadata {
                name: resource_name(collection, namespace, name),
                version,
                ..Metadata::default()
            }),
            body: Some(Any {
                type_url: format!("{}{MESSAGE}", any::PREFIX),
                value: self.encode_to_vec(),
            }),
        }
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// If the name is not that of an object, or the body is something else.
    pub fn from_mcp(resource: &Resource) -> Result<(Key, Self), DistributionError> {
        let name = resource.metadata.as_ref().map_or("", |meta| &meta.name);
        let key = object(name)?;
        let wrong = |reason: String| DistributionError::Body {
            name: name.to_owned(),
            reason,
        };
        let body = resource
            .body
            .as_ref()
            .ok_or_else(|| wrong("there is none".to_owned()))?;
        if body.type_url.strip_prefix(any::PREFIX) != Some(MESSAGE) {
            return Err(wrong(format!("it is a {:?}", body.type_url)));
        }
        let said = Self::decode(&*body.value).map_err(|error| wrong(error.to_string()))?;
        if said.held > said.reached {
            return Err(DistributionError::Numbers {
                name: name.to_owned(),
                held: said.held,
                reached: said.reached,
            });
        }
        Ok((key, said))
    }
}

/// Name of the resource about the object `namespace/name` of a collection.
#[must_use]
pub fn resource_name(collection: &Collection, namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        format!("{}/{name}", collection.name)
    } else {
        format!("{}/{namespace}/{name}", collection.name)
    }
}

/// The object that a resource of this name is about.
///
/// # Errors
/// If it is not the name of a configuration object.
pub fn object(name: &str) -> Result<Key, DistributionError> {
    let find = || {
        let (row, rest) = COLLECTIONS.iter().find_map(|row| {
            let rest = name.strip_prefix(row.name)?.strip_prefix('/')?;
            Some((row, rest))
        })?;
        let (namespace, name) = match row.scope {
            collections::Scope::Namespaced => rest.split_once('/')?,
            collections::Scope::Cluster => ("", rest),
        };
        let is_whole = !name.is_empty() && !name.contains('/');
        let is_placed = row.is_namespaced() != namespace.is_empty();
        (is_whole && is_placed).then(|| Key {
            group: row.group,
            kind: row.kind,
            namespace: namespace.into(),
            name: name.into(),
        })
    };
    find().ok_or_else(|| DistributionError::Name(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collections::{SYNTHETIC_SERVICE_ENTRIES, by_gvk};

    fn said() -> Distribution {
        Distribution {
            version: "f-1".to_owned(),
            reached: 14,
            held: 12,
        }
    }

    #[test]
    fn what_is_said_of_each_kind_comes_back() {
        for row in COLLECTIONS {
            let namespace = if row.is_namespaced() { "shop" } else { "" };
            let resource = said().to_mcp(row, namespace, "a.b");
            let (key, read) = Distribution::from_mcp(&resource).unwrap();
            assert_eq!(read, said());
            assert_eq!(by_gvk(key.group, key.kind), Some(row));
            assert_eq!((&*key.namespace, &*key.name), (namespace, "a.b"));
        }
    }

    #[test]
    fn versions_differ_when_anything_does() {
        let row = &COLLECTIONS[0];
        let version = |said: &Distribution| {
            let resource = said.to_mcp(row, "n", "x");
            resource.metadata.unwrap().version
        };
        let mut others = vec![said(); 4];
        others[1].version = "f-2".to_owned();
        others[2].reached = 13;
        others[3].held = 11;
        let versions: std::collections::BTreeSet<_> = others.iter().map(version).collect();
        assert_eq!(versions.len(), 4);
    }

    #[test]
    fn other_things_are_refused() {
        let routes = "istio/networking/v1alpha3/virtualservices";
        let mesh = "istio/authentication/v1alpha1/meshpolicies";
        let services = SYNTHETIC_SERVICE_ENTRIES.name;
        for name in [
            String::new(),
            "shop/a".to_owned(),
            routes.to_owned(),
            format!("{routes}/a"),
            format!("{routes}//a"),
            format!("{routes}/shop/"),
            format!("{routes}/shop/a/b"),
            format!("{routes}x/shop/a"),
            format!("{mesh}/shop/a"),
            format!("{mesh}/"),
            // Not a configuration object: it has no status.
            format!("{services}/shop/a"),
        ] {
            assert_eq!(object(&name), Err(DistributionError::Name(name.clone())));
        }
        let row = by_gvk("networking.istio.io", "Sidecar").unwrap();
        let good = said().to_mcp(row, "shop", "a");
        let mut bodies = vec![None, good.body.clone(), good.body.clone()];
        bodies[1].as_mut().unwrap().type_url = row.type_url();
        bodies[2].as_mut().unwrap().value = vec![0xff];
        for body in bodies {
            let metadata = good.metadata.clone();
            let error = Distribution::from_mcp(&Resource { metadata, body }).unwrap_err();
            assert!(matches!(error, DistributionError::Body { .. }), "{error}");
        }
        let more = Distribution { held: 15, ..said() };
        let error = Distribution::from_mcp(&more.to_mcp(row, "shop", "a")).unwrap_err();
        assert!(error.to_string().contains("held by 15 of 14 proxies"));
    }
}
