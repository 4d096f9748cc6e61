//! Tokens that the API server checks (TokenReview): it also knows which Pods and ServiceAccounts
//! were deleted. Results are never cached.

mod rules;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::{Api, PostParams};
use mesh_common::kubeclient::Client;
use mesh_common::list_watch::Failure;
use mesh_common::metrics::HistogramVec;
use mesh_core::rate::LogLimit;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::Refusal;
use super::claims::Account;

/// Maximum number of concurrent reviews.
const AT_A_TIME: usize = 32;

/// Maximum number of tokens that are in review or wait for it.
const WAITING: usize = 256;

/// Minimum time between two log lines about failed reviews.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(60);

type Answer = Result<Account, Refusal>;
type Review = BoxFuture<'static, Answer>;
type Digest = [u8; 32];

/// Reviews in progress, by digest of the token.
#[derive(Default)]
struct Running {
    number: u64,
    reviews: HashMap<Digest, (u64, WeakShared<Review>)>,
}

/// Checks tokens with the API server.
pub(crate) struct Reviewer {
    inner: Arc<Inner>,
    running: Arc<Mutex<Running>>,
}

struct Inner {
    api: Api<TokenReview>,
    audiences: Vec<String>,
    /// Time limit of one review, including the wait for its turn.
    limit: Duration,
    permits: Semaphore,
    seconds: HistogramVec,
    trouble: Mutex<LogLimit>,
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviewer")
            .field("audiences", &self.inner.audiences)
            .finish_non_exhaustive()
    }
}

impl Reviewer {
    /// The histogram `seconds` has the label `result`.
    pub(crate) fn new(
        client: Client,
        audiences: Vec<String>,
        limit: Duration,
        seconds: HistogramVec,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                api: Api::all(client),
                audiences,
                limit,
                permits: Semaphore::new(AT_A_TIME),
                seconds,
                trouble: Mutex::new(LogLimit::new(TROUBLE_INTERVAL, 1)),
            }),
            running: Arc::default(),
        }
    }

    /// The account that the token was issued for. Concurrent callers with the same token share a
    /// review.
    pub(super) async fn account(&self, token: &str) -> Answer {
        let refused = |why: String| Refusal::Unauthenticated(format!("token: {why}"));
        rules::precheck(token, &self.inner.audiences, SystemTime::now()).map_err(refused)?;
        self.review(token)?.await
    }

    fn review(&self, token: &str) -> Result<Shared<Review>, Refusal> {
        let mut digest = Digest::default();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        digest.copy_from_slice(hash.as_ref());
        let mut running = self.running.lock();
        let found = running.reviews.get(&digest);
        if let Some(review) = found.and_then(|(_, review)| review.upgrade()) {
            return Ok(review);
        }
        if running.reviews.len() >= WAITING {
            return Err(Refusal::Unavailable(
                "too many concurrent token reviews".to_owned(),
            ));
        }
        running.number += 1;
        let number = running.number;
        // Removes the review also when all its callers have gone away.
        let entry = Entry {
            running: Arc::clone(&self.running),
            digest,
            number,
        };
        let (inner, token) = (Arc::clone(&self.inner), token.to_owned());
        let review = async move {
            let _entry = entry;
            inner.ask(token).await
        };
        let review = review.boxed().shared();
        if let Some(weak) = review.downgrade() {
            running.reviews.insert(digest, (number, weak));
        }
        Ok(review)
    }
}

/// Registration of a review in progress.
struct Entry {
    running: Arc<Mutex<Running>>,
    digest: Digest,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let reviews = &mut self.running.lock().reviews;
        let found = reviews.get(&self.digest);
        if found.is_some_and(|(number, _)| *number == self.number) {
            reviews.remove(&self.digest);
        }
    }
}

impl Inner {
    async fn ask(&self, token: String) -> Answer {
        let start = Instant::now();
        let answer = match tokio::time::timeout(self.limit, self.request(token)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.unavailable("the API server did not answer in time")),
        };
        let result = match &answer {
            Ok(_) => "accepted",
            Err(Refusal::Unauthenticated(_)) => "refused",
            Err(Refusal::Unavailable(_)) => "failed",
        };
        let seconds = start.elapsed().as_secs_f64();
        self.seconds.with_label_values(&[result]).observe(seconds);
        answer
    }

    async fn request(&self, token: String) -> Answer {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token),
                audiences: Some(self.audiences.clone()),
            },
            ..TokenReview::default()
        };
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(self.unavailable("the process is stopping"));
        };
        match self.api.create(&PostParams::default(), &review).await {
            Ok(review) => {
                let status = review.status.unwrap_or_default();
                let refused = |why| Refusal::Unauthenticated(format!("token: {why}"));
                rules::judge(&status, &self.audiences).map_err(refused)
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => Err(self
                .unavailable(&format!(
                    "the API server refuses token reviews ({}): {}; the ServiceAccount needs the \
                     right to create tokenreviews (authentication.k8s.io)",
                    status.code, status.message
                ))),
            Err(error) => Err(self.unavailable(&Failure::from(error).to_string())),
        }
    }

    fn unavailable(&self, why: &str) -> Refusal {
        if let Some(left_out) = self.trouble.lock().allow(Instant::now()) {
            tracing::warn!(left_out, error = why, "token review failed");
        }
        Refusal::Unavailable(format!("token review: {why}"))
    }
}

#[cfg(test)]
mod tests;
