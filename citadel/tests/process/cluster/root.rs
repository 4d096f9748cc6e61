use std::time::{Duration, SystemTime};

use citadel::store::root;
use rcgen::KeyPair;

use super::{MAPS, ROOT, SECRETS, World, put_secret};
use crate::harness::{Citadel, Csr, der, eventually, verifies};

async fn root_of(world: &World, citadel: &Citadel) -> String {
    let token = world.token(&citadel.issuer, "foo", "bar");
    let answer = citadel
        .create(None, Some(&token), Csr::new().request())
        .await
        .unwrap();
    assert!(verifies(&answer.cert_chain[0], "", &answer.cert_chain[1]));
    answer.cert_chain[1].clone()
}

#[tokio::test]
async fn replicas_that_start_together_have_one_root() {
    let world = World::new();
    let (first, second) = tokio::join!(world.start(&[]), world.start(&[]));
    let root = root_of(&world, &first).await;
    assert_eq!(root, root_of(&world, &second).await);
    let secret = world.object(SECRETS, ROOT);
    assert_eq!(secret["type"], "istio.io/ca-root");
    assert_eq!(world.secret(ROOT, "root-cert.pem"), root);
    // It is only created, never overwritten.
    let writes = world.writes();
    assert!(
        !writes
            .iter()
            .any(|write| write.starts_with("PUT") && write.contains("/secrets/"))
    );
    first.stop().await;
    second.stop().await;
    let third = world.start(&[]).await;
    assert_eq!(root, root_of(&world, &third).await);
    third.stop().await;
}

#[tokio::test]
async fn a_reader_waits_for_the_root_of_another() {
    let world = World::new();
    let reader = world.begin(&["--read-signing-cert-only"]).await;
    let path = "/api/v1/namespaces/istio-system/secrets/istio-ca-secret";
    world
        .until("looked", |cluster| cluster.gets(path) >= 2)
        .await;
    assert!(world.object(SECRETS, ROOT).is_null());
    let writer = world.start(&[]).await;
    world.ready(&reader).await;
    assert_eq!(
        root_of(&world, &reader).await,
        root_of(&world, &writer).await
    );
    reader.stop().await;
    writer.stop().await;
}

#[tokio::test]
async fn a_damaged_secret_ends_the_start_and_stays_as_it_is() {
    let world = World::new();
    world.start(&[]).await.stop().await;
    let mut secret = world.object(SECRETS, ROOT);
    put_secret(&mut secret, "ca-cert.pem", "damaged");
    world.apply(SECRETS, secret);
    let before = world.object(SECRETS, ROOT);
    let error = world.fails(&[]).await;
    assert!(
        error.contains(
            "certificate authority in Secret istio-system/istio-ca-secret cannot be used"
        ) && error.contains("new root"),
        "{error}"
    );
    assert_eq!(world.object(SECRETS, ROOT), before);
}

#[tokio::test]
async fn a_deleted_secret_is_restored_with_the_key_in_use() {
    let world = World::new();
    let citadel = world.start(&[]).await;
    let before = world.object(SECRETS, ROOT)["data"].clone();
    let watched =
        |query: &String| query.contains("watch=true") && query.contains("istio-ca-secret");
    let secrets = "/api/v1/namespaces/istio-system/secrets";
    world
        .until("watched", |cluster| {
            cluster.requests(secrets).iter().any(watched)
        })
        .await;
    world.delete(SECRETS, ROOT);
    world
        .until("restored", |world| !world.object(SECRETS, ROOT).is_null())
        .await;
    assert_eq!(world.object(SECRETS, ROOT)["data"], before);
    citadel.stop().await;
}

/// Renews the root as another replica would.
fn renew(world: &World) -> String {
    let mut secret = world.object(SECRETS, ROOT);
    let key = KeyPair::from_pem(&world.secret(ROOT, "ca-key.pem")).unwrap();
    let old = der(&world.secret(ROOT, "ca-cert.pem"));
    let year = Duration::from_secs(365 * 86_400);
    let new = root::renew(&old, &key, year, SystemTime::now()).unwrap();
    put_secret(&mut secret, "ca-cert.pem", &new);
    put_secret(&mut secret, "root-cert.pem", &new);
    world.apply(SECRETS, secret);
    new
}

