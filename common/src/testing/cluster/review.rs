//! Token reviews and access reviews.

use serde_json::{Value, json};

use super::Cluster;
use super::contents::Contents;

const TOKENS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const RIGHTS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

pub(super) fn is_review(path: &str) -> bool {
    [TOKENS, RIGHTS].contains(&path)
}

impl Contents {
    /// The response to a review.
    pub(super) fn review(&mut self, path: &str, review: Value) -> Value {
        if path == TOKENS {
            self.review_token(review)
        } else {
            self.review_right(review)
        }
    }

    fn review_right(&mut self, mut review: Value) -> Value {
        let spec = review["spec"].take();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let attributes = &spec["resourceAttributes"];
        let right = [
            &spec["user"],
            &attributes["verb"],
            &attributes["resource"],
            &attributes["namespace"],
        ];
        let is_allowed = self.rights.contains(&right.map(text));
        review["status"] = json!({"allowed": is_allowed});
        self.access_reviews.push(spec);
        review
    }

    fn review_token(&mut self, mut review: Value) -> Value {
        let spec = review["spec"].clone();
        let known = self.tokens.get(spec["token"].as_str().unwrap());
        let unknown = || json!({"authenticated": false, "error": "invalid bearer token"});
        review["status"] = known.cloned().unwrap_or_else(unknown);
        self.reviews.push(spec);
        review
    }
}

impl Cluster {
    /// Sets the result of reviews of a token: the `status` of the review.
    pub fn token(&self, token: &str, status: Value) {
        self.change(|contents| contents.tokens.insert(token.to_owned(), status));
    }

    /// Makes the token of a ServiceAccount valid, for the audience `istio-ca`.
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

    /// Specs of the token reviews so far.
    #[must_use]
    pub fn reviews(&self) -> Vec<Value> {
        self.shared.contents.lock().reviews.clone()
    }

    /// Sets what access reviews say about a ServiceAccount and all objects of a kind in a
    /// namespace.
    pub fn allow(&self, account: (&str, &str), right: (&str, &str, &str), is_allowed: bool) {
        let user = format!("system:serviceaccount:{}:{}", account.0, account.1);
        let right = [
            user,
            right.0.to_owned(),
            right.1.to_owned(),
            right.2.to_owned(),
        ];
        self.change(|contents| {
            if is_allowed {
                contents.rights.insert(right);
            } else {
                contents.rights.remove(&right);
            }
        });
    }

    /// Specs of the access reviews so far.
    #[must_use]
    pub fn access_reviews(&self) -> Vec<Value> {
        self.shared.contents.lock().access_reviews.clone()
    }

    /// Whether responses to reviews are delayed.
    pub fn hold_reviews(&self, is_held: bool) {
        self.shared.reviews_held.send_replace(is_held);
    }
}
