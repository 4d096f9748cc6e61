//! What of a client decides which routes apply to it.

use std::collections::BTreeMap;

use pilot_model::{
    class::OutboundClass,
    config::{Labels, selects},
    virtual_service::VirtualService,
};

static NO_LABELS: Labels = BTreeMap::new();

/// Namespace and labels of a client; empty where the routes do not look at them, so that clients
/// share what is the same for them.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Source<'a> {
    namespace: &'a str,
    labels: &'a Labels,
}

impl Default for Source<'_> {
    fn default() -> Self {
        Self {
            namespace: "",
            labels: &NO_LABELS,
        }
    }
}

impl<'a> Source<'a> {
    /// What the routes of `vs` look at of the clients of `class`.
    pub fn of(class: &'a OutboundClass, vs: &VirtualService) -> Self {
        let mut source = Self::default();
        let spec = &vs.config.spec;
        let http = spec.http.iter().flat_map(|route| &route.r#match);
        let tls = spec.tls.iter().flat_map(|route| &route.r#match);
        let tcp = spec.tcp.iter().flat_map(|route| &route.r#match);
        let matches = http
            .map(|one| (&one.source_namespace, &one.source_labels))
            .chain(tls.map(|one| (&one.source_namespace, &one.source_labels)))
            .chain(tcp.map(|one| (&one.source_namespace, &one.source_labels)));
        for (namespace, labels) in matches {
            if !namespace.is_empty() {
                source.namespace = &class.namespace;
            }
            if !labels.is_empty() {
                source.labels = &class.labels;
            }
        }
        source
    }

    /// Whether a match with these conditions is for this client.
    pub fn fits(&self, labels: &Labels, namespace: &str) -> bool {
        selects(labels, self.labels) && (namespace.is_empty() || namespace == self.namespace)
    }
}
