use serde_json::{Value, json};
use tonic::Code;

use super::{ACCOUNTS, World};
use crate::harness::{Citadel, Csr, Issuer, der, eventually};

async fn ask(citadel: &Citadel, token: &str) -> Result<String, tonic::Status> {
    let answer = citadel
        .create(None, Some(token), Csr::new().request())
        .await?;
    let leaf = der(&answer.cert_chain[0]);
    let identity = mesh_core::spiffe::Identity::from_certificate_der(&leaf).unwrap();
    Ok(identity.to_string())
}

#[tokio::test]
async fn a_token_that_the_api_server_knows_gives_a_certificate() {
    let world = World::new();
    let citadel = world.start(&[]).await;
    let token = world.token(&citadel.issuer, "foo", "bar");
    assert_eq!(
        ask(&citadel, &token).await.unwrap(),
        "spiffe://cluster.local/ns/foo/sa/bar"
    );
    assert_eq!(
        world.reviews(),
        [json!({"token": token, "audiences": ["istio-ca"]})]
    );
    let accepted = "citadel_token_review_seconds_count{result=\"accepted\"}";
    assert_eq!(citadel.metric(accepted).await, 1.0);
    citadel.stop().await;
}

#[tokio::test]
async fn every_other_token_gets_the_same_refusal() {
    let world = World::new();
    let citadel = world.start(&[]).await;
    let issuer = &citadel.issuer;
    let good = json!({
        "authenticated": true,
        "audiences": ["istio-ca"],
        "user": {
            "username": "system:serviceaccount:foo:bar",
            "groups": ["system:serviceaccounts"],
        },
    });
    let with = |path: &str, value: Value| {
        let mut status = good.clone();
        *status.pointer_mut(path).unwrap() = value;
        status
    };
    let reviewed = [
        json!({"authenticated": false, "error": "token is gone"}),
        json!({"authenticated": false}),
        with("/audiences", Value::Null),
        with("/audiences", json!(["https://kubernetes.default.svc"])),
        with("/user/groups", json!(["system:nodes"])),
        with("/user/username", "system:node:foo:bar".into()),
        with("/user/username", "system:serviceaccount:foo".into()),
        with("/user/username", "system:serviceaccount:foo:bar:baz".into()),
        // Not valid Kubernetes names.
        with("/user/username", "system:serviceaccount:foo/ns:bar".into()),
    ];
    let count = reviewed.len();
    for (number, status) in reviewed.into_iter().enumerate() {
        let token = issuer.token_with("foo", "bar", |claims| claims["jti"] = number.into());
        world.cluster.token(&token, status.clone());
        let refusal = ask(&citadel, &token).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unauthenticated, "{status}");
        assert_eq!(refusal.message(), "request authenticate failure");
    }
    assert_eq!(world.reviews().len(), count);
    let unasked = [
        "a".repeat(17 * 1024),
        "nonsense".to_owned(),
        issuer.token_with("foo", "bar", |claims| claims["exp"] = 1.into()),
        issuer.token_with("foo", "bar", |claims| claims["exp"] = Value::Null),
        issuer.token_with("foo", "bar", |claims| claims["aud"] = "other".into()),
    ];
    for token in unasked {
        let refusal = ask(&citadel, &token).await.unwrap_err();
        assert_eq!(refusal.message(), "request authenticate failure");
    }
    assert_eq!(world.reviews().len(), count);
    citadel.stop().await;
}

#[tokio::test]
async fn keys_of_an_issuer_count_beside_the_api_server() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    let file = dir.path().join("jwks.json");
    std::fs::write(&file, issuer.jwks()).unwrap();
    let file = format!("--jwks-file={}", file.display());
    let citadel = world
        .start(&[&file, "--jwt-issuer=https://issuer.test"])
        .await;
    // Its signature is verified locally, so the API server is not asked.
    let token = issuer.token("vm", "one");
    assert_eq!(
        ask(&citadel, &token).await.unwrap(),
        "spiffe://cluster.local/ns/vm/sa/one"
    );
    assert!(world.reviews().is_empty());
    let token = world.token(&citadel.issuer, "foo", "bar");
    assert_eq!(
        ask(&citadel, &token).await.unwrap(),
        "spiffe://cluster.local/ns/foo/sa/bar"
    );
    citadel.stop().await;
}

#[tokio::test]
async fn a_certificate_is_renewed_as_long_as_its_account_is_there() {
    let mut world = World::new();
    let citadel = world.start(&[]).await;
    let csr = Csr::new();
    let token = world.token(&citadel.issuer, "foo", "bar");
    let answer = citadel
        .create(None, Some(&token), csr.request())
        .await
        .unwrap();
    let renew = async || {
        let pair = csr.pair(&answer);
        citadel.create(Some(pair), None, csr.request()).await
    };
    // The watch needs a moment.
    eventually("renewed", async || renew().await.is_ok()).await;
    world.delete(ACCOUNTS, "foo/bar");
    eventually("refused", async || renew().await.is_err()).await;
    assert_eq!(renew().await.unwrap_err().code(), Code::Unauthenticated);
    // A token still works by itself.
    let pair = csr.pair(&answer);
    citadel
        .create(Some(pair), Some(&token), csr.request())
        .await
        .unwrap();

    world.account("foo", "bar");
    eventually("renewed again", async || renew().await.is_ok()).await;
    // Also when the watch misses the change.
    world.change_and_forget(ACCOUNTS, |changes| changes.delete("foo/bar"));
    eventually("refused again", async || renew().await.is_err()).await;
    world.account("foo", "bar");
    eventually("renewed at last", async || renew().await.is_ok()).await;

    // The last known state applies.
    world.cluster.down().await;
    renew().await.unwrap();
    let refusal = ask(&citadel, &token).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
    assert_eq!(citadel.http("/ready").await.unwrap().0, 200);
    world.cluster.up().await;
    ask(&citadel, &token).await.unwrap();
    citadel.stop().await;
}

#[tokio::test]
async fn the_check_of_accounts_can_be_switched_off() {
    let world = World::new();
    let citadel = world
        .start(&["--renewal-requires-service-account=false"])
        .await;
    let csr = Csr::new();
    let token = citadel.issuer.token("foo", "bar");
    world.good_token(&token, "foo", "bar");
    let answer = citadel
        .create(None, Some(&token), csr.request())
        .await
        .unwrap();
    citadel
        .create(Some(csr.pair(&answer)), None, csr.request())
        .await
        .unwrap();
    citadel.stop().await;
}
