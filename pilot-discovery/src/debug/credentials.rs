//! Credentials and which accounts may receive them: names, never contents.

use std::collections::BTreeMap;

use axum::{
    extract::{Query, State as Shared},
    response::Response,
};
use imbl::OrdMap;
use pilot_model::{credential::Credential, key::ObjectKey};
use serde_json::Value;

use super::{Page, Params, failed, json as page};

pub(super) async fn credentialz(Shared(state): Page, Query(params): Query<Params>) -> Response {
    let seen = state.world.inspect(|writer| {
        let gateways = writer.fleet.gateway_accounts().clone();
        (writer.snapshot.clone(), gateways)
    });
    let (snapshot, gateways) = match seen.await {
        Ok(seen) => seen,
        Err(error) => return failed(&error),
    };
    let cluster = &snapshot.cluster_secrets;
    let rights = cluster.rights.keys().chain(&gateways).map(|account| {
        let may = match cluster.rights.get(account) {
            Some(true) => "allowed",
            Some(false) => "denied",
            None => "unknown",
        };
        (account.to_string(), may)
    });
    let rights: BTreeMap<String, &str> = rights.collect();
    let shown = state.secrets.shown();
    let value = serde_json::json!({
        "directory": list(&snapshot.credentials),
        "cluster": cluster.is_followed.then(|| serde_json::json!({
            "accounts": rights,
            "accessReviews": shown.reviews,
            "namespaces": shown.namespaces,
            "secrets": list(&cluster.credentials),
        })),
    });
    page(&params, &value)
}

fn list(credentials: &OrdMap<ObjectKey, std::sync::Arc<Credential>>) -> Vec<Value> {
    let rows = credentials.iter().map(|(key, credential)| {
        serde_json::json!({
            "namespace": &*key.namespace,
            "name": &*key.name,
            "versionInfo": format!("{:016x}", credential.version),
            "fault": credential.fault.as_deref(),
        })
    });
    rows.collect()
}
