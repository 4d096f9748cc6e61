//! Rules of token reviews: which tokens are worth a review, and which results are accepted.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use serde::Deserialize;

use crate::authenticate::claims::Account;
use crate::authenticate::{MAX_TOKEN, SKEW};

/// Group of all ServiceAccounts.
const GROUP: &str = "system:serviceaccounts";

#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
    aud: Option<Audiences>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

/// Refuses what the API server would refuse anyway, so that nonsense costs it nothing. The
/// signature is left to the API server.
pub(super) fn precheck(token: &str, audiences: &[String], now: SystemTime) -> Result<(), String> {
    if token.len() > MAX_TOKEN {
        return Err(format!("it is longer than {MAX_TOKEN} bytes"));
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else {
        return Err("it does not have three parts".to_owned());
    };
    let decode = |part: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(part).ok();
        let bytes = bytes.filter(|bytes| !bytes.is_empty());
        bytes.ok_or_else(|| "one of its parts is not base64url".to_owned())
    };
    decode(header)?;
    decode(signature)?;
    let claims: Claims = serde_json::from_slice(&decode(payload)?)
        .map_err(|error| format!("its claims cannot be read: {error}"))?;
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let Some(exp) = claims.exp else {
        return Err("it never expires: legacy tokens are not accepted".to_owned());
    };
    if exp + SKEW.as_secs_f64() < now.as_secs_f64() {
        return Err("it has expired".to_owned());
    }
    let named = match claims.aud {
        Some(Audiences::One(name)) => vec![name],
        Some(Audiences::Many(names)) => names,
        None => Vec::new(),
    };
    if !meet(&named, audiences) {
        return Err("it is for another audience".to_owned());
    }
    Ok(())
}

fn meet(names: &[String], wanted: &[String]) -> bool {
    names.iter().any(|name| wanted.contains(name))
}

/// The account of a token, from the result of its review.
pub(super) fn judge(status: &TokenReviewStatus, audiences: &[String]) -> Result<Account, String> {
    if let Some(error) = status.error.as_ref().filter(|error| !error.is_empty()) {
        return Err(format!("the API server reports: {error}"));
    }
    if status.authenticated != Some(true) {
        return Err("the API server rejects it".to_owned());
    }
    let user = status.user.as_ref().ok_or("the API server names no user")?;
    let mut groups = user.groups.iter().flatten();
    if !groups.any(|group| group == GROUP) {
        return Err("it does not belong to a ServiceAccount".to_owned());
    }
    let account = Account::parse(user.username.as_deref().unwrap_or_default())
        .ok_or("its user is not of the form system:serviceaccount:<namespace>:<name>")?;
    // An API server that does not check audiences returns none.
    if !meet(status.audiences.as_deref().unwrap_or_default(), audiences) {
        return Err("its audience was not confirmed by the API server".to_owned());
    }
    Ok(account)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    fn token(claims: &Value) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part("{}"), part(&claims.to_string()), part("s"))
    }

    fn ours() -> Vec<String> {
        vec!["istio-ca".to_owned(), "other".to_owned()]
    }

    fn refusal(token: &str) -> String {
        precheck(token, &ours(), now()).unwrap_err()
    }

    #[test]
    fn what_may_be_good_is_asked() {
        for aud in [json!("istio-ca"), json!(["x", "other"])] {
            let token = token(&json!({"exp": 1_000_001, "aud": aud}));
            assert_eq!(precheck(&token, &ours(), now()), Ok(()));
        }
    }

    #[test]
    fn what_cannot_be_good_is_not_asked() {
        let good = token(&json!({"exp": 1_000_001, "aud": "istio-ca"}));
        for (token, said) in [
            ("a".repeat(MAX_TOKEN + 1), "longer than"),
            (String::new(), "three parts"),
            (format!("{good}.x"), "three parts"),
            (good.replace('.', ".="), "base64url"),
            ("e30..e30".to_owned(), "base64url"),
            ("e30.aGVsbG8.e30".to_owned(), "claims"),
            (token(&json!({"aud": "istio-ca"})), "never expires"),
            (
                token(&json!({"exp": 999_969, "aud": "istio-ca"})),
                "expired",
            ),
            (token(&json!({"exp": 1_000_001})), "audience"),
            (token(&json!({"exp": 1_000_001, "aud": []})), "audience"),
            (
                token(&json!({"exp": 1_000_001, "aud": ["https://kubernetes.default.svc"]})),
                "audience",
            ),
        ] {
            let refusal = refusal(&token);
            assert!(refusal.contains(said), "{token}: {refusal}");
        }
    }

    fn answer(change: impl FnOnce(&mut Value)) -> Result<Account, String> {
        let mut status = json!({
            "authenticated": true,
            "audiences": ["istio-ca"],
            "user": {
                "username": "system:serviceaccount:foo:bar",
                "groups": ["system:serviceaccounts", "system:authenticated"],
            },
        });
        change(&mut status);
        judge(&serde_json::from_value(status).unwrap(), &ours())
    }

    #[test]
    fn all_rules_must_hold() {
        let account = answer(|_| {}).unwrap();
        assert_eq!(
            (account.namespace.as_str(), account.name.as_str()),
            ("foo", "bar")
        );
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 11] = [
            (|status| status["error"] = "no".into(), "reports: no"),
            (
                |status| status["authenticated"] = false.into(),
                "rejects it",
            ),
            (|status| status["authenticated"] = Value::Null, "rejects it"),
            (|status| status["user"] = Value::Null, "names no user"),
            (
                |status| status["user"]["groups"] = json!(["system:nodes"]),
                "does not belong",
            ),
            (
                |status| status["user"]["groups"] = Value::Null,
                "does not belong",
            ),
            (
                |status| status["user"]["username"] = "system:serviceaccount:foo".into(),
                "its user is not",
            ),
            (
                |status| status["user"]["username"] = "system:serviceaccount:foo:bar:x".into(),
                "its user is not",
            ),
            (
                |status| status["user"]["username"] = "system:serviceaccount::bar".into(),
                "its user is not",
            ),
            (|status| status["audiences"] = Value::Null, "its audience"),
            (
                |status| status["audiences"] = json!(["elsewhere"]),
                "its audience",
            ),
        ];
        for (change, said) in cases {
            let refusal = answer(change).unwrap_err();
            assert!(refusal.contains(said), "{said}: {refusal}");
        }
    }
}
