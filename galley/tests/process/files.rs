//! Changes on disk reach the sink.

use std::os::unix::fs::symlink;
use std::time::Instant;

use crate::harness::{World, label, sidecar};

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec:
  clusterIP: 10.96.0.7
  selector: {app: reviews}
  ports: [{name: http, port: 9080}]
";

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_files_reach_the_sink() {
    let world = World::new();
    world.write("a.yaml", &sidecar("a", "1"));
    world.write("deep/er/b.yml", &sidecar("b", "1"));
    world.write("notes.txt", "not: [configuration");
    let galley = world.start().await;
    let mut sink = world.sink(&galley);
    sink.until("first state", |state| state.len() == 2).await;
    assert_eq!(sink.given(), 2);

    // Written in place, replaced, deleted, in a new directory: one resource each.
    let start = Instant::now();
    world.write("a.yaml", &sidecar("a", "2"));
    sink.label("sidecars shop/a", "2").await;
    let in_place = start.elapsed();
    let start = Instant::now();
    world.replace("a.yaml", &sidecar("a", "3"));
    sink.label("sidecars shop/a", "3").await;
    println!(
        "written in place: {in_place:?}, replaced: {:?}",
        start.elapsed()
    );
    world.remove("deep/er/b.yml");
    sink.until("b is gone", |state| state.len() == 1).await;
    world.write(
        "new/c.json",
        &serde_json::to_string(&serde_json::json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
            "metadata": {"name": "c", "namespace": "shop", "labels": {"v": "1"}},
            "spec": {"outboundTrafficPolicy": {}},
        }))
        .unwrap(),
    );
    sink.label("sidecars shop/c", "1").await;
    assert_eq!(sink.given(), 6);

    // A whole directory is moved away and back.
    std::fs::rename(world.config().join("new"), world.path("aside")).unwrap();
    sink.until("c is gone", |state| state.len() == 1).await;
    std::fs::rename(world.path("aside"), world.config().join("newer")).unwrap();
    sink.label("sidecars shop/c", "1").await;
    assert!(galley.messages().await.is_empty());
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_objects_become_a_service_entry() {
    let world = World::new();
    world.write("service.yaml", SERVICE);
    let galley = world.start().await;
    let mut sink = world.sink(&galley);
    sink.until("the service", |state| {
        state.contains_key("synthetic shop/reviews")
    })
    .await;
    let given = sink.given();
    world.write(
        "pod.yaml",
        "
apiVersion: v1
kind: Pod
metadata: {name: reviews-1, namespace: shop, labels: {app: reviews}}
spec: {serviceAccountName: reviews}
status: {podIP: 10.1.0.5, phase: Running}
",
    );
    world.write(
        "endpoints.yaml",
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews-x, namespace: shop, labels: {kubernetes.io/service-name: reviews}}
ports: [{name: http, port: 9080}]
endpoints: [{addresses: [10.1.0.5], targetRef: {kind: Pod, name: reviews-1}}]
",
    );
    sink.until("the endpoint", |state| {
        let body = state["synthetic shop/reviews"].body.as_ref().unwrap();
        let entry: istio_api::networking::v1alpha3::ServiceEntry =
            prost::Message::decode(body.value.as_slice()).unwrap();
        entry
            .endpoints
            .first()
            .is_some_and(|endpoint| endpoint.service_account == "reviews")
    })
    .await;
    assert!(sink.given() <= given + 2);
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_volume_is_swapped_ten_times() {
    let world = World::new();
    let config = world.config();
    let fill = |generation: u32| {
        let dir = config.join(format!("..gen{generation}"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("a.yaml"), sidecar("a", &generation.to_string())).unwrap();
        let link = config.join("..data_tmp");
        symlink(format!("..gen{generation}"), &link).unwrap();
        std::fs::rename(&link, config.join("..data")).unwrap();
        if generation > 0 {
            std::fs::remove_dir_all(config.join(format!("..gen{}", generation - 1))).unwrap();
        }
    };
    fill(0);
    symlink("..data/a.yaml", config.join("a.yaml")).unwrap();
    let galley = world.start().await;
    let mut sink = world.sink(&galley);
    for generation in 0..10 {
        if generation > 0 {
            fill(generation);
        }
        sink.label("sidecars shop/a", &generation.to_string()).await;
        assert_eq!(sink.state().len(), 1);
    }
    assert!(galley.messages().await.is_empty());
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_disappears_and_comes_back() {
    let world = World::new();
    world.write("a.yaml", &sidecar("a", "1"));
    world.write("b.yaml", &sidecar("b", "1"));
    let galley = world.start().await;
    let mut sink = world.sink(&galley);
    sink.label("sidecars shop/b", "1").await;
    std::fs::rename(world.config(), world.path("away")).unwrap();
    let message = galley
        .message(&["config cannot be read", "stays in force"])
        .await;
    assert!(message.contains("No such file"), "{message}");
    assert_eq!(sink.state().len(), 2);
    std::fs::write(world.path("away/a.yaml"), sidecar("a", "2")).unwrap();
    std::fs::remove_file(world.path("away/b.yaml")).unwrap();
    std::fs::rename(world.path("away"), world.config()).unwrap();
    sink.until("the new state", |state| {
        state.len() == 1 && label(state, "sidecars shop/a") == Some("2")
    })
    .await;
    galley.no_messages().await;
    // It is watched again.
    world.write("a.yaml", &sidecar("a", "3"));
    sink.label("sidecars shop/a", "3").await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_published_together() {
    let world = World::new();
    let galley = world.start().await;
    let mut sink = world.sink(&galley);
    sink.until("nothing", |state| state.is_empty()).await;
    for i in 0..1000 {
        world.write(&format!("{i}.yaml"), &sidecar(&format!("s{i}"), "1"));
    }
    sink.until("all of them", |state| state.len() == 1000).await;
    let (_, metrics) = galley.page("/metrics").await;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("galley_runtime_processor_snapshots_published_total "))
        .unwrap();
    let published: usize = line.rsplit(' ').next().unwrap().parse().unwrap();
    println!("1000 files in {published} snapshots");
    assert!(published < 200, "{line}");
    assert!(metrics.contains("galley_runtime_state_type_instances_total{collection=\"istio/networking/v1alpha3/sidecars\"} 1000"));
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_file_and_a_linked_root_are_sources_too() {
    let world = World::new();
    world.write("a.yaml", &sidecar("a", "1"));
    let file = format!("--configPath={}", world.config().join("a.yaml").display());
    let galley = world.start_with(&[&file]).await;
    let mut sink = world.sink(&galley);
    sink.label("sidecars shop/a", "1").await;
    world.write("a.yaml", &sidecar("a", "2"));
    sink.label("sidecars shop/a", "2").await;
    galley.stop().await;

    symlink(world.config(), world.path("link")).unwrap();
    let link = format!("--configPath={}", world.path("link").display());
    let galley = world.start_with(&[&link]).await;
    let mut sink = world.sink(&galley);
    sink.label("sidecars shop/a", "2").await;
    world.write("a.yaml", &sidecar("a", "3"));
    sink.label("sidecars shop/a", "3").await;
    galley.stop().await;
}
