//! Reasons to reject a Pod.

/// Why a Pod is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The object is not a Pod.
    #[error("the object is a {0}, not a Pod")]
    NotAPod(String),
    /// A field has the wrong type.
    #[error("not a Pod: {path} must be {wanted}")]
    Shape {
        /// Path of the field.
        path: String,
        /// Expected type.
        wanted: &'static str,
    },
    /// All annotations with invalid values.
    #[error("{}", .0.join("; "))]
    Annotations(Vec<String>),
    /// Templates that are not configured.
    #[error("annotation inject.istio.io/templates: unknown template {unknown:?}; known: {known}")]
    UnknownTemplate {
        /// The requested name.
        unknown: String,
        /// The configured templates.
        known: String,
    },
    /// A template cannot be rendered for this Pod.
    #[error("template {name:?}: {message}")]
    Template {
        /// Name of the template.
        name: String,
        /// Error of the template engine.
        message: String,
    },
    /// The Pod has only the proxy container, and the templates make it a sidecar.
    #[error(
        "the Pod has no container besides the proxy, and the template is that of a sidecar; for a \
         gateway, set the annotation inject.istio.io/templates: gateway"
    )]
    NoApplication,
    /// An annotation of an earlier injection was modified and cannot be parsed.
    #[error("annotation {annotation} was modified and can no longer be parsed: {message}")]
    Record {
        /// Name of the annotation.
        annotation: &'static str,
        /// Parse error.
        message: String,
    },
}
