//! JSON Web Key Sets that are written into the object.

use serde_json::{Map, Value};

use crate::validation::report::{At, Check};

pub(super) fn validate(check: &mut Check<'_>, at: &At<'_>, text: &str) {
    let Ok(Value::Object(members)) = serde_json::from_str(text) else {
        check.error(
            "RA-05",
            at,
            "the key set is not a JSON object: want a key, or {\"keys\": [...]}",
        );
        return;
    };
    let keys = match members.get("keys") {
        None => vec![Value::Object(members)],
        Some(Value::Array(keys)) => keys.clone(),
        Some(_) => {
            check.error("RA-05", at, "keys is not a list: want {\"keys\": [...]}");
            return;
        }
    };
    for (i, key) in keys.iter().enumerate() {
        match key.as_object().map_or(Err("it is not an object"), read) {
            Ok(false) => {}
            Ok(true) => check.warn("RA-06", at, format!(
                "key {i} holds a secret, which is not needed to verify tokens: want the public key"
            )),
            Err(why) => check.error("RA-05", at, format!(
                "key {i} is not valid ({why}): want a key of type RSA, EC or OKP with all its members"
            )),
        }
    }
}

/// Whether the key holds a secret.
fn read(key: &Map<String, Value>) -> Result<bool, &'static str> {
    let (members, secret): (&[&str], &str) = match key.get("kty").and_then(Value::as_str) {
        Some("RSA") => (&["n", "e"], "d"),
        Some("EC") => (&["x", "y"], "d"),
        Some("OKP") => (&["x"], "d"),
        Some("oct") => (&["k"], "k"),
        _ => return Err("its kty is not RSA, EC, OKP or oct"),
    };
    let has_curve = key.get("crv").is_some_and(Value::is_string);
    if matches!(members, ["x", ..]) && !has_curve {
        return Err("it has no crv");
    }
    for member in members {
        let Some(text) = key.get(*member).and_then(Value::as_str) else {
            return Err("a member of the key is missing");
        };
        // Both alphabets of base64 are in use, and line breaks.
        let right = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+/=\r\n".contains(&byte);
        if !text.bytes().all(right) {
            return Err("a member of the key is not base64");
        }
    }
    Ok(key.contains_key(secret))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::read;

    #[test]
    fn keys() {
        let is_secret = |value: serde_json::Value| read(value.as_object().unwrap());
        assert_eq!(
            is_secret(json!({"kty": "RSA", "n": "AQ", "e": "AQAB"})),
            Ok(false)
        );
        assert_eq!(
            is_secret(json!({"kty": "RSA", "n": "AQ", "e": "AQAB", "d": "AQ"})),
            Ok(true)
        );
        assert_eq!(
            is_secret(json!({"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"})),
            Ok(false)
        );
        assert_eq!(
            is_secret(json!({"kty": "OKP", "crv": "Ed25519", "x": "AQ"})),
            Ok(false)
        );
        assert_eq!(is_secret(json!({"kty": "oct", "k": "AQ"})), Ok(true));
        for bad in [
            json!({}),
            json!({"kty": "X"}),
            json!({"kty": "RSA", "n": "AQ"}),
            json!({"kty": "RSA", "n": "A Q", "e": "AQAB"}),
            json!({"kty": "EC", "x": "AQ", "y": "AQ"}),
        ] {
            assert!(is_secret(bad.clone()).is_err(), "{bad}");
        }
    }
}
