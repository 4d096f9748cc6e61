//! Kubernetes objects, reduced on reading to what analyzers look at.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::selection::{LabelSelector, Labels};
use istio_api::manifest::{Field, FieldError, Metadata, Native as Kinds};

/// Kinds that are read, with group, plural and whether they have a namespace.
pub const KINDS: &[(&str, &str, &str, bool)] = &[
    ("", "ConfigMap", "configmaps", true),
    ("apps", "Deployment", "deployments", true),
    (
        "admissionregistration.k8s.io",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        false,
    ),
    ("", "Namespace", "namespaces", false),
    ("", "Node", "nodes", false),
    ("", "Pod", "pods", true),
    ("", "Secret", "secrets", true),
    ("", "Service", "services", true),
];

/// Label of Secrets that hold access to other clusters.
const MULTI_CLUSTER: &str = "istio/multiCluster";
/// Variable with the addresses that the control plane must not fetch JWKS from.
const BLOCKED: &str = "BLOCKED_CIDRS_IN_JWKS_URIS";

/// A port of a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServicePort {
    /// Name; may be empty.
    pub name: String,
    /// Number that clients use.
    pub port: u32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Number or name of the port of the workload; empty means the same number.
    pub target: String,
    /// Application protocol.
    pub app_protocol: Option<String>,
}

impl ServicePort {
    /// Number of the port of the workload; the Service's own if it is given by name or not at all.
    pub(super) fn target_number(&self) -> u32 {
        match self.target.parse() {
            Ok(number) if number > 0 => number,
            _ => self.port,
        }
    }
}

/// A Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Labels of its Pods; empty if its endpoints are managed by hand.
    pub selector: Labels,
    /// Ports in order.
    pub ports: Vec<ServicePort>,
    /// Whether it is only another name of an external host.
    pub is_external_name: bool,
}

/// A container of a Pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Name.
    pub name: String,
    /// Image.
    pub image: String,
    /// User, if the container names one.
    pub user: Option<i64>,
    /// Whether the environment blocks addresses that JWKS must not be fetched from.
    pub blocks_addresses: bool,
}

/// A Pod, or the template of a Deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Containers.
    pub containers: Vec<Container>,
    /// Containers that run first.
    pub init_containers: Vec<Container>,
    /// Whether it shares the network of its node.
    pub host_network: bool,
    /// Node that it runs on; empty until it is scheduled.
    pub node: String,
    /// User of containers that name none.
    pub user: Option<i64>,
}

/// Name of the sidecar's container.
pub(super) const PROXY: &str = "istio-proxy";

impl Pod {
    /// The sidecar.
    pub(super) fn proxy(&self) -> Option<&Container> {
        let all = self.containers.iter().chain(&self.init_containers);
        all.into_iter().find(|container| container.name == PROXY)
    }
}

/// A Deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deployment {
    /// Labels of its Pods.
    pub labels: Labels,
    /// Annotations of its Pods.
    pub annotations: BTreeMap<String, String>,
    /// Its Pods.
    pub template: Pod,
}

/// A Secret: only whether it can be used is kept, never its contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secret {
    /// Whether it has a certificate and a key.
    pub has_certificate: bool,
    /// Names of the clusters that it gives access to.
    pub clusters: BTreeSet<String>,
}

/// One webhook of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Webhook {
    /// Name.
    pub name: String,
    /// Namespaces whose objects it is called for.
    pub namespaces: LabelSelector,
    /// Objects that it is called for.
    pub objects: LabelSelector,
    /// Namespace and name of the Service that it calls, unless it calls a URL.
    pub service: Option<(String, String)>,
}

/// An object of one of [`KINDS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Native {
    /// Settings of the mesh and of injection; empty for other config maps.
    ConfigMap(BTreeMap<String, String>),
    /// A Deployment.
    Deployment(Deployment),
    /// A MutatingWebhookConfiguration.
    Webhooks(Vec<Webhook>),
    /// A Namespace.
    Namespace,
    /// A Node.
    Node,
    /// A Pod.
    Pod(Pod),
    /// A Secret.
    Secret(Secret),
    /// A Service.
    Service(Service),
}

