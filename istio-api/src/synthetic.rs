//! How a Kubernetes Service travels as a ServiceEntry.
//!
//! Galley joins Service, Endpoints or EndpointSlice, Pod and Node into one resource of the
//! collection `istio/networking/v1alpha3/synthetic/serviceentries`, named like the Service
//! (`namespace/name`). It holds:
//!
//! | fact | where |
//! |---|---|
//! | host name | `hosts[0]` = `<name>.<namespace>.svc.<domain>` |
//! | ClusterIPs | `addresses`; `0.0.0.0` when headless; none for ExternalName |
//! | kind | `resolution` STATIC; NONE = headless; DNS with `location` MESH_EXTERNAL = ExternalName |
//! | ports | `ports`, in the order of the Service; unnamed ports keep the empty name |
//! | protocol | `ports[].protocol`, from `appProtocol`, else the name's prefix, else the well-known port; empty = unknown, to be detected |
//! | numeric targetPort | `ports[].targetPort`; 0 when named |
//! | named targetPort | annotation [`TARGET_PORTS`], and resolved in each endpoint's `ports` |
//! | ready endpoints | `endpoints`: address, port by service port name, labels, locality, network, service account |
//! | Pod labels | `endpoints[].labels`, plus `kubernetes.io/hostname` = the node's name and [`WORKLOAD_NAME`] |
//! | identity | `endpoints[].serviceAccount`, the bare name: `spiffe://<trust domain>/ns/<namespace>/sa/<name>` |
//! | other identities | `subjectAltNames`, from the Service's `alpha.istio.io/*-serviceaccounts` annotations |
//! | endpoints without traffic | annotation [`NOT_READY`], each with its health, otherwise as complete as the ready ones |
//! | selector | `workloadSelector.labels`: which Pods implement the Service, whether ready or not |
//! | visibility | `exportTo`, from annotation `networking.istio.io/exportTo` |
//! | ExternalName target | annotation [`EXTERNAL_NAME`], and the single endpoint's address |
//! | `internalTrafficPolicy: Local` | annotation [`NODE_LOCAL`] |
//! | `publishNotReadyAddresses` | annotation [`PUBLISH_NOT_READY`] |
//! | `trafficDistribution` | annotation `networking.istio.io/traffic-distribution` |
//! | labels, annotations, creation time | metadata, as on the Service |
//!
//! [`Facts`] reads and writes what has no field of its own.

use std::collections::BTreeMap;

use crate::mcp::v1alpha1::Metadata;
use crate::networking::v1alpha3::{ServiceEntry, WorkloadEntry, WorkloadSelector};
use serde::{Deserialize, Serialize};

/// JSON object: service port name to container port name.
pub const TARGET_PORTS: &str = "internal.istio.io/target-ports";
/// JSON list of endpoints that exist and take no traffic.
pub const NOT_READY: &str = "internal.istio.io/not-ready-endpoints";
/// DNS name that an ExternalName Service stands for.
pub const EXTERNAL_NAME: &str = "internal.istio.io/external-name";
/// `true`: clients use endpoints of their own node only.
pub const NODE_LOCAL: &str = "internal.istio.io/node-local";
/// `true`: endpoints are published before they are ready.
pub const PUBLISH_NOT_READY: &str = "internal.istio.io/publish-not-ready";
/// Endpoint label: name of the Deployment (or whatever owns the Pod).
pub const WORKLOAD_NAME: &str = "internal.istio.io/workload-name";
/// Endpoint label: name of the node.
pub const NODE_NAME: &str = "kubernetes.io/hostname";

const ANNOTATIONS: [&str; 5] = [
    TARGET_PORTS,
    NOT_READY,
    EXTERNAL_NAME,
    NODE_LOCAL,
    PUBLISH_NOT_READY,
];

/// Why an endpoint takes no traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Health {
    /// Its readiness probe fails.
    Unhealthy,
    /// It is ending and still serves what it has.
    Draining,
    /// It is ending.
    Terminating,
}

/// An endpoint that takes no traffic.
#[derive(Debug, Clone, PartialEq)]
pub struct NotReady {
    /// The endpoint, as complete as a ready one.
    pub entry: WorkloadEntry,
    /// Why.
    pub health: Health,
}

/// What a ServiceEntry has no field for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The Service's selector; empty when it has none.
    pub selector: BTreeMap<String, String>,
    /// Named target ports: service port name to container port name.
    pub target_ports: BTreeMap<String, String>,
    /// Endpoints that take no traffic.
    pub not_ready: Vec<NotReady>,
    /// Target of an ExternalName Service.
    pub external_name: Option<String>,
    /// `internalTrafficPolicy: Local`.
    pub node_local: bool,
    /// `publishNotReadyAddresses`.
    pub publish_not_ready: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    address: String,
    health: Health,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    ports: BTreeMap<String, u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    network: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    locality: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    service_account: String,
}

