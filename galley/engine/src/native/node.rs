use std::sync::Arc;

use istio_api::manifest::Metadata;

/// A Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Name.
    pub name: Arc<str>,
    /// `region/zone/subzone` without empty parts at the end; empty if the Node has no such labels.
    pub locality: String,
}

pub(super) fn read(metadata: &Metadata) -> Node {
    let label = |names: &[&str]| {
        let mut values = names.iter().filter_map(|name| metadata.labels.get(*name));
        values
            .find(|value| !value.is_empty())
            .cloned()
            .unwrap_or_default()
    };
    let region = label(&[
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/region",
    ]);
    let zone = label(&[
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/zone",
    ]);
    let subzone = label(&["topology.istio.io/subzone"]);
    let locality = [region, zone, subzone].join("/");
    Node {
        name: metadata.name.clone(),
        locality: locality.trim_end_matches('/').to_owned(),
    }
}
