//! AdmissionReview bytes, from whoever can reach the webhook.

use galley::webhook::review::{self, Outcome};

/// There is an answer that an API server understands and that agrees with what is counted.
pub(crate) fn review(bytes: &[u8]) {
    let Ok(answer) = review::answer(bytes) else {
        return;
    };
    let allowed = answer.body.pointer("/response/allowed");
    let is_allowed = allowed.and_then(serde_json::Value::as_bool);
    assert_eq!(is_allowed, Some(answer.outcome == Outcome::Passed));
    assert_eq!(answer.message.is_empty(), answer.outcome == Outcome::Passed);
}
