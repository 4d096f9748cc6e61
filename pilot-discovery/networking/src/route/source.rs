//! The properties of a client that decide which routes apply to it.

use std::collections::BTreeMap;

use pilot_model::{
    class::OutboundClass,
    config::{Labels, selects},
    virtual_service::VirtualService,
};

static NO_LABELS: Labels = BTreeMap::new();

/// Namespace and labels of a client; empty if the routes do not match on them, so that clients
/// share equal results.
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
    /// The properties of the clients of `class` that the routes of `vs` match on.
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

    /// Whether a match with these conditions applies to this client.
    pub fn fits(&self, labels: &Labels, namespace: &str) -> bool {
        selects(labels, self.labels) && (namespace.is_empty() || namespace == self.namespace)
    }
}
