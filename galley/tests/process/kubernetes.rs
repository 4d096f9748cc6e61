//! Changes in a cluster reach the sink.

use serde_json::{Value, json};

use crate::cluster::{Cluster, DEFINITIONS, SIDECARS};
use crate::harness::{Galley, PATIENCE, Sink, State, World, label};

const PODS: &str = "/api/v1/pods";
const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const GATEWAYS: &str = "/apis/networking.istio.io/v1/gateways";

/// A Sidecar with a label `v`, as a list has it: without apiVersion and kind.
fn sidecar(name: &str, value: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"v": value}},
        "spec": {"outboundTrafficPolicy": {}},
    })
}

fn gateway(name: &str, value: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"v": value}},
        "spec": {
            "selector": {"istio": "ingressgateway"},
            "servers": [{
                "port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"],
            }],
        },
    })
}

/// An invalid object.
fn bad_sidecar(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name},
        "spec": {"outboundTrafficPolicy": {"mode": 17}, "ingress": "none"},
    })
}

async fn start(world: &World, cluster: &Cluster) -> Galley {
    let flags = cluster.flags(world);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    world.start_with(&flags).await
}

async fn metric(galley: &Galley, name: &str) -> String {
    let (_, page) = galley.page("/metrics").await;
    let mut lines = page.lines().filter_map(|line| line.strip_prefix(name));
    let value = lines.next().unwrap_or_else(|| panic!("{name}: {page}"));
    value.trim().to_owned()
}