impl Facts {
    /// Writes the facts into the resource.
    pub fn write(
        &self,
        metadata: &mut Metadata,
        entry: &mut ServiceEntry,
    ) -> Result<(), serde_json::Error> {
        entry.workload_selector = (!self.selector.is_empty()).then(|| WorkloadSelector {
            labels: self.selector.clone(),
        });
        let mut put = |name: &str, value: Option<String>| match value {
            Some(value) => metadata.annotations.insert(name.to_owned(), value),
            None => metadata.annotations.remove(name),
        };
        let ports = (!self.target_ports.is_empty())
            .then(|| serde_json::to_string(&self.target_ports))
            .transpose()?;
        put(TARGET_PORTS, ports);
        let rows: Vec<Row> = self.not_ready.iter().map(NotReady::row).collect();
        put(
            NOT_READY,
            (!rows.is_empty())
                .then(|| serde_json::to_string(&rows))
                .transpose()?,
        );
        put(EXTERNAL_NAME, self.external_name.clone());
        put(NODE_LOCAL, self.node_local.then(|| "true".to_owned()));
        put(
            PUBLISH_NOT_READY,
            self.publish_not_ready.then(|| "true".to_owned()),
        );
        Ok(())
    }

    /// Reads the facts of a synthetic resource. An annotation in a form that galley does not write
    /// is an error that names it.
    pub fn read(
        annotations: &BTreeMap<String, String>,
        entry: &ServiceEntry,
    ) -> Result<Self, String> {
        let annotation = |name: &str| annotations.get(name);
        let flag = |name: &str| annotation(name).is_some_and(|value| value == "true");
        let bad = |name: &str, error: &serde_json::Error| format!("annotation {name:?}: {error}");
        let target_ports = annotation(TARGET_PORTS)
            .map(|text| serde_json::from_str(text).map_err(|error| bad(TARGET_PORTS, &error)))
            .transpose()?
            .unwrap_or_default();
        let rows: Vec<Row> = annotation(NOT_READY)
            .map(|text| serde_json::from_str(text).map_err(|error| bad(NOT_READY, &error)))
            .transpose()?
            .unwrap_or_default();
        Ok(Self {
            selector: entry
                .workload_selector
                .as_ref()
                .map(|selector| selector.labels.clone())
                .unwrap_or_default(),
            target_ports,
            not_ready: rows.into_iter().map(NotReady::from_row).collect(),
            external_name: annotation(EXTERNAL_NAME).cloned(),
            node_local: flag(NODE_LOCAL),
            publish_not_ready: flag(PUBLISH_NOT_READY),
        })
    }

    /// The Service's own annotations: the metadata's without those of this module.
    pub fn service_annotations(metadata: &Metadata) -> BTreeMap<String, String> {
        let own = metadata.annotations.iter();
        own.filter(|(name, _)| !ANNOTATIONS.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

impl NotReady {
    fn row(&self) -> Row {
        let entry = &self.entry;
        Row {
            address: entry.address.clone(),
            health: self.health,
            ports: entry.ports.clone(),
            labels: entry.labels.clone(),
            network: entry.network.clone(),
            locality: entry.locality.clone(),
            service_account: entry.service_account.clone(),
        }
    }

    fn from_row(row: Row) -> Self {
        let Row {
            address,
            health,
            ports,
            labels,
            network,
            locality,
            service_account,
        } = row;
        let entry = WorkloadEntry {
            address,
            ports,
            labels,
            network,
            locality,
            service_account,
            ..Default::default()
        };
        Self { entry, health }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let facts = Facts {
            selector: map(&[("app", "reviews")]),
            target_ports: map(&[("http", "web")]),
            not_ready: vec![NotReady {
                entry: WorkloadEntry {
                    address: "10.0.0.9".into(),
                    ports: [("http".to_owned(), 9080)].into(),
                    labels: map(&[("version", "v2")]),
                    locality: "r/z".into(),
                    service_account: "bookinfo-reviews".into(),
                    ..Default::default()
                },
                health: Health::Unhealthy,
            }],
            external_name: None,
            node_local: true,
            publish_not_ready: false,
        };
        let mut metadata = Metadata {
            annotations: map(&[("a", "b")]),
            ..Metadata::default()
        };
        let mut entry = ServiceEntry::default();
        facts.write(&mut metadata, &mut entry).unwrap();
        assert_eq!(Facts::read(&metadata.annotations, &entry).unwrap(), facts);
        assert_eq!(Facts::service_annotations(&metadata), map(&[("a", "b")]));
        Facts::default().write(&mut metadata, &mut entry).unwrap();
        assert_eq!(metadata.annotations, map(&[("a", "b")]));
    }

    #[test]
    fn a_foreign_annotation_is_named() {
        let metadata = Metadata {
            annotations: map(&[(NOT_READY, "x")]),
            ..Metadata::default()
        };
        let error = Facts::read(&metadata.annotations, &ServiceEntry::default()).unwrap_err();
        assert!(error.contains(NOT_READY), "{error}");
    }
}
