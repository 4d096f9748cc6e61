//! Properties of the injection of any Pod.

use super::{checked, config, names, request};
use proptest::prelude::*;
use serde_json::{Value, json};
use sidecar_injector::inject::{Refusal, inject};
use std::collections::BTreeMap;

fn arbitrary_pod() -> impl Strategy<Value = Value> {
    let text = "[ -~é\n\"{}]{0,12}";
    let container = (
        prop::sample::select(vec!["a", "b", "istio-proxy"]),
        prop::option::of(0..3usize),
        any::<bool>(),
        text,
    )
        .prop_map(|(name, probe, port, image)| {
            let mut container = json!({"name": name, "image": image});
            if port {
                container["ports"] = json!([{"name": "http", "containerPort": 8080}]);
            }
            if let Some(kind) = probe {
                let probe = [
                    json!({"httpGet": {"port": "http"}}),
                    json!({"tcpSocket": {"port": 9}}),
                    json!({"exec": {"command": ["x"]}}),
                ];
                container["livenessProbe"] = probe[kind].clone();
            }
            container
        });
    let annotation = prop_oneof![
        ("sidecar.istio.io/logLevel", "[ -~é]{0,12}"),
        ("sidecar.istio.io/nativeSidecar", "true|false"),
        ("sidecar.istio.io/interceptionMode", "TPROXY|REDIRECT|NONE"),
        ("sidecar.istio.io/proxyCPU", "1|50m"),
        ("status.sidecar.istio.io/port", "0|15020|7"),
        ("traffic.sidecar.istio.io/excludeInboundPorts", "|1|1, 2"),
        (
            "proxy.istio.io/config",
            "concurrency: [0-3]|holdApplicationUntilProxyStarts: true|proxyMetadata: \\{A: b\\}"
        ),
        ("prometheus.io/port", "[0-9]{1,3}"),
        ("prometheus.io/scrape", "true|false"),
        ("note", text),
    ];
    (
        prop::collection::vec(container, 1..4),
        prop::collection::vec(annotation, 0..6),
        prop::collection::btree_map("app|version|x", text, 0..3),
        any::<bool>(),
    )
        .prop_map(|(mut containers, annotations, labels, owned)| {
            let mut seen = Vec::new();
            containers.retain(|container| {
                let new = !seen.contains(&container["name"]);
                seen.push(container["name"].clone());
                new
            });
            let annotations: BTreeMap<_, _> = annotations.into_iter().collect();
            let mut pod = json!({"metadata": {"generateName": "p-", "labels": labels, "annotations": annotations},
                "spec": {"containers": containers}});
            if owned {
                pod["metadata"]["ownerReferences"] =
                    json!([{"kind": "Job", "apiVersion": "batch/v1", "name": "p", "controller": true}]);
            }
            pod
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_pod_injects_once(pod in arbitrary_pod()) {
        let alone = names(&pod, "containers") == ["istio-proxy"];
        let config = config();
        if alone && inject(&pod, &request(), &config).err() == Some(Refusal::NoApplication) {
            return Ok(());
        }
        checked(&pod, &config);
    }
}
