//! The issuer's public keys.

use std::path::Path;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

/// Maximum size of a key set, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Maximum number of keys in a set.
const MAX_KEYS: usize = 100;

/// Why a key set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The file is not a usable key set.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
}

/// Public keys of an issuer. Keys of unknown kinds are left out.
pub struct KeySet {
    keys: Vec<Key>,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.keys.iter().map(|key| &key.id))
            .finish()
    }
}

impl KeySet {
    /// Reads a JWKS file.
    ///
    /// # Errors
    /// If it cannot be read, is too large, or holds no usable key.
    pub fn load(path: &Path) -> Result<Self, KeySetError> {
        let name = || path.display().to_string();
        let failed = |source| KeySetError::Read {
            path: name(),
            source,
        };
        let size = std::fs::metadata(path).map_err(failed)?.len();
        if size > MAX_BYTES {
            return Err(KeySetError::Content {
                path: name(),
                reason: format!("too large: {size} bytes, at most {MAX_BYTES} are allowed"),
            });
        }
        let text = std::fs::read(path).map_err(failed)?;
        Self::parse(&text).map_err(|reason| KeySetError::Content {
            path: name(),
            reason,
        })
    }

    /// Parses a JWKS.
    ///
    /// # Errors
    /// A message that says what is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(serde::Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(text)
            .map_err(|error| format!("not a JSON Web Key Set: {error}"))?;
        if set.keys.len() > MAX_KEYS {
            return Err(format!(
                "too many keys: {}, at most {MAX_KEYS} are allowed",
                set.keys.len()
            ));
        }
        let keys: Vec<Key> = set.keys.into_iter().filter_map(read_key).collect();
        if keys.is_empty() {
            return Err("the key set has no RSA or ECDSA signature key".to_owned());
        }
        Ok(Self { keys })
    }

    /// Keys that may have signed a token with this header.
    pub(super) fn candidates(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &Key> {
        self.keys
            .iter()
            .filter(move |key| id.is_none() || key.id.as_deref() == id)
            .filter(move |key| key.algorithms.contains(&algorithm))
    }
}

/// `None` for keys that cannot be used: other uses or kinds, private or damaged.
fn read_key(value: serde_json::Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value)
        .inspect_err(|error| tracing::warn!(error = %error, "key ignored"))
        .ok()?;
    if !matches!(
        jwk.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    ) {
        return None;
    }
    let possible: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            &[Algorithm::ES256]
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
            &[Algorithm::ES384]
        }
        _ => return None,
    };
    let named = match jwk.common.key_algorithm {
        None => None,
        Some(KeyAlgorithm::RS256) => Some(Algorithm::RS256),
        Some(KeyAlgorithm::RS384) => Some(Algorithm::RS384),
        Some(KeyAlgorithm::RS512) => Some(Algorithm::RS512),
        Some(KeyAlgorithm::ES256) => Some(Algorithm::ES256),
        Some(KeyAlgorithm::ES384) => Some(Algorithm::ES384),
        Some(_) => return None,
    };
    let algorithms: Vec<Algorithm> = possible
        .iter()
        .copied()
        .filter(|algorithm| named.is_none_or(|named| named == *algorithm))
        .collect();
    let key = DecodingKey::from_jwk(&jwk)
        .inspect_err(|error| tracing::warn!(error = %error, "key ignored"))
        .ok()?;
    Some(Key {
        id: jwk.common.key_id,
        algorithms,
        key,
    })
}
