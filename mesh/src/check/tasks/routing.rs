//! Choosing a destination by header, mirroring, changing requests, and how fast a change is.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::check::stage::{CLIENT, Seen, Stage};
use crate::http::Http;
use crate::manifest::Key;

pub(super) const REVIEWS: &str = "reviews.default.svc.cluster.local:9080";
pub(super) const HTTPBIN: &str = "httpbin.default.svc.cluster.local:8000";
const REVIEWS_URL: &str = "http://reviews:9080/reviews/0";
const HTTPBIN_URL: &str = "http://httpbin:8000";
/// Requests where each single one must go the right way.
const EACH: usize = 20;
/// What a change in a file may take until it is in Envoy.
const CHANGE: Duration = Duration::from_secs(1);

/// The cluster of a subset, as it stands in a route.
pub(super) fn to(service: &str, port: u16, subset: &str) -> String {
    format!("\"outbound|{port}|{subset}|{service}.default.svc.cluster.local\"")
}

/// Names the versions of the book shop and sends everything to the first.
pub(super) async fn book_shop_v1(stage: &mut Stage<'_>) -> Result<()> {
    stage
        .apply("manifests/bookinfo/destination-rule-all.yaml")
        .await?;
    stage
        .apply("manifests/bookinfo/virtual-service-all-v1.yaml")
        .await
}

/// Sends [`EACH`] requests for reviews; all must be answered by Pods of `version`.
async fn reviews_of(http: &Http, headers: &[(&str, &str)], version: &str) -> Result<Seen> {
    let mut right = 0;
    let mut last = String::new();
    for _ in 0..EACH {
        let answer = http.get_with(REVIEWS_URL, headers).await?;
        let pod = answer.json()?.get("podname").map(ToString::to_string);
        last = pod.with_context(|| format!("{} without podname", answer.status))?;
        right += usize::from(last.starts_with(&format!("\"reviews-{version}-")));
    }
    Ok((right == EACH, format!("{right} of {EACH}, last by {last}")))
}

pub(super) async fn request_routing(stage: &mut Stage<'_>) -> Result<()> {
    book_shop_v1(stage).await?;
    stage
        .apply("tasks/request-routing/virtual-service-reviews-test-v2.yaml")
        .await?;
    for pod in [CLIENT, "default/productpage-v1"] {
        stage
            .until_routed(pod, "9080", REVIEWS, |host| {
                host.contains("end-user") && host.contains(&to("reviews", 9080, "v2"))
            })
            .await?;
    }
    let http = stage.http(CLIENT);
    let seen = reviews_of(&http, &[("end-user", "jason")], "v2").await;
    stage.row("header end-user: jason", "20 of 20 by reviews-v2", seen);
    let seen = reviews_of(&http, &[], "v1").await;
    stage.row("no such header", "20 of 20 by reviews-v1", seen);

    let host = stage.mesh.http_from_host();
    let base = stage
        .mesh
        .published_url("istio-ingress/istio-ingressgateway", 80)
        .await?;
    let page = format!("{base}/productpage");
    let signed_in = async {
        let answer = host
            .post(&format!("{base}/login"), "username=jason")
            .await?;
        let cookie = answer.header("set-cookie");
        let cookie = cookie.split(';').next().unwrap_or_default();
        ensure!(
            !cookie.is_empty(),
            "signing in gave {} and no cookie",
            answer.status
        );
        stars(&host, &page, &[("cookie", cookie)]).await
    };
    let seen = signed_in.await.map(|seen| (seen == "black stars", seen));
    stage.row("product page, signed in as jason", "black stars", seen);
    let seen = stars(&host, &page, &[]).await;
    let seen = seen.map(|seen| (seen == "no stars", seen));
    stage.row("product page, nobody signed in", "no stars", seen);
    Ok(())
}

/// The stars that the page shows.
async fn stars(host: &Http, page: &str, headers: &[(&str, &str)]) -> Result<String> {
    let answer = host.get_with(page, headers).await?;
    ensure!(answer.status == 200, "the page answered {}", answer.status);
    let text = answer.text();
    ensure!(text.contains("Reviewer1"), "the page has no reviews");
    let colour = ["black", "red"]
        .into_iter()
        .find(|colour| text.contains(&format!("5 stars, {colour}")));
    Ok(colour.map_or_else(|| "no stars".to_owned(), |colour| format!("{colour} stars")))
}

