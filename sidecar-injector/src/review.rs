//! AdmissionReview in, AdmissionReview out. Pure: bytes and a configuration to a JSON document.

use crate::config::Config;
use crate::inject::{self, Outcome, Request};
use crate::pod;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_common::admission::{self, Review};
use serde_json::{Value, json};

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The Pod got a proxy.
    Injected,
    /// The Pod stays as it is.
    Skipped,
    /// The Pod is refused.
    Refused,
}

/// An answer, with what the log should say.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The AdmissionReview to send.
    pub body: Value,
    /// What was decided.
    pub verdict: Verdict,
    /// Namespace and name of the Pod, as far as known.
    pub subject: String,
    /// Why it was left alone or refused; empty if it was injected.
    pub reason: String,
}

/// Answers an AdmissionReview. Everything that is wrong with it becomes a refusal in the answer.
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

/// The answer that refuses a request.
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

/// The answer when there is no configuration, or when making one failed.
pub(crate) fn unavailable(reason: &str) -> Answer {
    refused(admission::VERSION, "", "", reason.to_owned())
}
