use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;

struct Issuer {
    key: EcdsaKeyPair,
    id: &'static str,
}

impl Issuer {
    fn new(id: &'static str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { key, id }
    }

    fn jwk(&self) -> Value {
        let point = self.key.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        })
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", part(header), part(claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), input.as_bytes())
            .unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let mut claims = json!({
            "iss": "https://issuer", "aud": ["istio-ca"], "sub": "system:serviceaccount:foo:bar",
            "iat": now, "nbf": now, "exp": now + 600,
        });
        change(&mut claims);
        self.sign(&json!({"alg": "ES256", "kid": self.id}), &claims)
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    authenticator: TokenAuthenticator,
}

impl Fixture {
    fn new(keys: &[Value]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = TokenOptions {
            issuer: "https://issuer".to_owned(),
            audiences: vec!["istio-ca".to_owned(), "other-ca".to_owned()],
            keys: dir.path().join("jwks.json"),
        };
        let fixture = Self {
            dir,
            authenticator: TokenAuthenticator::new(options),
        };
        fixture.write(&json!({ "keys": keys }).to_string());
        fixture.authenticator.reload().unwrap();
        fixture
    }

    fn write(&self, text: &str) {
        std::fs::write(self.dir.path().join("jwks.json"), text).unwrap();
    }

    fn refusal(&self, token: &str) -> String {
        match self.authenticator.account(token) {
            Err(Refusal::Unauthenticated(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_good_token_gives_its_account() {
    let issuer = Issuer::new("1");
    let fixture = Fixture::new(&[issuer.jwk()]);
    let account = fixture
        .authenticator
        .account(&issuer.token(|_| {}))
        .unwrap();
    assert_eq!(
        (account.namespace.as_str(), account.name.as_str()),
        ("foo", "bar")
    );
    // A single audience may be a plain string; one match among several is enough.
    assert!(
        fixture
            .authenticator
            .account(&issuer.token(|c| c["aud"] = json!("other-ca")))
            .is_ok()
    );
    assert!(
        fixture
            .authenticator
            .account(&issuer.token(|c| c["aud"] = json!(["x", "istio-ca"])))
            .is_ok()
    );
}

#[test]
fn wrong_claims_are_refused() {
    let issuer = Issuer::new("1");
    let fixture = Fixture::new(&[issuer.jwk()]);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let changes: [(&str, Value); 9] = [
        ("iss", json!("https://other")),
        ("aud", json!(["https://kubernetes.default.svc"])),
        ("aud", json!([])),
        ("exp", json!(now - 60)),
        ("nbf", json!(now + 60)),
        ("sub", json!("system:node:foo:bar")),
        ("exp", Value::Null),
        ("aud", Value::Null),
        ("iss", Value::Null),
    ];
    for (claim, value) in changes {
        let token = issuer.token(|claims| {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(claim);
            } else {
                claims[claim] = value.clone();
            }
        });
        fixture.refusal(&token);
    }
    // Valid within the allowed clock skew.
    assert!(
        fixture
            .authenticator
            .account(&issuer.token(|c| c["exp"] = json!(now - 5)))
            .is_ok()
    );
    assert!(
        fixture
            .authenticator
            .account(&issuer.token(|c| c["nbf"] = json!(now + 5)))
            .is_ok()
    );
}

#[test]
fn forged_tokens_are_refused() {
    let (issuer, other) = (Issuer::new("1"), Issuer::new("1"));
    let fixture = Fixture::new(&[issuer.jwk()]);
    fixture.refusal(&other.token(|_| {}));
    let good = issuer.token(|_| {});
    let claims = json!({"iss": "https://issuer", "aud": ["istio-ca"], "sub": "system:serviceaccount:a:b", "exp": 9_999_999_999u64});
    let unsigned = issuer.sign(&json!({"alg": "none"}), &claims);
    fixture.refusal(&unsigned);
    fixture.refusal(&unsigned[..=unsigned.rfind('.').unwrap()]);
    // The public key as an HMAC secret: the classic algorithm confusion.
    fixture.refusal(&issuer.sign(&json!({"alg": "HS256", "kid": "1"}), &claims));
    fixture.refusal(&issuer.sign(&json!({"alg": "RS256", "kid": "1"}), &claims));
    fixture.refusal(&issuer.sign(&json!({"alg": "ES256", "kid": "2"}), &claims));
    fixture.refusal(&format!("{good}x"));
    fixture.refusal("");
    fixture.refusal("a.b");
    fixture.refusal("a.b.c");
    fixture.refusal(&"a".repeat(MAX_TOKEN + 1));
}

#[test]
fn a_token_without_key_id_is_tried_with_all_keys() {
    let (first, second) = (Issuer::new("1"), Issuer::new("2"));
    let fixture = Fixture::new(&[first.jwk(), second.jwk()]);
    let claims = json!({"iss": "https://issuer", "aud": "istio-ca", "sub": "system:serviceaccount:a:b", "exp": 9_999_999_999u64});
    assert!(
        fixture
            .authenticator
            .account(&second.sign(&json!({"alg": "ES256"}), &claims))
            .is_ok()
    );
}

#[test]
fn keys_are_replaced_but_never_by_bad_ones() {
    let (old, new) = (Issuer::new("1"), Issuer::new("2"));
    let fixture = Fixture::new(&[old.jwk()]);
    for bad in [
        "",
        "{",
        "[]",
        "{\"keys\":[]}",
        "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}",
    ] {
        fixture.write(bad);
        assert!(fixture.authenticator.reload().is_err(), "{bad}");
        assert!(fixture.authenticator.account(&old.token(|_| {})).is_ok());
    }
    let many: Vec<Value> = (0..101).map(|_| old.jwk()).collect();
    fixture.write(&json!({ "keys": many }).to_string());
    assert!(
        fixture
            .authenticator
            .reload()
            .unwrap_err()
            .to_string()
            .contains("at most 100")
    );

    fixture.write(&json!({"keys": [{"kty": "what"}, new.jwk()]}).to_string());
    fixture.authenticator.reload().unwrap();
    fixture.refusal(&old.token(|_| {}));
    assert!(fixture.authenticator.account(&new.token(|_| {})).is_ok());
}

#[test]
fn without_keys_the_caller_may_come_back() {
    let options = TokenOptions {
        issuer: "i".to_owned(),
        audiences: vec![],
        keys: PathBuf::from("/nonexistent/jwks.json"),
    };
    let authenticator = TokenAuthenticator::new(options);
    assert!(authenticator.reload().is_err());
    assert!(matches!(
        authenticator.account("a.b.c"),
        Err(Refusal::Unavailable(_))
    ));
}

#[test]
fn rsa_tokens_are_accepted() {
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = key.public_key();
    let jwk = json!({
        "kty": "RSA", "use": "sig", "kid": "r",
        "n": URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero()),
        "e": URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero()),
    });
    let fixture = Fixture::new(&[jwk]);
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let input = format!(
        "{}.{}",
        part(json!({"alg": "RS256", "kid": "r"})),
        part(
            json!({"iss": "https://issuer", "aud": "istio-ca", "sub": "system:serviceaccount:a:b", "exp": 9_999_999_999u64})
        )
    );
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        input.as_bytes(),
        &mut signature,
    )
    .unwrap();
    let token = format!("{input}.{}", URL_SAFE_NO_PAD.encode(&signature));
    assert!(fixture.authenticator.account(&token).is_ok());
}
