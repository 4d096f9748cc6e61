//! A cluster with definitions of Istio kinds.

use std::ops::{Deref, DerefMut};

use mesh_common::testing::cluster;
use serde_json::json;

use crate::harness::World;

pub(crate) const SIDECARS: &str = "/apis/networking.istio.io/v1/sidecars";
pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

pub(crate) struct Cluster(cluster::Cluster);

impl Deref for Cluster {
    type Target = cluster::Cluster;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Cluster {
    /// Serves a cluster that has the definition of Sidecars.
    pub(crate) fn start() -> Self {
        let cluster = Self(cluster::Cluster::start());
        cluster.define("Sidecar", "sidecars");
        cluster
    }

    /// Arguments of a galley that reads this cluster.
    pub(crate) fn flags(&self, world: &World) -> [String; 2] {
        ["--configPath=".to_owned(), world.kubeconfig(self.address())]
    }

    /// Installs a definition of networking.istio.io with the version v1.
    pub(crate) fn define(&self, kind: &str, plural: &str) {
        self.define_version(kind, plural, "v1");
    }

    pub(crate) fn define_version(&self, kind: &str, plural: &str, version: &str) {
        self.apply(
            DEFINITIONS,
            json!({
                "metadata": {"name": format!("{plural}.networking.istio.io")},
                "spec": {
                    "group": "networking.istio.io",
                    "names": {"kind": kind, "plural": plural},
                    "versions": [{"name": version, "served": true, "storage": true}],
                },
                "status": {"conditions": [{"type": "Established", "status": "True"}]},
            }),
        );
    }
}
