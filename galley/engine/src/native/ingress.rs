use std::sync::Arc;

use istio_api::manifest::{Field, FieldError, Metadata};
use prost_types::Timestamp;

/// Annotation with the class of objects older than `spec.ingressClassName`.
const CLASS: &str = "kubernetes.io/ingress.class";

/// An Ingress: `networking.k8s.io/v1`, or the older form that files may still have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingress {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Creation time, if known.
    pub created: Option<Timestamp>,
    /// Class in the annotation.
    pub annotated_class: Option<String>,
    /// Class in `spec.ingressClassName`.
    pub class: Option<Arc<str>>,
    /// Certificates.
    pub tls: Vec<Tls>,
    /// Default backend, for requests that no rule matches, with the path of its field.
    pub default_backend: Option<(String, Backend)>,
    /// Rules in their order.
    pub rules: Vec<Rule>,
}

/// A certificate and its hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Hosts; an empty list means all.
    pub hosts: Vec<String>,
    /// Secret; may be empty.
    pub secret: String,
}

/// Routes of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Host; empty for all.
    pub host: String,
    /// Paths in their order; `None` if the rule has no HTTP paths.
    pub paths: Option<Vec<Path>>,
}

/// How a path is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// The exact path.
    Exact,
    /// Prefix, by path elements.
    Prefix,
    /// By its syntax: `/x/*` and `/x.*` are prefixes.
    Pattern,
}

/// A path and its backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Path; may be empty.
    pub path: String,
    /// How it is matched.
    pub kind: PathKind,
    /// Path of the field `backend`.
    pub field: String,
    /// The backend.
    pub backend: Backend,
}

/// Target of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// A Service of the same namespace.
    Service(String, BackendPort),
    /// A resource, which is not supported.
    Resource,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendPort {
    /// Number, 1 to 65535.
    Number(u16),
    /// Name.
    Name(String),
}

/// An IngressClass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressClass {
    /// Name.
    pub name: Arc<str>,
    /// Name of the controller.
    pub controller: String,
}

pub(super) fn read_class(
    metadata: &Metadata,
    object: &Field<'_>,
) -> Result<IngressClass, FieldError> {
    let controller = object.get("spec")?.get("controller")?.text()?;
    Ok(IngressClass {
        name: metadata.name.clone(),
        controller: controller.unwrap_or_default().to_owned(),
    })
}

pub(super) fn read(metadata: &Metadata, object: &Field<'_>) -> Result<Ingress, FieldError> {
    let spec = object.get("spec")?;
    let mut tls = Vec::new();
    for entry in spec.get("tls")?.list()? {
        let mut hosts = Vec::new();
        for name in entry.get("hosts")?.list()? {
            let name = host(&name)?;
            // An empty host name stands for all hosts, as in a rule.
            hosts.push(if name.is_empty() {
                "*".to_owned()
            } else {
                name
            });
        }
        let secret = entry.get("secretName")?.text()?.unwrap_or_default();
        let secret = secret.to_owned();
        tls.push(Tls { hosts, secret });
    }
    let mut rules = Vec::new();
    for rule in spec.get("rules")?.list()? {
        let http = rule.get("http")?;
        let mut paths = Vec::new();
        for path in http.get("paths")?.list()? {
            paths.push(read_path(&path)?);
        }
        rules.push(Rule {
            host: host(&rule.get("host")?)?,
            paths: http.is_present().then_some(paths),
        });
    }
    let mut default_backend = None;
    for name in ["defaultBackend", "backend"] {
        let field = spec.get(name)?;
        if field.is_present() {
            default_backend = Some((format!("spec.{name}"), backend(&field)?));
            break;
        }
    }
    Ok(Ingress {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        created: metadata.created,
        annotated_class: metadata.annotations.get(CLASS).cloned(),
        class: spec.get("ingressClassName")?.text()?.map(Arc::from),
        tls,
        default_backend,
        rules,
    })
}

fn read_path(field: &Field<'_>) -> Result<Path, FieldError> {
    let (place, kind) = (field.get("path")?, field.get("pathType")?);
    let path = place.text()?.unwrap_or_default();
    let kind = match kind.text()? {
        Some("Exact") => PathKind::Exact,
        Some("Prefix") => PathKind::Prefix,
        Some("ImplementationSpecific") | None => PathKind::Pattern,
        Some(other) => {
            return Err(kind.error(format!(
                "{other:?} is not a valid path type: want Exact, Prefix or ImplementationSpecific"
            )));
        }
    };
    if kind != PathKind::Pattern && !path.starts_with('/') {
        return Err(place.error(format!(
            "{path:?} is not a valid path: want one that begins with /"
        )));
    }
    let target = field.get("backend")?;
    Ok(Path {
        path: path.to_owned(),
        kind,
        field: target.path().to_owned(),
        backend: backend(&target)?,
    })
}

