//! AdmissionReview bytes, which anything that can reach the webhook may send.

use galley::webhook::review::{self, Outcome};

/// The response is valid for an API server, and consistent with the metrics.
pub(crate) fn review(bytes: &[u8]) {
    let Ok(answer) = review::answer(bytes) else {
        return;
    };
    let allowed = answer.body.pointer("/response/allowed");
    let is_allowed = allowed.and_then(serde_json::Value::as_bool);
    assert_eq!(is_allowed, Some(answer.outcome == Outcome::Passed));
    assert_eq!(answer.message.is_empty(), answer.outcome == Outcome::Passed);
}