impl Kinds for Native {
    fn kind(group: &str, kind: &str) -> Option<(&'static str, &'static str, bool)> {
        KINDS
            .iter()
            .find(|row| row.0 == group && row.1 == kind)
            .map(|row| (row.0, row.1, row.3))
    }

    fn read(kind: &str, metadata: &Metadata, object: &Value) -> Result<Self, FieldError> {
        let root = Field::root(object);
        Ok(match kind {
            "ConfigMap" => Self::ConfigMap(config_map(metadata, &root)?),
            "Deployment" => Self::Deployment(deployment(&root)?),
            "MutatingWebhookConfiguration" => Self::Webhooks(webhooks(&root)?),
            "Namespace" => Self::Namespace,
            "Node" => Self::Node,
            "Pod" => Self::Pod(pod(&root.get("spec")?)?),
            "Secret" => Self::Secret(secret(metadata, &root)?),
            _ => Self::Service(service(&root.get("spec")?)?),
        })
    }
}

fn owned(field: &Field<'_>, member: &str) -> Result<String, FieldError> {
    Ok(field.get(member)?.text()?.unwrap_or_default().to_owned())
}

fn config_map(
    metadata: &Metadata,
    root: &Field<'_>,
) -> Result<BTreeMap<String, String>, FieldError> {
    if !metadata.name.starts_with("istio") {
        return Ok(BTreeMap::new());
    }
    let mut data = root.get("data")?.text_map()?;
    data.retain(|key, _| ["mesh", "meshNetworks", "values"].contains(&key.as_str()));
    Ok(data)
}

fn container(field: &Field<'_>) -> Result<Container, FieldError> {
    let mut blocks_addresses = false;
    for variable in field.get("env")?.list()? {
        blocks_addresses |= variable.get("name")?.text()? == Some(BLOCKED);
    }
    Ok(Container {
        name: owned(field, "name")?,
        image: owned(field, "image")?,
        user: user(field)?,
        blocks_addresses,
    })
}

fn user(field: &Field<'_>) -> Result<Option<i64>, FieldError> {
    let user = field.get("securityContext")?.get("runAsUser")?;
    Ok(user.value().and_then(Value::as_i64))
}

fn pod(spec: &Field<'_>) -> Result<Pod, FieldError> {
    let containers = |member: &str| -> Result<Vec<Container>, FieldError> {
        spec.get(member)?.list()?.iter().map(container).collect()
    };
    Ok(Pod {
        containers: containers("containers")?,
        init_containers: containers("initContainers")?,
        host_network: spec.get("hostNetwork")?.flag()?.unwrap_or_default(),
        node: owned(spec, "nodeName")?,
        user: user(spec)?,
    })
}

fn deployment(root: &Field<'_>) -> Result<Deployment, FieldError> {
    let template = root.get("spec")?.get("template")?;
    let metadata = template.get("metadata")?;
    Ok(Deployment {
        labels: metadata.get("labels")?.text_map()?,
        annotations: metadata.get("annotations")?.text_map()?,
        template: pod(&template.get("spec")?)?,
    })
}

fn service(spec: &Field<'_>) -> Result<Service, FieldError> {
    let port = |port: Field<'_>| -> Result<ServicePort, FieldError> {
        let target = port.get("targetPort")?;
        Ok(ServicePort {
            name: owned(&port, "name")?,
            port: port.get("port")?.port()?.unwrap_or_default().into(),
            protocol: port.get("protocol")?.text()?.unwrap_or("TCP").to_owned(),
            target: match target.value() {
                None => String::new(),
                Some(Value::String(name)) => name.clone(),
                Some(_) => target.port()?.unwrap_or_default().to_string(),
            },
            app_protocol: port.get("appProtocol")?.text()?.map(str::to_owned),
        })
    };
    let ports = spec.get("ports")?.list()?;
    Ok(Service {
        selector: spec.get("selector")?.text_map()?,
        ports: ports.into_iter().map(port).collect::<Result<_, _>>()?,
        is_external_name: spec.get("type")?.text()? == Some("ExternalName"),
    })
}

/// Pairs of members that hold a certificate and its key.
const PAIRS: [(&str, &str); 2] = [("tls.crt", "tls.key"), ("cert", "key")];