fn backend(field: &Field<'_>) -> Result<Backend, FieldError> {
    if field.get("resource")?.is_present() {
        return Ok(Backend::Resource);
    }
    let service = field.get("service")?;
    let (name, port) = if service.is_present() {
        let port = service.get("port")?;
        let number = port.get("number")?;
        let port = if number.is_present() {
            number
        } else {
            port.get("name")?
        };
        (service.get("name")?, port)
    } else {
        (field.get("serviceName")?, field.get("servicePort")?)
    };
    let Some(text) = name.text()?.filter(|name| !name.is_empty()) else {
        return Err(
            field.error("the backend has no target: want the name of a service, or a resource")
        );
    };
    let port = match port.value() {
        // In the older form, numbers were often written as text.
        Some(serde_json::Value::String(name)) if !name.is_empty() => match name.parse() {
            Ok(number) if number > 0 => BackendPort::Number(number),
            _ => BackendPort::Name(name.clone()),
        },
        Some(serde_json::Value::Number(_)) => match port.port()? {
            Some(number) if number > 0 => BackendPort::Number(number),
            _ => return Err(port.error("0 is not a valid port: want 1 to 65535")),
        },
        _ => {
            return Err(port.error(
                "the backend has no port: want the number or name of a port of its service",
            ));
        }
    };
    Ok(Backend::Service(text.to_owned(), port))
}

/// A DNS name that may begin with `*.`; empty for all hosts, for which files may also have `*`.
fn host(field: &Field<'_>) -> Result<String, FieldError> {
    let text = field.text()?.unwrap_or_default();
    if text.is_empty() || text == "*" {
        return Ok(String::new());
    }
    let is_label = |label: &str| {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = text.strip_prefix("*.").unwrap_or(text);
    if text.len() > 253 || !name.split('.').all(is_label) {
        return Err(field.error(format!(
            "{text:?} is not a valid host: want a lowercase DNS name without port, which may begin \
             with \"*.\""
        )));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use istio_api::manifest::Native as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::native::Native;

    fn read(spec: &Value) -> Result<Arc<Ingress>, FieldError> {
        let object = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec});
        let metadata = Metadata::read(&Field::root(&object), true)?;
        match Native::read("Ingress", &metadata, &object)? {
            Native::Ingress(ingress) => Ok(ingress),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_forms_say_the_same() {
        let new = json!({
            "defaultBackend": {"service": {"name": "all", "port": {"number": 80}}},
            "rules": [{"host": "a.b", "http": {"paths": [
                {"path": "/x", "backend": {"service": {"name": "x", "port": {"name": "web"}}}},
            ]}}],
        });
        let old = json!({
            "backend": {"serviceName": "all", "servicePort": 80},
            "rules": [{"host": "a.b", "http": {"paths": [
                {"path": "/x", "backend": {"serviceName": "x", "servicePort": "web"}},
            ]}}],
        });
        let (new, old) = (read(&new).unwrap(), read(&old).unwrap());
        assert_eq!(new.rules, old.rules);
        let backend = Backend::Service("all".to_owned(), BackendPort::Number(80));
        assert_eq!(new.default_backend.as_ref().unwrap().1, backend);
        assert_eq!(old.default_backend.as_ref().unwrap().1, backend);
    }

    #[test]
    fn what_an_api_server_would_refuse_is_refused() {
        let with_path = |path: &Value| json!({"rules": [{"http": {"paths": [path]}}]});
        let service = json!({"service": {"name": "x", "port": {"number": 80}}});
        let wrong = [
            (json!({"rules": [{"host": "a:80"}]}), "spec.rules[0].host"),
            (json!({"tls": [{"hosts": ["A.b"]}]}), "spec.tls[0].hosts[0]"),
            (
                with_path(&json!({"path": "x", "pathType": "Exact", "backend": service})),
                "spec.rules[0].http.paths[0].path",
            ),
            (
                with_path(&json!({"path": "/", "pathType": "Regex", "backend": service})),
                "spec.rules[0].http.paths[0].pathType",
            ),
            (
                with_path(&json!({"path": "/"})),
                "spec.rules[0].http.paths[0].backend",
            ),
            (
                json!({"defaultBackend": {"service": {"name": "x", "port": {"number": 0}}}}),
                "spec.defaultBackend.service.port.number",
            ),
        ];
        for (spec, field) in wrong {
            assert_eq!(read(&spec).unwrap_err().path, field, "{spec}");
        }
    }
}
