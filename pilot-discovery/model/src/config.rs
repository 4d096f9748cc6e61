//! Configuration objects and their origin.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::hashed::Spec;
use istio_api::collections::{Collection, SYNTHETIC_SERVICE_ENTRIES};

/// Labels of a workload or an object.
pub type Labels = BTreeMap<String, String>;

/// Whether `labels` contain every pair of `selector`; an empty selector selects everything.
pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// Identifies one version of a configuration object. Part of every generated resource, inside
/// pilot only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigRef {
    /// Kubernetes kind, e.g. `VirtualService`.
    pub kind: &'static str,
    /// Namespace of the object; empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// Name of the object.
    pub name: Arc<str>,
    /// `metadata.resourceVersion`, or the hash that the source gave the object.
    pub version: Arc<str>,
}

/// Identifies a configuration object, whatever its version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigName {
    /// Kubernetes kind, e.g. `VirtualService`.
    pub kind: &'static str,
    /// Namespace of the object; empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// Name of the object.
    pub name: Arc<str>,
}

impl ConfigRef {
    /// The object that this is a version of.
    pub fn object(&self) -> ConfigName {
        ConfigName {
            kind: self.kind,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

/// Whether the objects of a collection represent Kubernetes Services.
pub fn is_synthetic(collection: &Collection) -> bool {
    collection.name == SYNTHETIC_SERVICE_ENTRIES.name
}

/// The kind in a [`ConfigRef`] to an object of a collection: the kind that users write, so for a
/// synthetic ServiceEntry it is `Service`.
pub fn source_kind(collection: &Collection) -> &'static str {
    if is_synthetic(collection) {
        "Service"
    } else {
        collection.kind
    }
}

/// Whether resources refer to the objects of this collection, as users wrote them. Policies of 1.1
/// are converted, and resources refer to the results.
pub fn is_traced(collection: &Collection) -> bool {
    matches!(
        source_kind(collection),
        "DestinationRule"
            | "Gateway"
            | "PeerAuthentication"
            | "ServiceEntry"
            | "Sidecar"
            | "VirtualService"
    )
}

impl fmt::Display for ConfigRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// When an object was created: seconds and nanoseconds since the epoch; zero when unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Created {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds of the second, 0 to 999,999,999.
    pub nanos: i32,
}

/// A decoded object of one kind.
#[derive(Clone, Debug)]
pub struct Config<T> {
    /// Identifies the object and its version.
    pub reference: ConfigRef,
    /// When it was created; decides conflicts.
    pub created: Created,
    /// Labels (`metadata.labels`).
    pub labels: Labels,
    /// Annotations (`metadata.annotations`).
    pub annotations: Labels,
    /// The content (`spec`).
    pub spec: Spec<T>,
}

// By hand, as a derive would require `T: Hash`, which messages do not implement; the pattern lists
// every field.
impl<T: prost::Message> Hash for Config<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self {
            reference,
            created,
            labels,
            annotations,
            spec,
        } = self;
        (reference, created, labels, annotations, spec).hash(state);
    }
}

impl<T> Config<T> {
    /// Namespace of the object; empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        &self.reference.namespace
    }

    /// Name of the object.
    pub fn name(&self) -> &str {
        &self.reference.name
    }

    /// The order that decides every conflict: the oldest object wins, then name, then namespace.
    pub fn by_age(&self, other: &Self) -> Ordering {
        self.created
            .cmp(&other.created)
            .then_with(|| self.reference.name.cmp(&other.reference.name))
            .then_with(|| self.reference.namespace.cmp(&other.reference.namespace))
    }
}

/// Which namespaces may see an object (`exportTo`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// Every namespace (`*`).
    Public,
    /// No namespace (`~`).
    Hidden,
    /// These namespaces, sorted.
    Namespaces(Vec<Arc<str>>),
}

impl Visibility {
    /// Parses the `exportTo` list of an object in `own`; an empty list means `default`.
    pub fn parse<S: AsRef<str>>(values: &[S], own: &Arc<str>, default: &[String]) -> Self {
        if values.is_empty() {
            if default.is_empty() {
                return Self::Public;
            }
            return Self::of(default.iter().map(String::as_str), own);
        }
        Self::of(values.iter().map(AsRef::as_ref), own)
    }

    fn of<'a>(values: impl Iterator<Item = &'a str>, own: &Arc<str>) -> Self {
        let mut namespaces: Vec<Arc<str>> = Vec::new();
        let mut hidden = false;
        for value in values {
            match value.trim() {
                "*" => return Self::Public,
                "~" => hidden = true,
                "." => namespaces.push(own.clone()),
                "" => {}
                other => namespaces.push(other.into()),
            }
        }
        if hidden {
            return Self::Hidden;
        }
        namespaces.sort();
        namespaces.dedup();
        Self::Namespaces(namespaces)
    }

    /// Whether `namespace` may see it.
    pub fn includes(&self, namespace: &str) -> bool {
        match self {
            Self::Public => true,
            Self::Hidden => false,
            Self::Namespaces(list) => list.iter().any(|n| &**n == namespace),
        }
    }

    /// Whether only `own` may see it.
    pub fn is_private(&self, own: &str) -> bool {
        matches!(self, Self::Namespaces(list) if list.iter().all(|n| &**n == own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn export_to_reads_every_entry() {
        let own: Arc<str> = "a".into();
        let parse = |values: &[&str]| Visibility::parse(values, &own, &[]);
        assert_eq!(parse(&[]), Visibility::Public);
        assert_eq!(parse(&["b", "*"]), Visibility::Public);
        assert_eq!(parse(&["~", "b"]), Visibility::Hidden);
        assert!(parse(&["."]).is_private("a"));
        assert!(parse(&[".", "b"]).includes("b"));
        assert!(!parse(&["b"]).includes("a"));
        let private = Visibility::parse::<&str>(&[], &own, &[".".to_owned()]);
        assert!(private.is_private("a"));
    }
}
