#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use istio_api::{
    collections::by_gvk,
    envoy::config::core::v3::Node,
    networking::v1alpha3::{self as api, server_tls_settings::TlSmode},
    object::{Meta, Object},
};
use pilot_model::{builder::Builder, credential::Credential, key::ObjectKey, mesh::Mesh};
use prost::Message;

use super::*;
use crate::class::group::KEEP_EMPTY;

fn sidecar(namespace: &str) -> Proxy {
    let node = Node {
        id: format!("sidecar~10.1.0.1~p.{namespace}~{namespace}.svc.cluster.local"),
        ..Node::default()
    };
    Proxy::parse(Some(&node)).unwrap()
}

#[test]
fn a_class_outlives_its_last_proxy_for_a_while() {
    let snapshot = Snapshot::default();
    let mut fleet = Fleet::default();
    let start = Instant::now();
    let first = fleet.connect(1, sidecar("a"), &snapshot, start);
    fleet.disconnect(1, start);
    let just_before = start + KEEP_EMPTY - std::time::Duration::from_millis(1);
    let again = fleet.connect(2, sidecar("a"), &snapshot, just_before);
    assert!(Arc::ptr_eq(&first.outbound, &again.outbound));
    fleet.follow(&snapshot, &Changes::default(), just_before + KEEP_EMPTY);
    assert_eq!(fleet.outbound.len(), 1, "it is not empty any more");
    fleet.disconnect(2, start);
    // Any other proxy that brings a new class makes room.
    fleet.connect(3, sidecar("b"), &snapshot, start + KEEP_EMPTY);
    let late = fleet.connect(4, sidecar("a"), &snapshot, start + KEEP_EMPTY);
    assert!(!Arc::ptr_eq(&first.outbound, &late.outbound));
}

#[test]
fn a_proxy_that_leaves_is_forgotten() {
    let snapshot = Snapshot::default();
    let mut fleet = Fleet::default();
    let mut gateway = sidecar("a");
    gateway.kind = ProxyType::Router;
    gateway.verified = Some(Account::new("a", "gateway"));
    fleet.connect(1, gateway.clone(), &snapshot, Instant::now());
    fleet.connect(2, gateway, &snapshot, Instant::now());
    fleet.disconnect(1, Instant::now());
    assert_eq!((fleet.len(), fleet.gateway_accounts().len()), (1, 1));
    fleet.disconnect(2, Instant::now());
    assert!(fleet.is_empty() && fleet.gateway_accounts().is_empty());
    assert!(fleet.by_address.is_empty() && fleet.by_account.is_empty());
}

/// Puts an object named "one" into namespace `a`; makes the next snapshot.
fn put(builder: &mut Builder, kind: &str, spec: &impl Message) -> (Arc<Snapshot>, Changes) {
    let collection = by_gvk("networking.istio.io", kind).unwrap();
    let object = Object {
        meta: Meta {
            namespace: "a".to_owned(),
            name: "one".to_owned(),
            ..Meta::default()
        },
        collection,
        body: spec.encode_to_vec().into(),
    };
    let key = ObjectKey::new("a", "one");
    builder.apply(collection, &key, Some(object)).unwrap();
    builder.publish()
}

/// Numbers of members of the classes of clients and of servers.
fn members(fleet: &Fleet) -> (Vec<usize>, Vec<usize>) {
    let outbound = fleet.outbound_classes().map(|(_, members)| members);
    let inbound = fleet.inbound_classes().map(|(_, members)| members);
    (outbound.collect(), inbound.collect())
}

#[test]
fn a_new_class_of_clients_makes_room() {
    let snapshot = Snapshot::default();
    let mut fleet = Fleet::default();
    let start = Instant::now();
    fleet.connect(1, sidecar("a"), &snapshot, start);
    fleet.connect(2, sidecar("b"), &snapshot, start);
    fleet.disconnect(2, start);
    // Another class of clients, which serves as the first proxy does.
    let mut elsewhere = sidecar("a");
    elsewhere.cluster_id = "two".into();
    fleet.connect(3, elsewhere, &snapshot, start + KEEP_EMPTY);
    assert_eq!((fleet.outbound.len(), fleet.inbound.len()), (2, 1));
}

