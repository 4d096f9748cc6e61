//! Timeouts, retries, circuit breaking, faults on purpose.

use std::time::Duration;

use anyhow::Result;

use super::routing::{HTTPBIN, REVIEWS, book_shop_v1};
use crate::check::stage::{CLIENT, Seen, Stage, status};
use crate::http::Answer;

const RATINGS: &str = "ratings.default.svc.cluster.local:9080";
const RATINGS_URL: &str = "http://ratings:9080/ratings/0";
const REVIEWS_URL: &str = "http://reviews:9080/reviews/0";

/// Whether the answer came with this status within these bounds, in seconds.
fn timed(answer: &Answer, wanted: u16, from: f64, below: f64) -> Seen {
    let (right, seen) = status(answer, wanted);
    let seconds = answer.elapsed.as_secs_f64();
    (right && seconds >= from && seconds < below, seen)
}

pub(super) async fn request_timeouts(stage: &mut Stage<'_>) -> Result<()> {
    book_shop_v1(stage).await?;
    stage
        .apply("tasks/request-timeouts/virtual-service-ratings-delay-2s.yaml")
        .await?;
    stage
        .apply("tasks/request-timeouts/virtual-service-reviews-timeout.yaml")
        .await?;
    stage
        .until_routed("default/reviews-v2", "9080", RATINGS, |host| {
            host.contains("envoy.filters.http.fault")
        })
        .await?;
    stage
        .until_routed(CLIENT, "9080", REVIEWS, |host| {
            host.contains("\"timeout\":\"0.500s\"")
        })
        .await?;
    let http = stage.http(CLIENT);
    let seen = http.get(REVIEWS_URL).await;
    let seen = seen.map(|answer| timed(&answer, 504, 0.45, 1.0));
    stage.row("timeout 0.5 s, server takes 2 s", "504 after 0.5 s", seen);
    let seen = http.get(RATINGS_URL).await;
    let seen = seen.map(|answer| timed(&answer, 200, 1.95, 3.0));
    stage.row("the slow server itself", "200 after 2 s", seen);
    Ok(())
}

pub(super) async fn retries(stage: &mut Stage<'_>) -> Result<()> {
    let http = stage.http(CLIENT);
    // A key that no earlier run used.
    let key: u64 = rand::random();
    stage
        .apply("tasks/retries/virtual-service-httpbin-no-retries.yaml")
        .await?;
    stage
        .until_routed(CLIENT, "8000", HTTPBIN, |host| {
            !host.contains("retry_policy")
        })
        .await?;
    let seen = http
        .get(&format!("http://httpbin:8000/fail-first/2/{key}a"))
        .await;
    let seen = seen.map(|answer| status(&answer, 503));
    stage.row("no retries, server fails twice", "503", seen);
    stage
        .apply("tasks/retries/virtual-service-httpbin-retries.yaml")
        .await?;
    stage
        .until_routed(CLIENT, "8000", HTTPBIN, |host| {
            host.contains("\"num_retries\":3")
        })
        .await?;
    let seen = http
        .get(&format!("http://httpbin:8000/fail-first/2/{key}b"))
        .await
        .and_then(|answer| {
            let calls = answer.json()?.get("calls").cloned().unwrap_or_default();
            let right = answer.status == 200 && calls == 3;
            Ok((
                right,
                format!("{} after {calls} calls", answer.status.as_u16()),
            ))
        });
    stage.row(
        "three retries, server fails twice",
        "200 after 3 calls",
        seen,
    );
    Ok(())
}

