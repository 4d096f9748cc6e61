//! Why a Pod cannot be injected.

/// Why a Pod is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another kind of object.
    #[error("the object is a {0}, not a Pod")]
    NotAPod(String),
    /// A member has the wrong type.
    #[error("not a Pod: {path} must be {wanted}")]
    Shape {
        /// Where.
        path: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// Annotations with values that cannot be used, all of them.
    #[error("{}", .0.join("; "))]
    Annotations(Vec<String>),
    /// Templates that are not configured.
    #[error(
        "annotation inject.istio.io/templates: unknown template {unknown:?}; known are {known}"
    )]
    UnknownTemplate {
        /// The name asked for.
        unknown: String,
        /// What there is.
        known: String,
    },
    /// A template that fails for this Pod.
    #[error("template {name:?}: {message}")]
    Template {
        /// Which template.
        name: String,
        /// What the engine says.
        message: String,
    },
    /// Only the proxy is there, and the templates make it a sidecar.
    #[error(
        "the Pod has no container besides the proxy, which is to be a sidecar; for a gateway, annotate inject.istio.io/templates: gateway"
    )]
    NoApplication,
    /// An annotation written by an earlier injection that can no longer be read.
    #[error("annotation {annotation} was changed and can no longer be read: {message}")]
    Record {
        /// Which annotation.
        annotation: &'static str,
        /// What is wrong.
        message: String,
    },
}
