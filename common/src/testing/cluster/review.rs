//! Token reviews.

use serde_json::{Value, json};

use super::Cluster;
use super::contents::Contents;

pub(super) const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

impl Contents {
    /// The answer to a review.
    pub(super) fn review(&mut self, mut review: Value) -> Value {
        let spec = review["spec"].clone();
        let known = self.tokens.get(spec["token"].as_str().unwrap());
        let unknown = || json!({"authenticated": false, "error": "invalid bearer token"});
        review["status"] = known.cloned().unwrap_or_else(unknown);
        self.reviews.push(spec);
        review
    }
}

impl Cluster {
    /// What reviews of a token say from now on: the `status` of the review.
    pub fn token(&self, token: &str, status: Value) {
        self.change(|contents| contents.tokens.insert(token.to_owned(), status));
    }

    /// The token of a ServiceAccount is good from now on, for the audience `istio-ca`.
    pub fn good_token(&self, token: &str, namespace: &str, account: &str) {
        let status = json!({
            "authenticated": true,
            "audiences": ["istio-ca"],
            "user": {
                "username": format!("system:serviceaccount:{namespace}:{account}"),
                "groups": ["system:serviceaccounts", "system:authenticated"],
            },
        });
        self.token(token, status);
    }

    /// Specs of the reviews that were asked for.
    #[must_use]
    pub fn reviews(&self) -> Vec<Value> {
        self.shared.contents.lock().reviews.clone()
    }

    /// Whether reviews have to wait for their answers.
    pub fn hold_reviews(&self, is_held: bool) {
        self.shared.reviews_held.send_replace(is_held);
    }
}
