use std::collections::BTreeMap;

use istio_api::manifest::Metadata;
use istio_api::manifest::{Field, FieldError};

/// Target port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A port number; 0 in headless services means the service port.
    Number(u16),
    /// Name of a container port.
    Name(String),
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// TCP, the default.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP, which proxies do not support.
    Sctp,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name; may be empty if it is the only port.
    pub name: String,
    /// Number, 1 to 65535.
    pub number: u16,
    /// Target port.
    pub target: Target,
    /// Transport protocol.
    pub transport: Transport,
    /// `appProtocol`, empty if not set.
    pub app_protocol: String,
}

/// A Service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Namespace, name, labels, annotations.
    pub metadata: Metadata,
    /// Virtual addresses, without `None`.
    pub cluster_ips: Vec<String>,
    /// `clusterIP: None`.
    pub headless: bool,
    /// External name of an ExternalName Service.
    pub external_name: Option<String>,
    /// Selector, empty if not set.
    pub selector: BTreeMap<String, String>,
    /// Ports in their order.
    pub ports: Vec<Port>,
    /// `publishNotReadyAddresses`.
    pub publish_not_ready: bool,
    /// `internalTrafficPolicy: Local`.
    pub node_local: bool,
    /// `trafficDistribution`, empty if not set.
    pub traffic_distribution: String,
}

pub(super) fn read(metadata: &Metadata, object: &Field<'_>) -> Result<Service, FieldError> {
    let spec = object.get("spec")?;
    let mut cluster_ips = Vec::new();
    for address in spec.get("clusterIPs")?.list()? {
        cluster_ips.extend(address.text()?.map(str::to_owned));
    }
    if let Some(address) = spec.get("clusterIP")?.text()?
        && !cluster_ips.iter().any(|known| known == address)
    {
        cluster_ips.insert(0, address.to_owned());
    }
    let headless = cluster_ips.iter().any(|address| address == "None");
    cluster_ips.retain(|address| address != "None" && !address.is_empty());
    let external = match spec.get("type")?.text()?.unwrap_or("ClusterIP") {
        "ExternalName" => true,
        "ClusterIP" | "NodePort" | "LoadBalancer" => false,
        other => {
            return Err(spec.get("type")?.error(format!(
                "{other:?} is not valid: want ClusterIP, NodePort, LoadBalancer or ExternalName"
            )));
        }
    };
    let external_name = spec.get("externalName")?.text()?.unwrap_or_default();
    if external && external_name.is_empty() {
        return Err(spec
            .get("externalName")?
            .error("an ExternalName service has no name: want a DNS name"));
    }
    let mut ports = Vec::new();
    for port in spec.get("ports")?.list()? {
        ports.push(read_port(&port)?);
    }
    let text = |name: &str| -> Result<&str, FieldError> {
        Ok(spec.get(name)?.text()?.unwrap_or_default())
    };
    Ok(Service {
        metadata: metadata.clone(),
        cluster_ips,
        headless,
        external_name: external.then(|| external_name.trim_end_matches('.').to_owned()),
        selector: spec.get("selector")?.text_map()?,
        ports,
        publish_not_ready: spec
            .get("publishNotReadyAddresses")?
            .flag()?
            .unwrap_or_default(),
        node_local: text("internalTrafficPolicy")? == "Local",
        traffic_distribution: text("trafficDistribution")?.to_owned(),
    })
}

fn read_port(port: &Field<'_>) -> Result<Port, FieldError> {
    let field = port.get("port")?;
    let number = match field.port()? {
        Some(0) | None => {
            return Err(field.error("the service port has no number: want 1 to 65535"));
        }
        Some(number) => number,
    };
    let target = port.get("targetPort")?;
    let target = match target.value() {
        None => Target::Number(number),
        Some(serde_json::Value::String(name)) => match name.parse() {
            Ok(number) => Target::Number(number),
            Err(_) => Target::Name(name.clone()),
        },
        Some(_) => match target.port()? {
            Some(0) | None => Target::Number(number),
            Some(number) => Target::Number(number),
        },
    };
    let transport = port.get("protocol")?;
    let transport = match transport.text()?.unwrap_or("TCP") {
        "TCP" => Transport::Tcp,
        "UDP" => Transport::Udp,
        "SCTP" => Transport::Sctp,
        other => {
            return Err(transport.error(format!(
                "{other:?} is not a valid protocol: want TCP, UDP or SCTP"
            )));
        }
    };
    Ok(Port {
        name: port.get("name")?.text()?.unwrap_or_default().to_owned(),
        number,
        target,
        transport,
        app_protocol: port
            .get("appProtocol")?
            .text()?
            .unwrap_or_default()
            .to_owned(),
    })
}
