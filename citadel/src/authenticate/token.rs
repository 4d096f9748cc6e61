//! Projected ServiceAccount tokens, checked with the issuer's keys.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::{Validation, decode, decode_header};
use mesh_common::fswatch::{self, WatchDied};
use mesh_common::readiness::Gate;
use mesh_common::tasks::Tasks;

use super::claims::{Account, Claims};
use super::{KeySet, KeySetError, MAX_TOKEN, Refusal, SKEW};

/// How long the key file must stay unchanged before it is read.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// Which tokens are accepted.
#[derive(Clone, Debug)]
pub struct TokenOptions {
    /// Required value of the claim `iss`.
    pub issuer: String,
    /// The claim `aud` must hold one of these.
    pub audiences: Vec<String>,
    /// File with the issuer's keys (JWKS).
    pub keys: PathBuf,
}

/// Checks tokens. The keys are replaced when their file changes; an invalid file keeps the old
/// keys.
#[derive(Debug)]
pub struct TokenAuthenticator {
    options: TokenOptions,
    validation: Validation,
    keys: ArcSwapOption<KeySet>,
}

impl TokenAuthenticator {
    /// Starts without keys; see [`reload`](Self::reload).
    #[must_use]
    pub fn new(options: TokenOptions) -> Self {
        let mut validation = Validation {
            leeway: SKEW.as_secs(),
            validate_exp: true,
            validate_nbf: true,
            validate_aud: true,
            ..Validation::default()
        };
        validation.set_issuer(&[&options.issuer]);
        validation.set_audience(&options.audiences);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Self {
            options,
            validation,
            keys: ArcSwapOption::empty(),
        }
    }

    /// Reads the key file.
    ///
    /// # Errors
    /// If it cannot be used; the previous keys stay in use.
    pub fn reload(&self) -> Result<(), KeySetError> {
        let keys = KeySet::load(&self.options.keys)?;
        self.keys.store(Some(Arc::new(keys)));
        Ok(())
    }

    /// Reads the key file now and after each change, until the drain begins. `gate` opens with the
    /// first usable keys.
    pub fn follow(self: &Arc<Self>, gate: Gate, tasks: &Tasks) {
        let mut changes = fswatch::watch(vec![self.options.keys.clone()], DEBOUNCE);
        let this = Arc::clone(self);
        let end = tasks.drain().signaled();
        tasks.keep("token keys", async move {
            tokio::pin!(end);
            loop {
                match this.reload() {
                    Ok(()) => gate.open(),
                    Err(error) => {
                        tracing::warn!(
                            error = %error,
                            "cannot load the token keys, the previous ones stay in use"
                        )
                    }
                }
                tokio::select! {
                    () = &mut end => return Ok::<_, WatchDied>(()),
                    change = changes.next() => change?,
                }
            }
        });
    }

    /// The account that the token was issued for.
    pub(super) fn account(&self, token: &str) -> Result<Account, Refusal> {
        let refused = |reason: String| Refusal::Unauthenticated(format!("token: {reason}"));
        if token.len() > MAX_TOKEN {
            return Err(refused(format!("it is longer than {MAX_TOKEN} bytes")));
        }
        let keys = self.keys.load_full().ok_or_else(|| {
            Refusal::Unavailable("the keys to check tokens with are not loaded yet".to_owned())
        })?;
        let header = decode_header(token).map_err(|error| refused(error.to_string()))?;
        let mut failure = "no key matches its header".to_owned();
        for key in keys.candidates(header.kid.as_deref(), header.alg) {
            let mut validation = self.validation.clone();
            validation.algorithms = vec![header.alg];
            match decode::<Claims>(token, &key.key, &validation) {
                Ok(data) => return data.claims.account().map_err(refused),
                Err(error) => failure = error.to_string(),
            }
        }
        Err(refused(failure))
    }
}

#[cfg(test)]
mod tests;
