//! The Kubernetes objects that configuration is made from, reduced to the parts that are used:
//! Services and what belongs to them, Ingresses and their classes.

mod endpoints;
/// Ingress, IngressClass and what they name.
pub mod ingress;
mod node;
mod pod;
mod service;

use std::sync::Arc;

use serde_json::Value;

pub use endpoints::{Condition, EndpointAddress, EndpointGroup, EndpointPort};
pub use ingress::{Ingress, IngressClass};
pub use node::Node;
pub use pod::Pod;
pub use service::{Port, Service, Target, Transport};

use istio_api::manifest::{self, Field, FieldError, Metadata};

/// Group of Ingress and IngressClass.
pub const INGRESS_GROUP: &str = "networking.k8s.io";

/// A Kubernetes object.
#[derive(Debug, Clone, PartialEq)]
pub enum Native {
    /// `v1 Service`
    Service(Arc<Service>),
    /// `v1 Endpoints`: one group per subset.
    Endpoints(Arc<[EndpointGroup]>),
    /// `discovery.k8s.io EndpointSlice`, with the `namespace/name` of its Service. `None`: it has
    /// none, or is imported or of the type FQDN, which are not used.
    EndpointSlice(Option<Arc<str>>, Arc<[EndpointGroup]>),
    /// `v1 Pod`
    Pod(Arc<Pod>),
    /// `v1 Node`
    Node(Arc<Node>),
    /// `networking.k8s.io Ingress`, also of its older groups.
    Ingress(Arc<Ingress>),
    /// `networking.k8s.io IngressClass`
    IngressClass(Arc<IngressClass>),
}

impl manifest::Native for Native {
    fn kind(group: &str, kind: &str) -> Option<(&'static str, &'static str, bool)> {
        Some(match (group, kind) {
            ("", "Service") => ("", "Service", true),
            ("", "Endpoints") => ("", "Endpoints", true),
            ("", "Pod") => ("", "Pod", true),
            ("", "Node") => ("", "Node", false),
            ("discovery.k8s.io", "EndpointSlice") => ("discovery.k8s.io", "EndpointSlice", true),
            (INGRESS_GROUP | "extensions", "Ingress") => (INGRESS_GROUP, "Ingress", true),
            (INGRESS_GROUP, "IngressClass") => (INGRESS_GROUP, "IngressClass", false),
            _ => return None,
        })
    }

    fn read(kind: &str, metadata: &Metadata, object: &Value) -> Result<Self, FieldError> {
        let object = Field::root(object);
        Ok(match kind {
            "Service" => Self::Service(Arc::new(service::read(metadata, &object)?)),
            "Endpoints" => Self::Endpoints(endpoints::read_endpoints(metadata, &object)?.into()),
            "EndpointSlice" => {
                let (service, groups) = endpoints::read_slice(metadata, &object)?;
                Self::EndpointSlice(service, groups.into())
            }
            "Pod" => Self::Pod(Arc::new(pod::read(metadata, &object)?)),
            "Ingress" => Self::Ingress(Arc::new(ingress::read(metadata, &object)?)),
            "IngressClass" => Self::IngressClass(Arc::new(ingress::read_class(metadata, &object)?)),
            _ => Self::Node(Arc::new(node::read(metadata))),
        })
    }
}
