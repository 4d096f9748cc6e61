//! `/debug/ca`: the state of the authority, without secrets, for loopback clients.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use mesh_common::admin;
use serde_json::{Value, json};

use crate::ca::Authority;

/// Router of the page, which is unavailable until there is an authority.
pub(crate) fn pages(authority: Arc<OnceLock<Arc<Authority>>>) -> Router {
    let page = get(move || {
        let page = authority.get().map(|authority| Json(describe(authority)));
        async move {
            page.ok_or((
                StatusCode::SERVICE_UNAVAILABLE,
                "the certificate authority is not loaded yet\n",
            ))
        }
    });
    admin::loopback_only(Router::new().route("/debug/ca", page))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn describe(authority: &Authority) -> Value {
    let bundle = authority.bundle();
    let fingerprints: Vec<String> = bundle
        .roots()
        .iter()
        .map(|root| {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, root);
            digest
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        })
        .collect();
    let (from, to) = bundle.validity();
    json!({
        "subject": bundle.subject(),
        "serial": bundle.serial(),
        "notBefore": seconds(from),
        "notAfter": seconds(to),
        "intermediates": bundle.intermediates().len(),
        "rootFingerprintsSha256": fingerprints,
        "replacements": *authority.subscribe().borrow(),
    })
}