fn secret(metadata: &Metadata, root: &Field<'_>) -> Result<Secret, FieldError> {
    let data = root.get("data")?;
    let plain = root.get("stringData")?;
    let has = |member: &str, block: &str| -> Result<bool, FieldError> {
        // `stringData` wins, as in the API server.
        if let Some(text) = plain.get(member)?.text()? {
            return Ok(is_pem(text.as_bytes(), block));
        }
        let encoded = data.get(member)?.text()?.unwrap_or_default();
        Ok(STANDARD
            .decode(encoded)
            .is_ok_and(|bytes| is_pem(&bytes, block)))
    };
    let mut has_certificate = false;
    for (certificate, key) in PAIRS {
        has_certificate |= has(certificate, "CERTIFICATE-----")? && has(key, "PRIVATE KEY-----")?;
    }
    let mut clusters = BTreeSet::new();
    if metadata.labels.get(MULTI_CLUSTER).map(String::as_str) == Some("true") {
        for members in [&data, &plain] {
            let members = members.value().and_then(Value::as_object);
            clusters.extend(members.into_iter().flat_map(|map| map.keys().cloned()));
        }
    }
    Ok(Secret {
        has_certificate,
        clusters,
    })
}

/// Whether the bytes hold a PEM block whose header ends in `header`.
fn is_pem(bytes: &[u8], header: &str) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(str::trim);
    lines
        .by_ref()
        .any(|line| line.starts_with("-----BEGIN ") && line.ends_with(header))
        && lines.any(|line| line.starts_with("-----END ") && line.ends_with(header))
}

fn webhooks(root: &Field<'_>) -> Result<Vec<Webhook>, FieldError> {
    let webhook = |webhook: Field<'_>| -> Result<Webhook, FieldError> {
        let service = webhook.get("clientConfig")?.get("service")?;
        Ok(Webhook {
            name: owned(&webhook, "name")?,
            namespaces: LabelSelector::read(&webhook.get("namespaceSelector")?)?,
            objects: LabelSelector::read(&webhook.get("objectSelector")?)?,
            service: if service.is_present() {
                Some((owned(&service, "namespace")?, owned(&service, "name")?))
            } else {
                None
            },
        })
    };
    root.get("webhooks")?
        .list()?
        .into_iter()
        .map(webhook)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(object: &Value) -> Native {
        let kind = object["kind"].as_str().unwrap();
        let metadata = Metadata::read(&Field::root(object), true).unwrap();
        Native::read(kind, &metadata, object).unwrap()
    }

    #[test]
    fn of_a_secret_only_a_verdict_is_kept() {
        let pem = |name: &str| format!("-----BEGIN {name}-----\nAAAA\n-----END {name}-----\n");
        let secret = |certificate: &str, key: &str| {
            let object = json!({"kind": "Secret", "metadata": {"name": "a"},
                "data": {"tls.crt": STANDARD.encode(certificate)}, "stringData": {"tls.key": key}});
            read(&object)
        };
        let usable = |has_certificate| {
            Native::Secret(Secret {
                has_certificate,
                clusters: BTreeSet::new(),
            })
        };
        let (certificate, key) = (pem("CERTIFICATE"), pem("EC PRIVATE KEY"));
        assert_eq!(secret(&certificate, &key), usable(true));
        assert_eq!(secret("", &key), usable(false));
        assert_eq!(
            secret(&certificate, "-----BEGIN PRIVATE KEY-----"),
            usable(false)
        );
        assert_eq!(secret(&key, &certificate), usable(false));
    }

    #[test]
    fn target_ports_are_numbers_or_names() {
        let object = json!({"kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [
            {"port": 80, "targetPort": 8080}, {"port": 81, "targetPort": "web"}, {"port": 82}]}});
        let Native::Service(service) = read(&object) else {
            panic!("no Service");
        };
        let numbers: Vec<u32> = service
            .ports
            .iter()
            .map(ServicePort::target_number)
            .collect();
        assert_eq!(numbers, [8080, 81, 82]);
        assert_eq!(service.ports[1].target, "web");
    }
}