#[test]
fn classes_have_numbers_of_their_own() {
    let snapshot = Snapshot::default();
    let mut fleet = Fleet::default();
    fleet.connect(1, sidecar("a"), &snapshot, Instant::now());
    fleet.connect(2, sidecar("b"), &snapshot, Instant::now());
    let known: Vec<ProxyId> = fleet.proxies().map(|(id, _)| id).collect();
    assert_eq!(
        (known, fleet.len(), fleet.is_empty()),
        (vec![1, 2], 2, false)
    );
    fleet.connect(3, sidecar("a"), &snapshot, Instant::now());
    assert_eq!(members(&fleet), (vec![2, 1], vec![2, 1]));
    let states = fleet.class_states();
    let ids: BTreeSet<ClassId> = states.iter().map(|state| state.id).collect();
    assert_eq!(ids.len(), 4);
    let member = fleet.get(2).unwrap().membership;
    assert!(ids.contains(&member.outbound) && ids.contains(&member.inbound.unwrap()));
}

#[test]
fn a_proxy_that_moves_leaves_its_classes() {
    let start = Instant::now();
    let mut builder = Builder::new(Mesh::default());
    let (snapshot, _) = builder.publish();
    let mut fleet = Fleet::default();
    fleet.connect(1, sidecar("a"), &snapshot, start);
    let before = fleet.get(1).unwrap().membership;
    let spec = api::Sidecar {
        egress: vec![api::IstioEgressListener {
            hosts: vec!["./*".to_owned()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let (snapshot, changes) = put(&mut builder, "Sidecar", &spec);
    assert_eq!(fleet.follow(&snapshot, &changes, start), [1].into());
    let after = fleet.get(1).unwrap().membership;
    assert!(before.outbound != after.outbound && before.inbound != after.inbound);
    assert_eq!(after.since, snapshot.version);
    assert_eq!(members(&fleet), (vec![0, 1], vec![0, 1]));
    fleet.follow(&snapshot, &Changes::default(), start + KEEP_EMPTY);
    assert_eq!(members(&fleet), (vec![1], vec![1]));
}

#[test]
fn secrets_that_are_newly_left_out_are_counted() {
    let now = Instant::now();
    let mut builder = Builder::new(Mesh::default());
    let server = |number: u32, credential: &str| api::Server {
        port: Some(api::Port {
            number,
            protocol: "HTTPS".to_owned(),
            name: credential.to_owned(),
            ..Default::default()
        }),
        hosts: vec!["*".to_owned()],
        tls: Some(api::ServerTlsSettings {
            mode: TlSmode::Simple.into(),
            credential_name: credential.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let spec = api::Gateway {
        servers: vec![server(443, "cert"), server(8443, "other")],
        ..Default::default()
    };
    let (snapshot, _) = put(&mut builder, "Gateway", &spec);
    let mut gateway = sidecar("a");
    gateway.kind = ProxyType::Router;
    let mut fleet = Fleet::default();
    fleet.connect(1, gateway.clone(), &snapshot, now);
    fleet.connect(2, gateway, &snapshot, now);
    assert_eq!(fleet.take_missing_secrets(), 2, "two secrets of one class");
    let mut set = |fleet: &mut Fleet, credential: Option<Credential>| {
        builder.set_credential(&ObjectKey::new("a", "cert"), credential);
        let (snapshot, changes) = builder.publish();
        fleet.follow(&snapshot, &changes, now);
        let made = fleet.class_states().into_iter().map(|state| state.made);
        assert_eq!(made.collect::<Vec<_>>(), [snapshot.version]);
        fleet.take_missing_secrets()
    };
    let credential = Credential {
        certificate: "certificate".into(),
        key: "key".into(),
        ..Credential::default()
    };
    assert_eq!(set(&mut fleet, Some(credential.clone())), 0);
    assert_eq!(
        set(&mut fleet, None),
        1,
        "the other one was left out before"
    );
    // Without a member nothing is asked for.
    set(&mut fleet, Some(credential));
    fleet.disconnect(1, now);
    fleet.disconnect(2, now);
    assert_eq!(set(&mut fleet, None), 0);
}
