//! One configuration object between processes: metadata and encoded `spec`.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;

use crate::any;
use crate::collections::Collection;
use crate::mcp::v1alpha1::Resource;

/// 0001-01-01T00:00:00Z, by which a 1.1 peer means an unknown creation time.
const NO_TIME: Timestamp = Timestamp {
    seconds: -62_135_596_800,
    nanos: 0,
};

/// Metadata of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Name inside the namespace.
    pub name: String,
    /// Changes whenever the object does; otherwise opaque.
    pub resource_version: String,
    /// When the object was created, if known.
    pub creation_timestamp: Option<Timestamp>,
    /// Labels, all of them.
    pub labels: BTreeMap<String, String>,
    /// Annotations, all of them.
    pub annotations: BTreeMap<String, String>,
}

impl Meta {
    /// `namespace/name`, or `name` for a cluster-scoped object.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }
}

/// One object of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Name, version, labels.
    pub meta: Meta,
    /// What kind it is.
    pub collection: &'static Collection,
    /// The encoded message of [`Collection::message`].
    pub body: Bytes,
}

/// Error of reading a resource of the configuration stream.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// There is no metadata, or it has no name.
    #[error("resource of {collection} has no name")]
    NoName {
        /// Collection that the resource came in.
        collection: &'static str,
    },
    /// There is no body.
    #[error("{name} of {collection} has no body")]
    NoBody {
        /// Collection that the resource came in.
        collection: &'static str,
        /// Name of the resource.
        name: String,
    },
    /// The body is another message.
    #[error("{name} of {collection} holds {found:?}, want {wanted:?}")]
    Type {
        /// Collection that the resource came in.
        collection: &'static str,
        /// Name of the resource.
        name: String,
        /// Full name of the message of the collection.
        wanted: &'static str,
        /// Type URL of the body.
        found: String,
    },
}

impl Object {
    /// Reads a resource that came in `collection`. The body is not decoded.
    ///
    /// # Errors
    /// If the resource has no name or body, or holds another message.
    pub fn from_mcp(
        collection: &'static Collection,
        resource: Resource,
    ) -> Result<Self, ObjectError> {
        let Some(metadata) = resource
            .metadata
            .filter(|metadata| !metadata.name.is_empty())
        else {
            return Err(ObjectError::NoName {
                collection: collection.name,
            });
        };
        let Some(body) = resource.body else {
            return Err(ObjectError::NoBody {
                collection: collection.name,
                name: metadata.name,
            });
        };
        if any::message_name(&body.type_url) != collection.message {
            return Err(ObjectError::Type {
                collection: collection.name,
                name: metadata.name,
                wanted: collection.message,
                found: body.type_url,
            });
        }
        // Exactly one slash separates a namespace from a name; anything else is a name.
        let (namespace, name) = match metadata.name.split_once('/') {
            Some((namespace, name)) if !name.contains('/') => {
                (namespace.to_owned(), name.to_owned())
            }
            _ => (String::new(), metadata.name),
        };
        Ok(Self {
            meta: Meta {
                namespace,
                name,
                resource_version: metadata.version,
                creation_timestamp: metadata.create_time.filter(|time| *time != NO_TIME),
                labels: metadata.labels,
                annotations: metadata.annotations,
            },
            collection,
            body: body.value.into(),
        })
    }

    /// The decoded body.
    ///
    /// # Errors
    /// If the bytes are not an encoding of `T`. The caller must ensure that `T` is the message of
    /// the collection.
    pub fn decode<T: Message + Default>(&self) -> Result<T, prost::DecodeError> {
        T::decode(self.body.clone())
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Any;

    use super::*;
    use crate::collections;
    use crate::mcp::v1alpha1::Metadata;
    use crate::networking::v1alpha3::Gateway;

    fn gateways() -> &'static Collection {
        collections::by_gvk("networking.istio.io", "Gateway").unwrap()
    }

    fn object(namespace: &str, time: Option<Timestamp>) -> Object {
        let spec = Gateway {
            selector: [("istio".into(), "ingressgateway".into())].into(),
            ..Default::default()
        };
        Object {
            meta: Meta {
                namespace: namespace.into(),
                name: "web".into(),
                resource_version: "17".into(),
                creation_timestamp: time,
                labels: [("app".into(), "web".into())].into(),
                annotations: BTreeMap::new(),
            },
            collection: gateways(),
            body: spec.encode_to_vec().into(),
        }
    }

    /// The object as a source sends it.
    fn sent(object: &Object) -> Resource {
        Resource {
            metadata: Some(Metadata {
                name: object.meta.full_name(),
                create_time: Some(object.meta.creation_timestamp.unwrap_or(NO_TIME)),
                version: object.meta.resource_version.clone(),
                labels: object.meta.labels.clone(),
                annotations: object.meta.annotations.clone(),
            }),
            body: Some(Any {
                type_url: object.collection.type_url(),
                value: object.body.to_vec(),
            }),
        }
    }

    #[test]
    fn mcp_form_returns_the_object() {
        for time in [
            None,
            Some(Timestamp {
                seconds: 1_700_000_000,
                nanos: 5,
            }),
        ] {
            for namespace in ["", "shop"] {
                let object = object(namespace, time);
                assert_eq!(Object::from_mcp(gateways(), sent(&object)).unwrap(), object);
            }
        }
    }

    #[test]
    fn the_unknown_creation_time_is_year_one() {
        assert_eq!(NO_TIME.to_string(), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn body_decodes() {
        assert_eq!(
            object("shop", None).decode::<Gateway>().unwrap().selector["istio"],
            "ingressgateway"
        );
    }

    #[test]
    fn other_messages_are_refused() {
        let sidecars = collections::by_gvk("networking.istio.io", "Sidecar").unwrap();
        let error = Object::from_mcp(sidecars, sent(&object("shop", None))).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("shop/web of istio/networking/v1alpha3/sidecars holds"),
            "{error}"
        );
    }

    #[test]
    fn a_resource_without_name_or_body_is_refused() {
        let resource = Resource {
            metadata: None,
            body: None,
        };
        assert!(matches!(
            Object::from_mcp(gateways(), resource),
            Err(ObjectError::NoName { .. })
        ));
        let resource = Resource {
            body: None,
            ..sent(&object("shop", None))
        };
        assert!(matches!(
            Object::from_mcp(gateways(), resource),
            Err(ObjectError::NoBody { .. })
        ));
    }
}
