use std::sync::Arc;

use istio_api::manifest::Metadata;
use istio_api::manifest::{Field, FieldError};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const IMPORTED_SERVICE: &str = "multicluster.kubernetes.io/service-name";

/// Whether an endpoint receives traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Ready.
    Ready,
    /// Not ready.
    NotReady,
    /// Terminating but still serving.
    Draining,
    /// Terminating.
    Terminating,
}

/// A port of a group of endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPort {
    /// Name of the service port.
    pub name: String,
    /// Port number of the endpoint.
    pub number: u16,
}

/// An endpoint, with all its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointAddress {
    /// IP addresses.
    pub addresses: Vec<String>,
    /// Whether it receives traffic.
    pub condition: Condition,
    /// `namespace/name` of its Pod.
    pub pod: Option<Arc<str>>,
    /// Name of its node, if given.
    pub node: Option<Arc<str>>,
}

/// Endpoints that share their ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointGroup {
    /// Ports.
    pub ports: Vec<EndpointPort>,
    /// Endpoints.
    pub endpoints: Vec<EndpointAddress>,
}

fn read_ports(field: &Field<'_>) -> Result<Vec<EndpointPort>, FieldError> {
    let mut ports = Vec::new();
    for port in field.list()? {
        ports.push(EndpointPort {
            name: port.get("name")?.text()?.unwrap_or_default().to_owned(),
            number: port.get("port")?.port()?.unwrap_or_default(),
        });
    }
    Ok(ports)
}

fn read_pod(metadata: &Metadata, field: &Field<'_>) -> Result<Option<Arc<str>>, FieldError> {
    let target = field.get("targetRef")?;
    if target.get("kind")?.text()? != Some("Pod") {
        return Ok(None);
    }
    let namespace = target
        .get("namespace")?
        .text()?
        .unwrap_or(&metadata.namespace);
    let name = target.get("name")?;
    match name.text()? {
        Some(name) if !name.is_empty() => Ok(Some(format!("{namespace}/{name}").into())),
        _ => Err(name.error("the reference to a Pod has no name: want the Pod's name")),
    }
}

pub(super) fn read_endpoints(
    metadata: &Metadata,
    object: &Field<'_>,
) -> Result<Vec<EndpointGroup>, FieldError> {
    let mut groups = Vec::new();
    for subset in object.get("subsets")?.list()? {
        let mut endpoints = Vec::new();
        for (list, condition) in [
            ("addresses", Condition::Ready),
            ("notReadyAddresses", Condition::NotReady),
        ] {
            for address in subset.get(list)?.list()? {
                let ip = address.get("ip")?;
                let Some(text) = ip.text()? else {
                    return Err(ip.error("the address has no ip: want one"));
                };
                endpoints.push(EndpointAddress {
                    addresses: vec![text.to_owned()],
                    condition,
                    pod: read_pod(metadata, &address)?,
                    node: address.get("nodeName")?.text()?.map(Arc::from),
                });
            }
        }
        groups.push(EndpointGroup {
            ports: read_ports(&subset.get("ports")?)?,
            endpoints,
        });
    }
    Ok(groups)
}

pub(super) fn read_slice(
    metadata: &Metadata,
    object: &Field<'_>,
) -> Result<(Option<Arc<str>>, Vec<EndpointGroup>), FieldError> {
    let mut endpoints = Vec::new();
    for endpoint in object.get("endpoints")?.list()? {
        let mut addresses = Vec::new();
        for address in endpoint.get("addresses")?.list()? {
            addresses.extend(address.text()?.map(str::to_owned));
        }
        let conditions = endpoint.get("conditions")?;
        let ready = conditions.get("ready")?.flag()?.unwrap_or(true);
        let serving = conditions.get("serving")?.flag()?.unwrap_or(ready);
        let terminating = conditions.get("terminating")?.flag()?.unwrap_or(false);
        let condition = match (ready, serving, terminating) {
            (true, ..) => Condition::Ready,
            (false, true, true) => Condition::Draining,
            (false, false, true) => Condition::Terminating,
            (false, _, false) => Condition::NotReady,
        };
        endpoints.push(EndpointAddress {
            addresses,
            condition,
            pod: read_pod(metadata, &endpoint)?,
            node: endpoint.get("nodeName")?.text()?.map(Arc::from),
        });
    }
    let groups = vec![EndpointGroup {
        ports: read_ports(&object.get("ports")?)?,
        endpoints,
    }];
    let named = object.get("addressType")?.text()? == Some("FQDN");
    let imported = metadata.labels.contains_key(IMPORTED_SERVICE);
    let service = metadata
        .labels
        .get(SERVICE_NAME)
        .filter(|_| !named && !imported);
    Ok((
        service.map(|name| format!("{}/{name}", metadata.namespace).into()),
        groups,
    ))
}
