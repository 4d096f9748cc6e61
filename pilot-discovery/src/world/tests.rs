#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod secrets;

use istio_api::envoy::config::core::v3::Node;
use pilot_model::{
    builder::Builder,
    class::classify,
    credential::{Account, SecretAccess},
    mesh::Mesh,
    proxy::{Proxy, ProxyType},
};

use pilot_model::{class::OutboundClass, snapshot::Snapshot};
use pilot_networking::class::{cache::Cache, dirt::Dirt, outbound::Outbound};

use pilot_networking::kind::Kind;

const CONFIG: &str = r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: open, namespace: a}
spec:
  hosts: [open.a.svc.cluster.local]
  addresses: [10.96.0.1]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 90, name: tcp, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1, labels: {version: v1}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: private, namespace: a}
spec:
  hosts: [private.a.svc.cluster.local]
  exportTo: ["."]
  ports: [{number: 91, name: tcp, protocol: TCP}, {number: 81, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.2}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: private, namespace: b}
spec:
  hosts: [private.b.svc.cluster.local]
  exportTo: ["."]
  ports: [{number: 82, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.3}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: open, namespace: a}
spec:
  hosts: [open.a.svc.cluster.local, nowhere.example]
  exportTo: ["."]
  http: [{route: [{destination: {host: open.a.svc.cluster.local, subset: v1}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: open, namespace: a}
spec:
  host: open.a.svc.cluster.local
  exportTo: ["."]
  subsets: [{name: v1, labels: {version: v1}}]
"#;

fn class(snapshot: &Snapshot, namespace: &str) -> OutboundClass {
    let node = Node {
        id: format!("sidecar~10.1.0.1~p.{namespace}~{namespace}.svc.cluster.local"),
        ..Node::default()
    };
    classify(snapshot, &Proxy::parse(Some(&node)).unwrap()).0
}

#[test]
fn a_forked_class_is_what_it_would_be_if_it_were_made_rebuilt() {
    let mut builder = Builder::new(Mesh::default());
    let (objects, _) = crate::config::dir::parse(CONFIG.as_bytes()).unwrap();
    for ((_, key), object) in objects {
        builder
            .apply(object.collection, &key, Some(object))
            .unwrap();
    }
    let (snapshot, _) = builder.publish();
    let classes = ["a", "b", "c"].map(|namespace| class(&snapshot, namespace));
    for from in &classes {
        let mut cache = Cache::default();
        let from = Outbound::new(&snapshot, from.clone(), &mut cache);
        for to in &classes {
            assert!(from.is_like(to));
            let forked = from.fork(&snapshot, to.clone(), &mut cache);
            let rebuilt = Outbound::new(&snapshot, to.clone(), &mut Cache::default());
            for kind in Kind::ALL {
                let (forked, rebuilt) = (forked.manifests(), rebuilt.manifests());
                assert_eq!(forked[kind], rebuilt[kind], "{kind:?}");
            }
            assert_eq!(forked.manifests().skipped, rebuilt.manifests().skipped);
        }
    }
    let other = OutboundClass {
        http10: true,
        ..classes[0].clone()
    };
    let from = Outbound::new(&snapshot, classes[1].clone(), &mut Cache::default());
    assert!(!from.is_like(&other));
}

#[test]
fn gateways_share_a_class_only_with_those_who_may_see_the_same() {
    let gateway = Proxy::parse(Some(&Node {
        id: "router~10.1.0.1~p.edge~edge.svc.cluster.local".into(),
        ..Node::default()
    }));
    let gateway = gateway.unwrap();
    let of = |namespace: &str, name: &str| Proxy {
        verified: Some(Account::new(namespace, name)),
        ..gateway.clone()
    };
    let (good, bad, new) = (of("edge", "good"), of("edge", "bad"), of("edge", "new"));
    let mut builder = Builder::new(Mesh::default());
    let (before, _) = builder.publish();
    // Without a cluster an account makes no difference.
    let class = |snapshot: &Snapshot, proxy: &Proxy| classify(snapshot, proxy).0;
    assert_eq!(class(&before, &good), class(&before, &gateway));
    builder.follow_cluster();
    builder.set_right(&Account::new("edge", "good"), Some(true));
    builder.set_right(&Account::new("edge", "bad"), Some(false));
    let (snapshot, _) = builder.publish();
    let all = [&good, &bad, &new, &gateway].map(|proxy| class(&snapshot, proxy));
    let access = all.each_ref().map(|class| class.secret_access);
    assert_eq!(
        access,
        [
            SecretAccess::All,
            SecretAccess::Roots,
            SecretAccess::Pending,
            SecretAccess::Unknown,
        ]
    );
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), 4);
    // A right in another namespace does not count in this one.
    builder.set_right(&Account::new("other", "good"), Some(true));
    let (snapshot, changes) = builder.publish();
    let foreign = class(&snapshot, &of("other", "good"));
    assert_eq!(foreign.secret_access, SecretAccess::Unknown);
    // A changed right moves gateways to other classes and rebuilds nothing.
    assert_eq!(changes.rights.len(), 1);
    let dirt = Dirt::of(&snapshot, &changes);
    assert!(!dirt.all && !dirt.gateways && dirt.credentials.is_empty());
    let sidecar = class(
        &snapshot,
        &Proxy {
            kind: ProxyType::Sidecar,
            ..good
        },
    );
    assert_eq!(sidecar.secret_access, SecretAccess::NoCluster);
}
