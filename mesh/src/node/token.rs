//! The issuer of projected service account tokens: an ES256 key, its JWKS, tokens per Pod.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The `iss` claim; citadel gets it as `--jwt-issuer`.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Whom a token speaks for.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Namespace of the Pod.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub pod_uid: String,
}

/// Signs tokens with a key that lives as long as the mesh.
#[derive(Debug)]
pub struct Issuer {
    key: EcdsaKeyPair,
    key_id: String,
}

impl Issuer {
    /// An issuer with a fresh P-256 key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .ok()
            .context("make the key of the token issuer")?;
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.public_key().as_ref());
        let key_id = URL_SAFE_NO_PAD.encode(digest.as_ref());
        Ok(Self { key, key_id })
    }

    /// The public key as a JSON Web Key Set.
    ///
    /// # Errors
    /// When the key is not an uncompressed point, which the library always gives.
    pub fn jwks(&self) -> Result<Value> {
        let point = self.key.public_key().as_ref();
        let (x, y) = (point.get(1..33), point.get(33..65));
        let (Some(x), Some(y)) = (x, y) else {
            anyhow::bail!("the public key has {} bytes, not 65", point.len());
        };
        Ok(json!({"keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.key_id,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]}))
    }

    /// A token for `subject`, valid from `now` for `lifetime`.
    ///
    /// # Errors
    /// When signing fails.
    pub fn issue(
        &self,
        subject: &Subject,
        audience: &str,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<String> {
        let issued = now
            .duration_since(UNIX_EPOCH)
            .context("the clock is before 1970")?
            .as_secs();
        let Subject {
            namespace,
            service_account,
            pod,
            pod_uid,
        } = subject;
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": self.key_id});
        let claims = json!({
            "iss": ISSUER,
            "sub": format!("system:serviceaccount:{namespace}:{service_account}"),
            "aud": [audience],
            "iat": issued, "nbf": issued, "exp": issued + lifetime.as_secs(),
            "jti": format!("{pod_uid}-{issued}"),
            "kubernetes.io": {
                "namespace": namespace,
                "pod": {"name": pod, "uid": pod_uid},
                "serviceaccount": {"name": service_account, "uid": service_account},
                "node": {"name": super::NODE_NAME, "uid": super::NODE_NAME},
            },
        });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), text.as_bytes())
            .ok()
            .context("sign a token")?;
        Ok(format!(
            "{text}.{}",
            URL_SAFE_NO_PAD.encode(signature.as_ref())
        ))
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_token_verifies_with_the_published_key() {
        let issuer = Issuer::generate().unwrap();
        let subject = Subject {
            namespace: "shop".into(),
            service_account: "web".into(),
            pod: "web-1".into(),
            pod_uid: "u".into(),
        };
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let token = issuer
            .issue(&subject, "istio-ca", now, Duration::from_secs(600))
            .unwrap();
        let (text, signature) = token.rsplit_once('.').unwrap();
        let jwks = issuer.jwks().unwrap();
        let coordinate = |name: &str| {
            URL_SAFE_NO_PAD
                .decode(jwks["keys"][0][name].as_str().unwrap())
                .unwrap()
        };
        let point = [vec![4], coordinate("x"), coordinate("y")].concat();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
            .unwrap();
        let claims = text.split_once('.').unwrap().1;
        let claims: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!(claims["sub"], "system:serviceaccount:shop:web");
        assert_eq!(claims["aud"], json!(["istio-ca"]));
        assert_eq!(claims["exp"], 1_600);
    }
}
