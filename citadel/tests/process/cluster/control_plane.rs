use mesh_core::spiffe::Identity;
use serde_json::json;

use super::{ACCOUNTS, SECRETS, World, put_secret};
use crate::harness::{der, verifies};

const GALLEY: &str = "istio-galley-service-account";
const SECRET: &str = "istio-system/istio.istio-galley-service-account";

async fn made(world: &World, what: &str, before: &str) -> String {
    world
        .until(what, |_| {
            let chain = world.secret(SECRET, "cert-chain.pem");
            !chain.is_empty() && chain != before
        })
        .await;
    world.secret(SECRET, "cert-chain.pem")
}

#[tokio::test]
async fn a_component_gets_its_certificate_when_its_account_is_there() {
    let world = World::new();
    world.account("istio-system", "istio-pilot-service-account");
    // An account of the same name in another namespace gets nothing.
    world.account("foo", GALLEY);
    let citadel = world.start(&[]).await;
    let pilot = "istio-system/istio.istio-pilot-service-account";
    world
        .until("pilot's", |world| !world.object(SECRETS, pilot).is_null())
        .await;
    assert!(world.object(SECRETS, SECRET).is_null());
    assert!(
        world
            .object(SECRETS, "foo/istio.istio-galley-service-account")
            .is_null()
    );

    // Its chart is installed later.
    world.account("istio-system", GALLEY);
    let chain = made(&world, "galley's", "").await;
    let secret = world.object(SECRETS, SECRET);
    assert_eq!(secret["type"], "istio.io/key-and-cert");
    assert_eq!(
        secret["metadata"]["ownerReferences"][0]["uid"],
        format!("uid-of-{GALLEY}")
    );
    let root = world.secret(SECRET, "root-cert.pem");
    assert_eq!(root, citadel.root_pem());
    assert!(verifies(&chain, "", &root));
    assert_eq!(
        Identity::from_certificate_der(&der(&chain))
            .unwrap()
            .to_string(),
        format!("spiffe://cluster.local/ns/istio-system/sa/{GALLEY}")
    );
    // The pair can be used by a server.
    let dir = tempfile::tempdir().unwrap();
    for key in ["cert-chain.pem", "key.pem", "root-cert.pem"] {
        std::fs::write(dir.path().join(key), world.secret(SECRET, key)).unwrap();
    }
    use mesh_common::tls::{CertFiles, ClientAuth, ReloadingServerConfig, ServerOptions};
    let files = CertFiles::in_dir(dir.path());
    ReloadingServerConfig::load(&files, ServerOptions::grpc(ClientAuth::Required)).unwrap();
    let written = "citadel_control_plane_cert_writes{component=\"galley\",result=\"success\"}";
    assert_eq!(citadel.metric(written).await, 1.0);
    citadel.stop().await;
}

#[tokio::test]
async fn a_secret_is_repaired_and_goes_with_its_account() {
    let world = World::new();
    world.account("istio-system", GALLEY);
    let citadel = world.start(&[]).await;
    let first = made(&world, "made", "").await;
    world.delete(SECRETS, SECRET);
    let second = made(&world, "made again", &first).await;
    let mut damaged = world.object(SECRETS, SECRET);
    put_secret(&mut damaged, "key.pem", "damaged");
    world.apply(SECRETS, damaged);
    made(&world, "repaired", &second).await;
    // It is not recreated without its account.
    world.delete(ACCOUNTS, &format!("istio-system/{GALLEY}"));
    world.account("istio-system", "istio-pilot-service-account");
    let pilot = "istio-system/istio.istio-pilot-service-account";
    world
        .until("pilot's", |world| !world.object(SECRETS, pilot).is_null())
        .await;
    world.delete(SECRETS, SECRET);
    world.delete(SECRETS, pilot);
    world
        .until("pilot's Secret again", |world| {
            !world.object(SECRETS, pilot).is_null()
        })
        .await;
    assert!(world.object(SECRETS, SECRET).is_null());
    citadel.stop().await;
}

#[tokio::test]
async fn a_certificate_is_renewed_at_half_of_its_life() {
    let world = World::new();
    world.account("istio-system", GALLEY);
    let citadel = world.start(&["--workload-cert-ttl=4s"]).await;
    let first = made(&world, "made", "").await;
    let second = made(&world, "renewed", &first).await;
    assert!(verifies(&second, "", &citadel.root_pem()));
    citadel.stop().await;
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_alone() {
    let world = World::new();
    let theirs = json!({
        "metadata": {"namespace": "istio-system", "name": "istio.istio-galley-service-account"},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": "eA=="},
    });
    world.apply(SECRETS, theirs);
    let before = world.object(SECRETS, SECRET);
    world.account("istio-system", GALLEY);
    world.account("istio-system", "istio-pilot-service-account");
    let citadel = world.start(&[]).await;
    let pilot = "istio-system/istio.istio-pilot-service-account";
    world
        .until("pilot's", |world| !world.object(SECRETS, pilot).is_null())
        .await;
    assert_eq!(world.object(SECRETS, SECRET), before);
    citadel.stop().await;
}

#[tokio::test]
async fn secrets_can_be_switched_off() {
    let world = World::new();
    world.account("istio-system", GALLEY);
    // Without Secrets the accounts are not needed.
    world.forbid(ACCOUNTS, true);
    let off = [
        "--control-plane-secrets=false",
        "--renewal-requires-service-account=false",
    ];
    let citadel = world.start(&off).await;
    world
        .until("roots", |_| !world.root_map("istio-system").is_empty())
        .await;
    assert!(world.requests(ACCOUNTS).is_empty());
    assert!(world.object(SECRETS, SECRET).is_null());
    citadel.stop().await;
}
