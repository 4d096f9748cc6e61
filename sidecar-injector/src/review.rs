//! AdmissionReview in, AdmissionReview out. Pure: bytes and a configuration to a JSON document.

use crate::config::Config;
use crate::inject::{self, Outcome, Request};
use crate::pod;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const VERSION: &str = "admission.k8s.io/v1";
const OLD_VERSION: &str = "admission.k8s.io/v1beta1";
const KIND: &str = "AdmissionReview";

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
    let review: Value = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(error) => return refused(VERSION, "", "", format!("not JSON: {error}")),
    };
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let version = text(review.get("apiVersion"));
    let version = match (version.as_str(), review.get("kind").and_then(Value::as_str)) {
        (VERSION, Some(KIND)) => VERSION,
        (OLD_VERSION, Some(KIND)) => OLD_VERSION,
        (version, kind) => {
            let kind = kind.unwrap_or_default();
            let reason = format!("apiVersion {version:?} kind {kind:?} is not {KIND} of {VERSION}");
            return refused(VERSION, "", "", reason);
        }
    };
    let Some(request) = review.get("request").filter(|request| request.is_object()) else {
        return refused(version, "", "", format!("{KIND} without a request"));
    };
    let uid = text(request.get("uid"));
    let namespace = text(request.get("namespace"));
    let object = request.get("object").unwrap_or(&Value::Null);
    let subject = format!("{namespace}/{}", pod::display_name(object));
    let kind = text(request.pointer("/kind/kind"));
    if !kind.is_empty() && kind != "Pod" {
        return refused(
            version,
            &uid,
            &subject,
            format!("the object is a {kind}, not a Pod"),
        );
    }
    let from = Request {
        namespace: &namespace,
        url_env,
    };
    match inject::inject(object, &from, config) {
        Ok(Outcome::Injected(injected)) => {
            let patch = serde_json::to_vec(&injected.patch).unwrap_or_default();
            let mut response = json!({"uid": uid, "allowed": true});
            if !injected.patch.is_empty() {
                response = json!({
                    "uid": uid,
                    "allowed": true,
                    "patchType": "JSONPatch",
                    "patch": STANDARD.encode(patch),
                });
            }
            Answer {
                body: review_of(version, with_warnings(response, &injected.warnings)),
                verdict: Verdict::Injected,
                subject,
                reason: String::new(),
            }
        }
        Ok(Outcome::Skipped { reason, warnings }) => {
            let response = json!({"uid": uid, "allowed": true});
            Answer {
                body: review_of(version, with_warnings(response, &warnings)),
                verdict: Verdict::Skipped,
                subject,
                reason: reason.to_string(),
            }
        }
        Err(refusal) => refused(version, &uid, &subject, refusal.to_string()),
    }
}

fn review_of(version: &str, response: Value) -> Value {
    json!({"apiVersion": version, "kind": KIND, "response": response})
}

fn with_warnings(mut response: Value, warnings: &[String]) -> Value {
    if let (Some(members), false) = (response.as_object_mut(), warnings.is_empty()) {
        members.insert("warnings".to_owned(), json!(warnings));
    }
    response
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
        body: review_of(
            version,
            json!({"uid": uid, "allowed": false, "status": status}),
        ),
        verdict: Verdict::Refused,
        subject: subject.to_owned(),
        reason,
    }
}

/// The answer when there is no configuration, or when making one failed.
pub(crate) fn unavailable(reason: &str) -> Answer {
    refused(VERSION, "", "", reason.to_owned())
}
