use std::sync::Arc;

use super::{ACCOUNTS, ROOT, SECRETS, World};
use crate::harness::{Csr, eventually};

#[tokio::test]
async fn a_start_waits_for_the_api_server_and_says_so() {
    let mut world = World::new();
    world.cluster.down().await;
    let citadel = world.begin(&[]).await;
    eventually("not ready", async || {
        let page = citadel.http("/ready").await;
        page.is_some_and(|(status, text)| {
            status == 503
                && text.contains("waiting for ServiceAccounts")
                && text.contains("(Secret istio-system/istio-ca-secret)")
        })
    })
    .await;
    assert_eq!(citadel.http("/healthz").await.unwrap().0, 200);
    assert_eq!(citadel.http("/debug/ca").await.unwrap().0, 503);
    world.cluster.up().await;
    world.ready(&citadel).await;
    assert_eq!(citadel.http("/debug/ca").await.unwrap().0, 200);
    citadel.stop().await;
}

#[tokio::test]
async fn without_rights_it_waits_and_goes_on_when_it_has_them() {
    let world = World::new();
    let secrets = "/api/v1/namespaces/istio-system/secrets";
    world.forbid(secrets, true);
    world.forbid(ACCOUNTS, true);
    let citadel = world.begin(&[]).await;
    world.watched_or_listed(ACCOUNTS).await;
    assert_eq!(citadel.http("/ready").await.unwrap().0, 503);
    assert!(world.object(SECRETS, ROOT).is_null());
    world.forbid(secrets, false);
    world.forbid(ACCOUNTS, false);
    world.ready(&citadel).await;
    citadel.stop().await;
}

#[tokio::test]
async fn the_self_check_needs_no_api_server() {
    let mut world = World::new();
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let file = dir.path().join("alive");
    let path = format!("--liveness-probe-path={}", file.display());
    let flags = [
        path.as_str(),
        "--liveness-probe-interval=100ms",
        "--probe-check-interval=1s",
    ];
    let citadel = world.start(&flags).await;
    world.cluster.down().await;
    let handled = "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"CreateCertificate\",grpc_service=\"istio.v1.auth.IstioCertificateService\",grpc_type=\"unary\"}";
    let before = citadel.metric(handled).await;
    eventually("two more checks", async || {
        citadel.metric(handled).await >= before + 2.0
    })
    .await;
    assert!(file.exists());
    citadel.stop().await;
}

#[tokio::test]
async fn nobody_is_served_before_the_authority_is_there() {
    let mut world = World::new();
    world.cluster.down().await;
    let citadel = world.begin(&[]).await;
    eventually("a page", async || citadel.http("/ready").await.is_some()).await;
    let token = world.token(&citadel.issuer, "foo", "bar");
    world.cluster.up().await;
    world.ready(&citadel).await;
    citadel
        .create(None, Some(&token), Csr::new().request())
        .await
        .unwrap();
    citadel.stop().await;
}

impl World {
    async fn watched_or_listed(&self, path: &str) {
        self.until("asked", |cluster| !cluster.requests(path).is_empty())
            .await;
    }
}
