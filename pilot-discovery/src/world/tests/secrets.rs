//! Secrets of the directory and the cluster that gateways receive.

use pilot_networking::kind::Kind;
use std::{sync::Arc, time::Instant};

use istio_api::envoy::config::core::v3::Node;
use pilot_model::{
    builder::Builder,
    credential::{Account, Credential},
    key::ObjectKey,
    mesh::Mesh,
    proxy::Proxy,
};

use pilot_networking::class::fleet::Fleet;

const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: shop, namespace: apps}
spec:
  selector: {app: gateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [shop.test]
    tls: {mode: MUTUAL, credentialName: shop}
";
const PAIR: &str = "kubernetes://shop";
const ROOTS: &str = "kubernetes://shop-cacert";

/// The writer's steps, for one gateway.
struct Mutual {
    builder: Builder,
    fleet: Fleet,
    proxy: Proxy,
}

impl Mutual {
    fn new(account: Option<Account>) -> Self {
        let mut builder = Builder::new(Mesh::default());
        let (objects, _) = crate::config::dir::parse(GATEWAY.as_bytes()).unwrap();
        for ((_, key), object) in objects {
            let collection = object.collection;
            builder.apply(collection, &key, Some(object)).unwrap();
        }
        builder.follow_cluster();
        let node = Node {
            id: "router~10.1.0.1~p.edge~edge.svc.cluster.local".into(),
            ..Node::default()
        };
        let mut proxy = Proxy::parse(Some(&node)).unwrap();
        proxy.labels = Arc::new([("app".to_owned(), "gateway".to_owned())].into());
        proxy.verified = account;
        Self {
            builder,
            fleet: Fleet::default(),
            proxy,
        }
    }

    /// The Secrets that it receives, the reasons for missing ones, and how many of them are new.
    fn sent(&mut self) -> (Vec<String>, String, u64) {
        let (snapshot, changes) = self.builder.publish();
        self.fleet.follow(&snapshot, &changes, Instant::now());
        if self.fleet.is_empty() {
            let proxy = self.proxy.clone();
            self.fleet.connect(1, proxy, &snapshot, Instant::now());
        }
        let manifests = self.fleet.sides(1).unwrap().outbound;
        let names = manifests[Kind::Secret].keys().map(|name| name.to_string());
        let said = manifests.skipped.values().flat_map(|list| list.iter());
        let said: Vec<_> = said.map(|skipped| &*skipped.reason).collect();
        let count = self.fleet.take_missing_secrets();
        (names.collect(), said.join("; "), count)
    }

    fn body(&mut self, name: &str) -> Vec<u8> {
        let manifests = self.fleet.sides(1).unwrap().outbound;
        manifests[Kind::Secret][name].body.to_vec()
    }
}

fn credential(text: &'static str) -> Option<Credential> {
    Some(Credential {
        certificate: text.into(),
        key: "key".into(),
        ca: "roots".into(),
        crl: "revoked".into(),
        staple: "stapled".into(),
        ..Credential::default()
    })
}

#[test]
fn rights_decide_what_is_sent_of_the_cluster() {
    let account = Account::new("edge", "gateway");
    let mut mutual = Mutual::new(Some(account.clone()));
    let shop = ObjectKey::new("edge", "shop");
    // While nothing is known, nothing is reported.
    assert_eq!(mutual.sent(), (vec![], String::new(), 0));
    mutual
        .builder
        .set_cluster_credential(&shop, credential("one"));
    let elsewhere = ObjectKey::new("apps", "shop");
    mutual
        .builder
        .set_cluster_credential(&elsewhere, credential("other"));
    let roots = vec![ROOTS.to_owned()];
    assert_eq!(mutual.sent(), (roots.clone(), String::new(), 0));
    mutual.builder.set_right(&account, Some(false));
    let (names, said, count) = mutual.sent();
    assert_eq!((names, count), (roots, 1));
    assert!(said.contains("may not list Secrets"), "{said}");
    mutual.builder.set_right(&account, Some(true));
    let both = vec![PAIR.to_owned(), ROOTS.to_owned()];
    assert_eq!(mutual.sent(), (both.clone(), String::new(), 0));
    let has = |body: &[u8], text: &str| String::from_utf8_lossy(body).contains(text);
    let (pair, roots) = (mutual.body(PAIR), mutual.body(ROOTS));
    assert!(has(&pair, "one") && has(&pair, "stapled") && !has(&pair, "roots"));
    assert!(has(&roots, "roots") && has(&roots, "revoked") && !has(&roots, "key"));
    // An invalid Secret changes only the report, once per name.
    mutual.builder.set_cluster_fault(&shop, "no PEM");
    let (names, said, count) = mutual.sent();
    assert_eq!((names, count), (both, 2));
    assert!(said.contains("no PEM"), "{said}");
    assert_eq!(mutual.body(PAIR), pair);
    assert_eq!(mutual.sent().2, 0);
    // The namespace is no longer followed.
    mutual.builder.forget_cluster_credentials("edge");
    let (names, said, _) = mutual.sent();
    assert!(names.is_empty() && said.contains("no secret"), "{said}");
    let (snapshot, _) = mutual.builder.publish();
    let left = snapshot.cluster_secrets.credentials.keys();
    assert_eq!(left.collect::<Vec<_>>(), [&elsewhere]);
}

#[test]
fn the_directory_is_for_all_of_a_namespace_and_comes_first() {
    let shop = ObjectKey::new("edge", "shop");
    let mut mutual = Mutual::new(None);
    mutual
        .builder
        .set_cluster_credential(&shop, credential("cluster"));
    let (names, said, count) = mutual.sent();
    assert_eq!((names.len(), count), (0, 2));
    assert!(said.contains("without a certificate of the mesh"), "{said}");
    mutual
        .builder
        .set_credential(&shop, credential("directory"));
    assert_eq!(mutual.sent().0, [PAIR, ROOTS]);
    let account = Account::new("edge", "gateway");
    let mut mutual = Mutual::new(Some(account.clone()));
    mutual.builder.set_right(&account, Some(true));
    mutual
        .builder
        .set_cluster_credential(&shop, credential("cluster"));
    mutual
        .builder
        .set_credential(&shop, credential("directory"));
    assert_eq!(mutual.sent().0, [PAIR, ROOTS]);
    let body = mutual.body(PAIR);
    assert!(String::from_utf8_lossy(&body).contains("directory"));
}
