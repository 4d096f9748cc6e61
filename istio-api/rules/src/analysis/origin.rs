//! The object that a message is about, and where it was read from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use istio_api::well_known::annotations;

/// Finds lines in the text that an object was read from.
pub trait Locate: fmt::Debug + Send + Sync {
    /// The line, from 1, of the field at `path` (`spec.http[0].match`), or of the nearest field
    /// around it that is there; of the object itself if the path is empty.
    fn line(&self, path: &str) -> Option<usize>;
}

/// A document that objects were read from.
#[derive(Debug, Clone)]
pub struct Place {
    /// Name of the file.
    pub file: Arc<str>,
    /// Path of the object in the document; empty unless the document is a list.
    pub prefix: String,
    /// Finds lines in the document. Asked only about messages that are shown.
    pub locator: Arc<dyn Locate>,
}

impl Place {
    /// Line of a field of the object, from 1.
    #[must_use]
    pub fn line(&self, path: &str) -> Option<usize> {
        let separator = if self.prefix.is_empty() || path.is_empty() {
            ""
        } else {
            "."
        };
        self.locator
            .line(&format!("{}{separator}{path}", self.prefix))
    }
}

/// An object that messages are about.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Kubernetes kind; `MeshConfig` and `MeshNetworks` for the settings of the mesh.
    pub kind: &'static str,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Where it was read, if from a document.
    pub place: Option<Place>,
    /// Codes that an annotation of the object suppresses; `*` stands for all.
    suppressed: Vec<String>,
}

impl Origin {
    /// An object with these annotations, which may suppress messages.
    #[must_use]
    pub fn new(
        kind: &'static str,
        namespace: Arc<str>,
        name: Arc<str>,
        annotations: &BTreeMap<String, String>,
    ) -> Self {
        let suppressed = annotations
            .get(annotations::ANALYZE_SUPPRESS)
            .into_iter()
            .flat_map(|codes| codes.split(','))
            .map(|code| code.trim().to_owned())
            .collect();
        Self {
            kind,
            namespace,
            name,
            place: None,
            suppressed,
        }
    }

    /// The namespace whose owners are concerned: a Namespace's own name; empty for other
    /// cluster-scoped objects.
    #[must_use]
    pub fn audience(&self) -> &str {
        if self.kind == "Namespace" {
            &self.name
        } else {
            &self.namespace
        }
    }

    /// `namespace/name`, or `name` for a cluster-scoped object.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.namespace.is_empty() {
            self.name.to_string()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }

    /// Whether an annotation of the object suppresses the code.
    #[must_use]
    pub fn suppresses(&self, code: &str) -> bool {
        self.suppressed.iter().any(|one| one == "*" || one == code)
    }

    /// Line of a field, if the object was read from a document.
    #[must_use]
    pub fn line(&self, path: &str) -> Option<usize> {
        self.place.as_ref()?.line(path)
    }
}

/// `Kind namespace/name`, or `Kind name`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.full_name())
    }
}
