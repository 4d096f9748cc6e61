#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use istio_api::envoy::config::core::v3::Node;

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
