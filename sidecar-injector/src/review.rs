//! Converts AdmissionReview requests to responses. Pure: from bytes and a configuration to a JSON
//! document.

use crate::config::Config;
use crate::inject::{self, Outcome, Request};
use crate::pod;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_common::admission::{self, Review};
use serde_json::{Value, json};

/// Decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The Pod got a proxy.
    Injected,
    /// The Pod stays unchanged.
    Skipped,
    /// The Pod is rejected.
    Refused,
}

/// A response, with information for the log.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The AdmissionReview to send.
    pub body: Value,
    /// The decision.
    pub verdict: Verdict,
    /// Namespace and name of the Pod, as far as known.
    pub subject: String,
    /// Why it was skipped or rejected; empty if it was injected.
    pub reason: String,
}

/// Responds to an AdmissionReview. All problems with the request become a rejection in the
/// response.
pub fn answer(body: &[u8], url_env: &[(String, String)], config: &Config) -> Answer {
    let review = match Review::read(body) {
        Ok(review) => review,
        Err(error) => return refused(error.version(), "", "", error.to_string()),
    };
    let (version, uid) = (review.version(), review.uid());
    let namespace = review.text("/namespace");
    let object = review.object();
    let subject = format!("{namespace}/{}", pod::display_name(object));
    let kind = review.text("/kind/kind");
    if !kind.is_empty() && kind != "Pod" {
        return refused(
            version,
            uid,
            &subject,
            format!("the object is a {kind}, not a Pod"),
        );
    }
    let from = Request {
        namespace,
        url_env,
        workload: None,
    };
    match inject::inject(object, &from, config) {
        Ok(Outcome::Injected(injected)) => {
            let patch = serde_json::to_vec(&injected.patch).unwrap_or_default();
            let mut response = json!({"allowed": true});
            if !injected.patch.is_empty() {
                response = json!({
                    "allowed": true,
                    "patchType": "JSONPatch",
                    "patch": STANDARD.encode(patch),
                });
            }
            Answer {
                body: admission::answer(version, uid, response, &injected.warnings),
                verdict: Verdict::Injected,
                subject,
                reason: String::new(),
            }
        }
        Ok(Outcome::Skipped { reason, warnings }) => {
            let response = json!({"allowed": true});
            Answer {
                body: admission::answer(version, uid, response, &warnings),
                verdict: Verdict::Skipped,
                subject,
                reason: reason.to_string(),
            }
        }
        Err(refusal) => refused(version, uid, &subject, refusal.to_string()),
    }
}

/// The response that rejects a request.
pub(crate) fn refused(version: &str, uid: &str, subject: &str, reason: String) -> Answer {
    let status = json!({
        "status": "Failure",
        "message": format!("sidecar injection: {reason}"),
        "reason": "BadRequest",
        "code": 400,
    });
    Answer {
        body: admission::answer(
            version,
            uid,
            json!({"allowed": false, "status": status}),
            &[],
        ),
        verdict: Verdict::Refused,
        subject: subject.to_owned(),
        reason,
    }
}

/// The response without a configuration or after an internal error.
pub(crate) fn unavailable(reason: &str) -> Answer {
    refused(admission::VERSION, "", "", reason.to_owned())
}