/// Waits until a metric has a value.
async fn measured(galley: &Galley, name: &str, wanted: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let value = metric(galley, name).await;
        if value == wanted {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{name} is {value}, want {wanted}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Waits until this is reported, and nothing else.
async fn is_unreachable(galley: &Galley) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let messages = galley.messages().await;
        let is_told = |message: &String| {
            message.contains("the API server cannot be reached")
                && message.contains("stays in force")
        };
        if !messages.is_empty() && messages.iter().all(is_told) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{messages:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn has(sink: &mut Sink, names: &[&str]) {
    let mut names: Vec<_> = names
        .iter()
        .map(|name| format!("sidecars shop/{name}"))
        .collect();
    names.sort();
    sink.until(&format!("{names:?}"), |state| state.keys().eq(&names))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_several_pages_is_followed_by_events() {
    let (world, cluster) = (World::new(), Cluster::start());
    for i in 0..1200 {
        cluster.apply(SIDECARS, sidecar(&format!("s{i}"), "1"));
    }
    // The first list is interrupted.
    cluster.forget_next_page();
    let galley = start(&world, &cluster).await;
    let mut sink = world.sink(&galley);
    sink.until("all of them", |state| state.len() == 1200).await;
    assert_eq!(sink.given(), 1200);
    let lists = cluster.requests(SIDECARS);
    let lists = lists.iter().filter(|query| query.contains("limit=500"));
    assert_eq!(lists.count(), 5);

    cluster.apply(SIDECARS, sidecar("new", "1"));
    sink.label("sidecars shop/new", "1").await;
    cluster.apply(SIDECARS, sidecar("s7", "2"));
    sink.label("sidecars shop/s7", "2").await;
    cluster.delete(SIDECARS, "shop/s8");
    sink.until("s8 is gone", |state| state.len() == 1200).await;
    assert_eq!(sink.given(), 1203);

    // Changes without effect cause no update; a change after them does.
    let mut same = sidecar("s7", "2");
    same["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
    same["metadata"]["generation"] = 2.into();
    same["status"] = json!({"conditions": []});
    cluster.apply(SIDECARS, same);
    cluster.apply(SIDECARS, sidecar("s9", "2"));
    sink.label("sidecars shop/s9", "2").await;
    assert_eq!(sink.given(), 1204);
    assert!(galley.messages().await.is_empty());
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_ends_goes_on_after_the_last_bookmark() {
    let (world, cluster) = (World::new(), Cluster::start());
    cluster.apply(SIDECARS, sidecar("a", "1"));
    let galley = start(&world, &cluster).await;
    let mut sink = world.sink(&galley);
    has(&mut sink, &["a"]).await;
    cluster.watched(SIDECARS, &[]).await;
    let version = cluster.bookmark(SIDECARS);
    cluster.end_watches();
    cluster
        .watched(SIDECARS, &[&format!("resourceVersion={version}")])
        .await;
    cluster.apply(SIDECARS, sidecar("a", "3"));
    sink.label("sidecars shop/a", "3").await;
    let requests = cluster.requests(SIDECARS);
    let lists = requests.iter().filter(|query| query.contains("limit="));
    assert_eq!(lists.count(), 1, "{requests:#?}");
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forgotten_versions_are_listed_again_and_the_difference_is_sent() {
    let (world, cluster) = (World::new(), Cluster::start());
    for name in ["a", "b", "c"] {
        cluster.apply(SIDECARS, sidecar(name, "1"));
    }
    let galley = start(&world, &cluster).await;
    let mut sink = world.sink(&galley);
    has(&mut sink, &["a", "b", "c"]).await;
    cluster.watched(SIDECARS, &[]).await;
    let given = sink.given();
    cluster.change_and_forget(SIDECARS, |changes| {
        changes.apply(sidecar("b", "2"));
        changes.delete("shop/c");
        changes.apply(sidecar("d", "1"));
    });
    has(&mut sink, &["a", "b", "d"]).await;
    sink.label("sidecars shop/b", "2").await;
    assert_eq!(sink.given(), given + 3);
    // It is watched again.
    cluster.apply(SIDECARS, sidecar("d", "2"));
    sink.label("sidecars shop/d", "2").await;
    assert!(galley.messages().await.is_empty());
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_stays_while_the_server_is_away() {
    let (world, mut cluster) = (World::new(), Cluster::start());
    for name in ["a", "b"] {
        cluster.apply(SIDECARS, sidecar(name, "1"));
    }
    let galley = start(&world, &cluster).await;
    let mut sink = world.sink(&galley);
    has(&mut sink, &["a", "b"]).await;
    let given = sink.given();
    cluster.down().await;
    is_unreachable(&galley).await;
    assert!(galley.page("/ready").await.0.contains("200"));
    assert_eq!(sink.state().len(), 2);
    cluster.change_and_forget(SIDECARS, |changes| {
        changes.delete("shop/a");
        changes.apply(sidecar("b", "2"));
        changes.apply(sidecar("c", "1"));
    });
    cluster.up().await;
    has(&mut sink, &["b", "c"]).await;
    sink.label("sidecars shop/b", "2").await;
    assert_eq!(sink.given(), given + 3);
    galley.no_messages().await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_at_the_start_is_waited_for() {
    let (world, mut cluster) = (World::new(), Cluster::start());
    cluster.apply(SIDECARS, sidecar("a", "1"));
    cluster.down().await;
    let galley = start(&world, &cluster).await;
    is_unreachable(&galley).await;
    assert!(galley.page("/ready").await.0.contains("503"));
    cluster.up().await;
    let mut sink = world.sink(&galley);
    has(&mut sink, &["a"]).await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_comes_and_goes() {
    const MISSING: &str = "galley_source_kube_missing_types ";
    let (world, cluster) = (World::new(), Cluster::start());
    cluster.apply(SIDECARS, sidecar("a", "1"));
    let galley = start(&world, &cluster).await;
    let mut sink = world.sink(&galley);
    has(&mut sink, &["a"]).await;
    let all = istio_api::collections::COLLECTIONS.len();
    measured(&galley, MISSING, &(all - 1).to_string()).await;
    assert!(galley.messages().await.is_empty());

    cluster.apply(GATEWAYS, gateway("g", "1"));
    cluster.define("Gateway", "gateways");
    sink.label("gateways shop/g", "1").await;
    measured(&galley, MISSING, &(all - 2).to_string()).await;
    cluster.apply(GATEWAYS, gateway("g", "2"));
    sink.label("gateways shop/g", "2").await;

    cluster.delete(DEFINITIONS, "gateways.networking.istio.io");
    has(&mut sink, &["a"]).await;
    measured(&galley, MISSING, &(all - 1).to_string()).await;

    // The same once more.
    cluster.define("Gateway", "gateways");
    sink.label("gateways shop/g", "2").await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_of_a_kind_is_read_in_its_place() {
    const OLD: &str = "/apis/networking.istio.io/v1alpha3/gateways";
    let (world, cluster) = (World::new(), Cluster::start());
    for name in ["gone", "stays"] {
        cluster.apply(OLD, gateway(name, "1"));
    }
    cluster.apply(GATEWAYS, gateway("stays", "1"));
    cluster.apply(GATEWAYS, gateway("new", "1"));
    cluster.define_version("Gateway", "gateways", "v1alpha3");
    let galley = start(&world, &cluster).await;
    let mut sink = world.sink(&galley);
    let are = |names: [&'static str; 2]| {
        move |state: &State| {
            state
                .keys()
                .eq(names.map(|name| format!("gateways shop/{name}")).iter())
        }
    };
    sink.until("the old ones", are(["gone", "stays"])).await;
    let given = sink.given();
    cluster.define("Gateway", "gateways");
    sink.until("the new ones", are(["new", "stays"])).await;
    // The object that is in both is not sent again.
    assert_eq!(sink.given(), given + 2);
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_is_forbidden_holds_up_nothing() {
    let (world, cluster) = (World::new(), Cluster::start());
    cluster.apply(SIDECARS, sidecar("a", "1"));
    cluster.apply(
        SERVICES,
        json!({
            "metadata": {"name": "reviews", "namespace": "shop"},
            "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 9080}]},
        }),
    );
    cluster.forbid(SERVICES, true);
    let galley = start(&world, &cluster).await;
    let mut sink = world.sink(&galley);
    has(&mut sink, &["a"]).await;
    let message = galley.message(&["services: ", "(403)"]).await;
    assert!(message.contains("needs get, list and watch"), "{message}");
    let errors = "galley_source_kube_event_error_total{error=\"forbidden\"} ";
    assert_ne!(metric(&galley, errors).await, "0");
    cluster.forbid(SERVICES, false);
    sink.until("the service", |state| {
        state.contains_key("synthetic shop/reviews")
    })
    .await;
    galley.no_messages().await;
    // What was read before stays when access is denied later.
    cluster.forbid(SERVICES, true);
    cluster.end_watches();
    galley.message(&["services: ", "(403)"]).await;
    assert!(sink.state().contains_key("synthetic shop/reviews"));
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_that_are_forbidden_hold_up_nothing_else() {
    let (world, cluster) = (World::new(), Cluster::start());
    cluster.apply(SIDECARS, sidecar("a", "1"));
    cluster.forbid(DEFINITIONS, true);
    let galley = start(&world, &cluster).await;
    let mut sink = world.sink(&galley);
    has(&mut sink, &[]).await;
    galley
        .message(&["customresourcedefinitions", "(403)"])
        .await;
    cluster.forbid(DEFINITIONS, false);
    has(&mut sink, &["a"]).await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_objects_harm_nobody_else() {
    const FAILED: &str = "galley_source_kube_dynamic_converter_failure_total{apiVersion=\"v1\",group=\"networking.istio.io\",kind=\"Sidecar\"} ";
    let (world, cluster) = (World::new(), Cluster::start());
    cluster.apply(SIDECARS, bad_sidecar("bad"));
    cluster.apply(SIDECARS, sidecar("good", "1"));
    let galley = start(&world, &cluster).await;
    let mut sink = world.sink(&galley);
    has(&mut sink, &["good"]).await;
    let (_, page) = galley.page("/debug/sources").await;
    let page: Value = serde_json::from_str(&page).unwrap();
    let file = &page["files"]["networking.istio.io/sidecars/shop/bad"];
    assert_eq!(file["problems"][0]["object"], "Sidecar shop/bad", "{page}");
    assert_eq!(metric(&galley, FAILED).await, "1");

    // An invalid update keeps the former state; a valid one is applied.
    cluster.delete(SIDECARS, "shop/bad");
    galley.no_messages().await;
    cluster.apply(SIDECARS, bad_sidecar("good"));
    galley
        .message(&["Sidecar shop/good", "last good state"])
        .await;
    assert_eq!(label(&sink.state(), "sidecars shop/good"), Some("1"));
    cluster.apply(SIDECARS, sidecar("good", "2"));
    sink.label("sidecars shop/good", "2").await;
    galley.no_messages().await;

    // An invalid object can be deleted.
    cluster.apply(SIDECARS, bad_sidecar("good"));
    galley.message(&["Sidecar shop/good"]).await;
    cluster.delete(SIDECARS, "shop/good");
    has(&mut sink, &[]).await;
    galley.no_messages().await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_of_a_cluster_become_service_entries() {
    let (world, cluster) = (World::new(), Cluster::start());
    let metadata = |name: &str| json!({"name": name, "namespace": "shop"});
    cluster.apply(
        SERVICES,
        json!({"metadata": metadata("reviews"), "spec": {
            "clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 9080}],
        }}),
    );
    let mut slice = metadata("reviews-x");
    slice["labels"] = json!({"kubernetes.io/service-name": "reviews"});
    cluster.apply(
        SLICES,
        json!({"metadata": slice, "ports": [{"name": "http", "port": 9080}], "endpoints": [
            {"addresses": ["10.1.0.5"], "targetRef": {"kind": "Pod", "name": "reviews-1"}},
        ]}),
    );
    cluster.apply(
        PODS,
        json!({"metadata": metadata("reviews-1"), "spec": {"serviceAccountName": "reviews"},
               "status": {"podIP": "10.1.0.5", "phase": "Running"}}),
    );
    let [files, kubeconfig] = cluster.flags(&world);
    let excluded = "--excludedResourceKinds=Endpoints,Node";
    let galley = world.start_with(&[&files, &kubeconfig, excluded]).await;
    let mut sink = world.sink(&galley);
    sink.until("the endpoint", |state| {
        let body = state
            .get("synthetic shop/reviews")
            .and_then(|resource| resource.body.as_ref());
        body.is_some_and(|body| {
            let entry: istio_api::networking::v1alpha3::ServiceEntry =
                prost::Message::decode(body.value.as_slice()).unwrap();
            let endpoint = entry.endpoints.first();
            endpoint.is_some_and(|endpoint| endpoint.service_account == "reviews")
        })
    })
    .await;
    for path in ["/api/v1/endpoints", "/api/v1/nodes"] {
        assert_eq!(cluster.requests(path), [""; 0]);
    }
    galley.stop().await;
}
