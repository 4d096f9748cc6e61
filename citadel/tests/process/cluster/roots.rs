use serde_json::json;

use super::{LEASES, MAPS, NAMESPACES, ROLES, ROOT, World};
use crate::harness::Citadel;

async fn has_root(world: &World, namespaces: &[&str]) {
    let root = world.secret(ROOT, "ca-cert.pem");
    assert!(!root.is_empty());
    for namespace in namespaces {
        let what = format!("the root in {namespace}");
        world
            .until(&what, |_| world.root_map(namespace) == root)
            .await;
    }
}

fn holder(world: &World) -> serde_json::Value {
    let lease = world.object(LEASES, "istio-system/istio-namespace-controller-election");
    lease["spec"]["holderIdentity"].clone()
}

#[tokio::test]
async fn every_namespace_gets_the_root_and_keeps_it() {
    let world = World::new();
    for name in [
        "foo",
        "kube-system",
        "kube-public",
        "kube-node-lease",
        "local-path-storage",
    ] {
        world.namespace(name);
    }
    world.apply(
        NAMESPACES,
        json!({"metadata": {"name": "going"}, "status": {"phase": "Terminating"}}),
    );
    world.apply(
        MAPS,
        json!({
            "metadata": {"namespace": "foo", "name": "istio-ca-root-cert", "labels": {"a": "b"}},
            "data": {"root-cert.pem": "old", "mine": "1"},
        }),
    );
    let citadel = world.start(&[]).await;
    has_root(&world, &["foo", "istio-system", "kube-system"]).await;
    let foo = world.object(MAPS, "foo/istio-ca-root-cert");
    assert_eq!(foo["data"]["mine"], "1");
    assert_eq!(
        foo["metadata"]["labels"],
        json!({"a": "b", "istio.io/config": "true"})
    );

    // New namespaces, and ConfigMaps that somebody deletes or changes.
    world.namespace("new");
    has_root(&world, &["new"]).await;
    world.delete(MAPS, "new/istio-ca-root-cert");
    has_root(&world, &["new"]).await;
    let mut changed = world.object(MAPS, "new/istio-ca-root-cert");
    changed["data"]["root-cert.pem"] = "mine".into();
    world.apply(MAPS, changed);
    has_root(&world, &["new"]).await;
    for excluded in [
        "kube-public",
        "kube-node-lease",
        "local-path-storage",
        "going",
    ] {
        assert_eq!(world.root_map(excluded), "", "{excluded}");
    }
    // No unnecessary writes: one each, one that existed, two repairs, and one for 1.1.
    let maps = world
        .writes()
        .into_iter()
        .filter(|write| write.contains("/configmaps"));
    let mut maps: Vec<_> = maps.collect();
    maps.sort();
    let post = |namespace: &str| format!("POST /api/v1/namespaces/{namespace}/configmaps");
    let put = |namespace: &str| {
        format!("PUT /api/v1/namespaces/{namespace}/configmaps/istio-ca-root-cert")
    };
    let mut wanted = vec![
        post("istio-system"),
        post("istio-system"),
        post("kube-system"),
        post("new"),
        post("new"),
        put("foo"),
        put("new"),
    ];
    wanted.sort();
    assert_eq!(maps, wanted);
    let queries = world.requests(MAPS);
    assert!(
        queries
            .iter()
            .all(|query| query.contains("fieldSelector=metadata.name%3Distio-ca-root-cert")),
        "{queries:?}"
    );
    citadel.stop().await;
}

#[tokio::test]
async fn one_replica_writes_and_the_next_goes_on() {
    let world = World::new();
    let first = world.start(&[]).await;
    has_root(&world, &["istio-system"]).await;
    let leader = holder(&world);
    let second = world.start(&[]).await;
    world.namespace("foo");
    has_root(&world, &["foo"]).await;
    assert_eq!(holder(&world), leader);
    first.stop().await;
    world
        .until("another leader", |_| {
            !holder(&world).as_str().unwrap_or_default().is_empty() && holder(&world) != leader
        })
        .await;
    world.delete(MAPS, "foo/istio-ca-root-cert");
    world.namespace("bar");
    has_root(&world, &["foo", "bar"]).await;
    // Also when the watch misses the change.
    world.change_and_forget(NAMESPACES, |_| {});
    world.change_and_forget(MAPS, |changes| changes.delete("foo/istio-ca-root-cert"));
    has_root(&world, &["foo", "bar"]).await;
    second.stop().await;
}

#[tokio::test]
async fn the_map_of_1_1_has_the_root_too() {
    let world = World::new();
    world.apply(
        MAPS,
        json!({"metadata": {"namespace": "istio-system", "name": "istio-security"}}),
    );
    let citadel: Citadel = world.start(&["--root-cert-configmap=mesh-root"]).await;
    use base64::Engine;
    let root = world.secret(ROOT, "ca-cert.pem");
    let text = base64::engine::general_purpose::STANDARD.encode(&root);
    world
        .until("the ConfigMap", |world| {
            world.object(MAPS, "istio-system/istio-security")["data"]["caTLSRootCert"] == text
        })
        .await;
    world
        .until("the other root", |world| {
            world.object(MAPS, "istio-system/mesh-root")["data"]["root-cert.pem"] == root
        })
        .await;
    citadel.stop().await;
}

#[tokio::test]
async fn what_is_made_goes_with_its_owner() {
    let world = World::new();
    let role = |uid: &str| {
        let metadata = json!({"name": "istio-citadel", "uid": uid});
        world.apply(ROLES, json!({ "metadata": metadata }));
    };
    let owner = |path: &str, name: &str| world.object(path, name)["metadata"].clone();
    let owned_by = |uid: &str| {
        json!([{
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "name": "istio-citadel",
            "uid": uid,
        }])
    };
    // Nothing is created that would be left behind.
    let citadel = world.start(&["--owner-cluster-role=istio-citadel"]).await;
    let path = format!("{ROLES}/istio-citadel");
    world
        .until("two lookups of the owner", |world| world.gets(&path) > 1)
        .await;
    let made = world.writes().into_iter();
    let made: Vec<_> = made.filter(|write| !write.contains("/secrets")).collect();
    assert!(made.is_empty(), "{made:?}");

    role("one");
    has_root(&world, &["istio-system"]).await;
    for (path, name) in [
        (MAPS, "istio-system/istio-ca-root-cert"),
        (LEASES, "istio-system/istio-namespace-controller-election"),
    ] {
        let metadata = owner(path, name);
        assert_eq!(metadata["ownerReferences"], owned_by("one"), "{name}");
    }
    world
        .until("the ConfigMap of 1.1", |_| {
            owner(MAPS, "istio-system/istio-security")["ownerReferences"] == owned_by("one")
        })
        .await;

    // A recreated owner: Kubernetes deletes what the former one owned.
    role("two");
    world.delete(MAPS, "istio-system/istio-ca-root-cert");
    has_root(&world, &["istio-system"]).await;
    let metadata = owner(MAPS, "istio-system/istio-ca-root-cert");
    assert_eq!(metadata["ownerReferences"], owned_by("two"));
    citadel.stop().await;
}