pub(super) async fn circuit_breaking(stage: &mut Stage<'_>) -> Result<()> {
    stage
        .apply("tasks/circuit-breaking/destination-rule-httpbin.yaml")
        .await?;
    let cluster = "outbound|8000||httpbin.default.svc.cluster.local";
    stage
        .until_cluster(CLIENT, cluster, |text| {
            text.contains("\"max_pending_requests\":1")
        })
        .await?;
    let url = "http://httpbin:8000/delay/0.1";
    let calm = stage.load(CLIENT, &["-n", "10", "-c", "1", url]).await;
    let seen = calm.map(|summary| {
        let answered = summary.with_status(200);
        (answered == 10, format!("{answered} of 10"))
    });
    stage.row("one caller", "10 of 10 answered 200", seen);

    let envoy = stage.mesh.envoy(CLIENT);
    let overflow = || envoy.stat_sum(r"httpbin\.default.*upstream_rq_pending_overflow$");
    let crowded = async {
        let before = overflow().await?;
        let summary = stage.load(CLIENT, &["-n", "60", "-c", "4", url]).await?;
        let counted = overflow().await? - before;
        let (good, refused) = (summary.with_status(200), summary.with_status(503));
        let right = good > 0 && refused > 0 && good + refused == 60 && counted == refused;
        Ok((
            right,
            format!("{good} answered, {refused} refused, Envoy counted {counted}"),
        ))
    };
    let seen = crowded.await;
    stage.row(
        "four callers at a time",
        "some of 60 refused with 503, as many counted",
        seen,
    );
    let refusal = async {
        // Three hold the connection and the one place in the queue.
        let http = stage.http(CLIENT);
        let answers = (0..4).map(|_| http.get("http://httpbin:8000/delay/0.3"));
        let answers = futures::future::try_join_all(answers).await?;
        let marked = answers
            .iter()
            .filter(|answer| answer.status == 503 && answer.header("x-envoy-overloaded") == "true")
            .count();
        Ok((marked > 0, format!("{marked} of 4")))
    };
    let seen = refusal.await;
    stage.row("the refusal", "503 with x-envoy-overloaded", seen);
    Ok(())
}

pub(super) async fn fault_injection(stage: &mut Stage<'_>) -> Result<()> {
    book_shop_v1(stage).await?;
    let http = stage.http(CLIENT);
    let jason = [("end-user", "jason")];
    stage
        .apply("tasks/fault-injection/virtual-service-ratings-test-delay.yaml")
        .await?;
    stage
        .until_routed(CLIENT, "9080", RATINGS, |host| {
            host.contains("\"fixed_delay\":\"7s\"")
        })
        .await?;
    let seen = http.get_with(RATINGS_URL, &jason).await;
    let seen = seen.map(|answer| timed(&answer, 200, 6.95, 8.0));
    stage.row("delay of 7 s for jason", "200 after 7 s", seen);
    let seen = http.get(RATINGS_URL).await;
    let seen = seen.map(|answer| timed(&answer, 200, 0.0, 1.0));
    stage.row("the others meanwhile", "200 within 1 s", seen);
    stage
        .apply("tasks/fault-injection/virtual-service-ratings-test-abort.yaml")
        .await?;
    stage
        .until_routed(CLIENT, "9080", RATINGS, |host| {
            host.contains("\"http_status\":500")
        })
        .await?;
    let seen = http.get_with(RATINGS_URL, &jason).await;
    let seen = seen.map(|answer| status(&answer, 500));
    stage.row("abort with 500 for jason", "500", seen);
    let seen = http.get(RATINGS_URL).await;
    let seen = seen.map(|answer| status(&answer, 200));
    stage.row("the others meanwhile", "200", seen);
    // What the caller of the caller sees: reviews goes on without stars.
    stage
        .apply("tasks/request-routing/virtual-service-reviews-test-v2.yaml")
        .await?;
    stage
        .until_routed("default/reviews-v2", "9080", RATINGS, |host| {
            host.contains("\"http_status\":500")
        })
        .await?;
    let seen = stage
        .until(Duration::from_secs(5), || async {
            let answer = http.get_with(REVIEWS_URL, &jason).await?;
            let reported = answer
                .text()
                .contains("Ratings service is currently unavailable");
            Ok((
                reported && answer.status == 200,
                format!("{}, reported: {reported}", answer.status.as_u16()),
            ))
        })
        .await;
    stage.row(
        "reviews without ratings, for jason",
        "200 that tells of it",
        seen,
    );
    Ok(())
}