pub(super) async fn mirroring(stage: &mut Stage<'_>) -> Result<()> {
    stage.apply("manifests/httpbin/httpbin-v2.yaml").await?;
    stage
        .apply("tasks/mirroring/destination-rule-httpbin.yaml")
        .await?;
    stage
        .apply("tasks/mirroring/virtual-service-httpbin-v1.yaml")
        .await?;
    stage.settle().await?;
    stage
        .until_routed(CLIENT, "8000", HTTPBIN, |host| {
            host.contains(&to("httpbin", 8000, "v1"))
        })
        .await?;
    let inside = stage.http("default/httpbin-v2");
    let count = || async {
        let answer = inside.get("http://127.0.0.1:8080/request-count").await?;
        let body = answer.json()?;
        let count = body.get("requests").and_then(serde_json::Value::as_u64);
        count.with_context(|| format!("no count in {body}"))
    };
    let http = stage.http(CLIENT);
    let send = || async {
        for _ in 0..EACH {
            let answer = http.get(&format!("{HTTPBIN_URL}/get")).await?;
            let by = answer.header("x-app-version");
            ensure!(
                answer.status == 200 && by == "v1",
                "{} by {by:?}",
                answer.status
            );
        }
        anyhow::Ok(())
    };
    let before = count().await?;
    send().await?;
    let copies = count().await? - before;
    let seen = Ok((copies == 0, format!("{copies} requests at v2")));
    stage.row("all to v1", "20 answers by v1, none at v2", seen);

    stage
        .apply("tasks/mirroring/virtual-service-httpbin-mirror.yaml")
        .await?;
    stage
        .until_routed(CLIENT, "8000", HTTPBIN, |host| {
            host.contains("request_mirror_policies")
        })
        .await?;
    let before = count().await?;
    send().await?;
    // Nobody waits for a copy, so the last ones may be under way.
    let seen = stage
        .until(Duration::from_secs(2), || async {
            let copies = count().await? - before;
            let wanted = u64::try_from(EACH)?;
            Ok((copies == wanted, format!("{copies} copies at v2")))
        })
        .await;
    stage.row("mirrored to v2", "20 answers by v1, 20 copies at v2", seen);
    Ok(())
}

pub(super) async fn headers_rewrite_redirect(stage: &mut Stage<'_>) -> Result<()> {
    stage
        .apply("tasks/headers-rewrite-redirect/virtual-service-httpbin.yaml")
        .await?;
    stage
        .until_routed(CLIENT, "8000", HTTPBIN, |host| {
            host.contains("/redirect-me")
        })
        .await?;
    let http = stage.http(CLIENT);
    let get = |path: &str| {
        let (http, url) = (http.clone(), format!("{HTTPBIN_URL}{path}"));
        async move {
            let headers = [("x-unwanted", "1"), ("x-kept", "1"), ("x-set", "by-client")];
            http.get_with(&url, &headers).await
        }
    };
    let seen = get("/redirect-me").await.map(|answer| {
        let to = answer.header("location").to_owned();
        let right = answer.status == 302 && to.ends_with("/anything/target");
        (right, format!("{} to {to:?}", answer.status.as_u16()))
    });
    stage.row("redirect", "302 to /anything/target", seen);

    let seen = get("/old/a").await.and_then(|answer| {
        let body = answer.json()?;
        let url = body
            .get("url")
            .and_then(|url| url.as_str())
            .unwrap_or("none");
        let right = url.ends_with("/anything/new/a");
        Ok((right, format!("the server saw {url}")))
    });
    stage.row("rewrite /old/a", "/anything/new/a at the server", seen);

    let answer = get("/headers").await?;
    let body = answer.json()?;
    let sent = |name: &str| {
        let value = body.pointer(&format!("/headers/{name}"));
        value
            .and_then(|value| value.as_str())
            .unwrap_or("none")
            .to_owned()
    };
    let (set, added) = (sent("X-Set"), sent("X-Added"));
    let (gone, kept) = (sent("X-Unwanted"), sent("X-Kept"));
    stage.row(
        "request headers",
        "one set, one added, one gone, one kept",
        Ok((
            set == "from-mesh" && added == "from-mesh" && gone == "none" && kept == "1",
            format!("set {set}, added {added}, unwanted {gone}, other {kept}"),
        )),
    );
    let (set, added) = (
        answer.header("x-response-set"),
        answer.header("x-response-added"),
    );
    let gone = answer.header("x-app-version");
    stage.row(
        "answer headers",
        "one set, one added, one gone",
        Ok((
            set == "from-mesh" && added == "from-mesh" && gone.is_empty(),
            format!("set {set:?}, added {added:?}, x-app-version {gone:?}"),
        )),
    );
    Ok(())
}

/// Rewrites an object where galley reads it and measures at Envoy.
pub(super) async fn config_change(stage: &mut Stage<'_>) -> Result<()> {
    book_shop_v1(stage).await?;
    let routed =
        |subset: &'static str| move |host: &str| host.contains(&to("reviews", 9080, subset));
    stage
        .until_routed(CLIENT, "9080", REVIEWS, routed("v1"))
        .await?;
    let key = Key {
        group: "networking.istio.io".to_owned(),
        ..Key::core("VirtualService", "default", "reviews")
    };
    let original = stage.mesh.object(&key).await?;
    let mut slowest = Duration::ZERO;
    for (from, into) in [("v1", "v3"), ("v3", "v2"), ("v2", "v3"), ("v3", "v1")] {
        let (from, changed) = (format!("subset: {from}"), format!("subset: {into}"));
        let begun = stage.mesh.rewrite(&key, &from, &changed).await?;
        stage
            .until_routed(CLIENT, "9080", REVIEWS, routed(into))
            .await?;
        slowest = slowest.max(begun.elapsed());
    }
    ensure!(
        stage.mesh.object(&key).await? == original,
        "the object is not what it was"
    );
    stage.row(
        "an object rewritten, four times",
        format!("in Envoy within {} s", CHANGE.as_secs()),
        Ok((
            slowest < CHANGE,
            format!("at most {:.3} s", slowest.as_secs_f64()),
        )),
    );
    Ok(())
}
