//! Tests with an API server.

mod availability;
mod control_plane;
mod root;
mod roots;
mod tokens;

use std::ops::Deref;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mesh_common::testing::cluster::{Cluster, kubeconfig};
use serde_json::{Value, json};

use crate::harness::{Citadel, Issuer};

pub(crate) const SECRETS: &str = "/api/v1/secrets";
pub(crate) const MAPS: &str = "/api/v1/configmaps";
pub(crate) const NAMESPACES: &str = "/api/v1/namespaces";
pub(crate) const ACCOUNTS: &str = "/api/v1/serviceaccounts";
pub(crate) const LEASES: &str = "/apis/coordination.k8s.io/v1/leases";
pub(crate) const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";

/// The Secret with the root, by its name in the API server.
pub(crate) const ROOT: &str = "istio-system/istio-ca-secret";

/// A cluster with the namespace of the control plane.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
}

impl Deref for World {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self {
            cluster: Cluster::start(),
        };
        world.namespace("istio-system");
        world
    }

    pub(crate) fn namespace(&self, name: &str) {
        let namespace = json!({"metadata": {"name": name}, "status": {"phase": "Active"}});
        self.apply(NAMESPACES, namespace);
    }

    pub(crate) fn account(&self, namespace: &str, name: &str) {
        let uid = format!("uid-of-{name}");
        let metadata = json!({"namespace": namespace, "name": name, "uid": uid});
        self.apply(ACCOUNTS, json!({ "metadata": metadata }));
    }

    /// A key of a Secret, as text; empty if it does not exist.
    pub(crate) fn secret(&self, name: &str, key: &str) -> String {
        secret_text(&self.object(SECRETS, name), key)
    }

    /// The roots in the ConfigMap of a namespace; empty if it does not exist.
    pub(crate) fn root_map(&self, namespace: &str) -> String {
        let map = self.object(MAPS, &format!("{namespace}/istio-ca-root-cert"));
        map["data"]["root-cert.pem"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Starts a citadel without waiting until it is ready.
    pub(crate) async fn begin(&self, flags: &[&str]) -> Citadel {
        self.begin_in(tempfile::tempdir().unwrap(), flags).await
    }

    /// As [`begin`](Self::begin), in a directory with files.
    pub(crate) async fn begin_in(&self, dir: tempfile::TempDir, flags: &[&str]) -> Citadel {
        let _ = kubeconfig(dir.path(), self.address());
        Citadel::begin(Arc::new(dir), Arc::new(Issuer::new()), flags).await
    }

    pub(crate) async fn start(&self, flags: &[&str]) -> Citadel {
        let citadel = self.begin(flags).await;
        self.ready(&citadel).await;
        citadel
    }

    /// Waits until it is ready, and remembers its root for clients.
    pub(crate) async fn ready(&self, citadel: &Citadel) {
        citadel.ready().await;
        std::fs::create_dir_all(citadel.path("certs")).unwrap();
        let root = self.secret(ROOT, "ca-cert.pem");
        std::fs::write(citadel.path("certs/root-cert.pem"), root).unwrap();
    }

    /// Starts a citadel that must fail; returns the error.
    pub(crate) async fn fails(&self, flags: &[&str]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let _ = kubeconfig(dir.path(), self.address());
        Citadel::fails(dir.path(), flags).await
    }

    /// A token that the API server accepts for an account; creates the account.
    pub(crate) fn token(&self, issuer: &Issuer, namespace: &str, name: &str) -> String {
        self.account(namespace, name);
        let token = issuer.token(namespace, name);
        self.good_token(&token, namespace, name);
        token
    }
}

pub(crate) fn secret_text(secret: &Value, key: &str) -> String {
    let text = secret["data"][key].as_str().unwrap_or_default();
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}

/// Changes a key of a Secret in JSON.
pub(crate) fn put_secret(secret: &mut Value, key: &str, text: &str) {
    secret["data"][key] = STANDARD.encode(text).into();
}