#[tokio::test]
async fn a_root_that_another_replica_renewed_reaches_everything() {
    let world = World::new();
    world.account("istio-system", "istio-pilot-service-account");
    let never = ["--root-cert-check-interval=0s"];
    let (first, second) = tokio::join!(world.start(&never), world.start(&never));
    let old = root_of(&world, &first).await;
    let pilot = "istio-system/istio.istio-pilot-service-account";
    world
        .until("the old root everywhere", |_| {
            world.root_map("istio-system") == old && world.secret(pilot, "root-cert.pem") == old
        })
        .await;
    let new = renew(&world);
    assert_ne!(old, new);
    for citadel in [&first, &second] {
        eventually("adopted", async || root_of(&world, citadel).await == new).await;
    }
    world
        .until("the new root in ConfigMaps", |_| {
            world.root_map("istio-system") == new
        })
        .await;
    world
        .until("the new root in istio-security", |_| {
            let map = world.object(MAPS, "istio-system/istio-security");
            super::secret_text(&map, "caTLSRootCert") == new
        })
        .await;
    world
        .until("the new root in Secrets", |_| {
            world.secret(pilot, "root-cert.pem") == new
        })
        .await;
    assert!(verifies(&world.secret(pilot, "cert-chain.pem"), "", &new));
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_root_near_its_end_is_renewed_in_the_secret() {
    let world = World::new();
    // With a grace period of 100 percent every check finds it due.
    let citadel = world
        .start(&[
            "--root-cert-grace-percent=100",
            "--root-cert-check-interval=1s",
            "--root-cert-check-jitter=false",
        ])
        .await;
    let key = world.secret(ROOT, "ca-key.pem");
    let before = world.secret(ROOT, "ca-cert.pem");
    world
        .until("renewed", |_| world.secret(ROOT, "ca-cert.pem") != before)
        .await;
    assert_eq!(world.secret(ROOT, "ca-key.pem"), key);
    assert_eq!(
        world.secret(ROOT, "ca-cert.pem"),
        world.secret(ROOT, "root-cert.pem")
    );
    eventually("used", async || root_of(&world, &citadel).await != before).await;
    // Late events of the watch do not bring an older root back.
    let writes = || {
        let put = |write: &&String| write.starts_with("PUT") && write.ends_with("/istio-ca-secret");
        world.writes().iter().filter(put).count() as f64
    };
    let replaced = "citadel_ca_reload_count{result=\"success\"}";
    eventually("one replacement for each", async || {
        citadel.metric(replaced).await == writes()
    })
    .await;
    citadel.stop().await;
}

#[tokio::test]
async fn another_key_in_the_secret_is_not_taken() {
    let world = World::new();
    let citadel = world.start(&[]).await;
    let old = root_of(&world, &citadel).await;
    let other = World::new();
    other.start(&[]).await.stop().await;
    let mut secret = world.object(SECRETS, ROOT);
    secret["data"] = other.object(SECRETS, ROOT)["data"].clone();
    world.apply(SECRETS, secret);
    let failures = "citadel_ca_reload_count{result=\"failure\"}";
    eventually("refused", async || citadel.metric(failures).await >= 1.0).await;
    assert_eq!(root_of(&world, &citadel).await, old);
    citadel.stop().await;
}

#[tokio::test]
async fn a_provided_authority_needs_no_secret() {
    let world = World::new();
    world.start(&[]).await.stop().await;
    let dir = tempfile::tempdir().unwrap();
    let cacerts = dir.path().join("cacerts");
    std::fs::create_dir(&cacerts).unwrap();
    for (file, key) in [
        ("ca-cert.pem", "ca-cert.pem"),
        ("ca-key.pem", "ca-key.pem"),
        ("root-cert.pem", "ca-cert.pem"),
        ("cert-chain.pem", "ca-cert.pem"),
    ] {
        std::fs::write(cacerts.join(file), world.secret(ROOT, key)).unwrap();
    }
    let other = World::new();
    let citadel = other.begin_in(dir, &[]).await;
    citadel.ready().await;
    other
        .until("distributed", |_| {
            !other.root_map("istio-system").is_empty()
        })
        .await;
    assert_eq!(
        other.root_map("istio-system"),
        world.secret(ROOT, "ca-cert.pem")
    );
    assert!(other.object(SECRETS, ROOT).is_null());
    citadel.stop().await;
}
