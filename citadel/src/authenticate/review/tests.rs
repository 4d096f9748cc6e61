//! Against an API server in this process.

use std::time::UNIX_EPOCH;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;
use mesh_common::args::KubeArgs;
use mesh_common::kubeclient;
use mesh_common::metrics::Registry;
use mesh_common::testing::cluster::{Cluster, kubeconfig};
use serde_json::json;

use super::*;

/// Deadline of every wait, reached only when a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

async fn reviewer(cluster: &Cluster, limit: Duration) -> Reviewer {
    let dir = tempfile::tempdir().unwrap();
    let flag = kubeconfig(dir.path(), cluster.address());
    let kubeconfig = flag.trim_start_matches("--kubeconfig=").to_owned();
    let config = kubeclient::config(&KubeArgs { kubeconfig }, "citadel")
        .await
        .unwrap();
    let client = kubeclient::client(config).unwrap();
    let seconds = Registry::empty().histogram_vec("seconds", "time", &[1.0], &["result"]);
    Reviewer::new(client, vec!["istio-ca".to_owned()], limit, seconds)
}

/// A token that passes the first check.
fn token(number: usize) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let claims = json!({"exp": now + 600, "aud": ["istio-ca"], "jti": number}).to_string();
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part("{}"), part(&claims), part("s"))
}

fn count(reviewer: &Reviewer, result: &str) -> u64 {
    let seconds = &reviewer.inner.seconds;
    seconds.with_label_values(&[result]).get_sample_count()
}

#[tokio::test]
async fn the_api_server_decides() {
    let cluster = Cluster::start();
    let reviewer = reviewer(&cluster, PATIENCE).await;
    cluster.good_token(&token(1), "foo", "bar");
    let account = reviewer.account(&token(1)).await.unwrap();
    assert_eq!(
        (account.namespace.as_str(), account.name.as_str()),
        ("foo", "bar")
    );
    let asked = cluster.reviews();
    assert_eq!(
        asked,
        [json!({"token": token(1), "audiences": ["istio-ca"]})]
    );
    let refusal = reviewer.account(&token(2)).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Unauthenticated(_)), "{refusal}");
    assert_eq!(
        (count(&reviewer, "accepted"), count(&reviewer, "refused")),
        (1, 1)
    );
    // Nonsense is not sent for review, and good results are not cached.
    assert!(reviewer.account("nonsense").await.is_err());
    cluster.token(&token(1), json!({"authenticated": false}));
    assert!(reviewer.account(&token(1)).await.is_err());
    assert_eq!(cluster.reviews().len(), 3);
}

#[tokio::test]
async fn a_review_that_does_not_work_is_no_refusal() {
    let mut cluster = Cluster::start();
    let reviewer = reviewer(&cluster, PATIENCE).await;
    cluster.forbid(REVIEWS, true);
    let refusal = reviewer.account(&token(1)).await.unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Unavailable(why) if why.contains("create tokenreviews")),
        "{refusal}"
    );
    cluster.down().await;
    let refusal = reviewer.account(&token(1)).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Unavailable(_)), "{refusal}");
    assert_eq!(count(&reviewer, "failed"), 2);
}

#[tokio::test]
async fn the_same_token_is_reviewed_once_at_a_time() {
    let cluster = Cluster::start();
    let reviewer = reviewer(&cluster, PATIENCE).await;
    let token = token(1);
    cluster.good_token(&token, "foo", "bar");
    cluster.hold_reviews(true);
    // All of them ask before the first answer.
    let asked = join_all((0..10).map(|_| reviewer.account(&token)));
    let release = async {
        cluster
            .until("asked", |cluster| !cluster.reviews().is_empty())
            .await;
        cluster.hold_reviews(false);
    };
    let (answers, ()) = tokio::join!(asked, release);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(cluster.reviews().len(), 1);
    // A later caller triggers another review.
    reviewer.account(&token).await.unwrap();
    assert_eq!(cluster.reviews().len(), 2);
}

#[tokio::test]
async fn reviews_are_bounded_in_number() {
    let cluster = Cluster::start();
    let reviewer = reviewer(&cluster, PATIENCE).await;
    cluster.hold_reviews(true);
    let tokens: Vec<_> = (0..WAITING + 10).map(token).collect();
    let asked = join_all(tokens.iter().map(|token| reviewer.account(token)));
    let release = async {
        let all = |cluster: &Cluster| cluster.reviews().len() == AT_A_TIME;
        cluster.until("the maximum number of reviews", all).await;
        assert_eq!(reviewer.inner.permits.available_permits(), 0);
        assert_eq!(reviewer.running.lock().reviews.len(), WAITING);
        cluster.hold_reviews(false);
    };
    let (answers, ()) = tokio::join!(asked, release);
    let too_many = answers.iter().filter(
        |answer| matches!(answer, Err(Refusal::Unavailable(why)) if why.contains("too many")),
    );
    assert_eq!(too_many.count(), 10);
    // All others were reviewed.
    assert_eq!(cluster.reviews().len(), WAITING);
    assert!(reviewer.running.lock().reviews.is_empty());
}

#[tokio::test]
async fn reviews_are_bounded_in_time() {
    let cluster = Cluster::start();
    let reviewer = reviewer(&cluster, Duration::from_millis(50)).await;
    cluster.hold_reviews(true);
    let refusal = reviewer.account(&token(1)).await.unwrap_err();
    assert!(matches!(&refusal, Refusal::Unavailable(why) if why.contains("in time")));
    assert!(reviewer.running.lock().reviews.is_empty());
}

#[tokio::test]
async fn nothing_is_left_of_callers_who_go() {
    let cluster = Cluster::start();
    let reviewer = reviewer(&cluster, PATIENCE).await;
    cluster.hold_reviews(true);
    let token = token(1);
    tokio::select! {
        answer = reviewer.account(&token) => panic!("{answer:?}"),
        () = cluster.until("asked", |cluster| !cluster.reviews().is_empty()) => {}
    }
    assert!(reviewer.running.lock().reviews.is_empty());
    // The next review does not depend on the abandoned ones.
    cluster.hold_reviews(false);
    cluster.good_token(&token, "foo", "bar");
    reviewer.account(&token).await.unwrap();
}
