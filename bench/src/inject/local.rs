//! Bytes in, bytes out, as the webhook does it, without a network.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sidecar_injector::config::{Config, Settings, default_injection};
use sidecar_injector::review::{self, Verdict};

use super::table::Row;

/// Injects every Pod `rounds` times.
///
/// # Errors
/// When one is not injected.
pub fn measure(pods: &[Value], rounds: usize) -> Result<Row> {
    let config = Config::parse(&default_injection(), "", "", Settings::default())?;
    let requests: Vec<Vec<u8>> = pods.iter().map(request).collect::<Result<_>>()?;
    let mut seconds = Vec::with_capacity(rounds * requests.len());
    for _ in 0..rounds {
        for request in &requests {
            let begun = Instant::now();
            let answer = review::answer(request, &[], &config);
            let body = serde_json::to_vec(&answer.body)?;
            seconds.push(begun.elapsed().as_secs_f64());
            ensure!(
                answer.verdict == Verdict::Injected && !body.is_empty(),
                "{} was not injected: {}",
                answer.subject,
                answer.reason
            );
        }
    }
    Row::of("in process", seconds)
}

fn request(pod: &Value) -> Result<Vec<u8>> {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "00000000-0000-0000-0000-000000000000",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "default",
            "operation": "CREATE",
            "object": pod,
        },
    });
    Ok(serde_json::to_vec(&review)?)
}
