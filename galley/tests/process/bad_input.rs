//! Invalid input: one clear message, the last good state stays in force, everything else goes on.

use std::fs::File;
use std::os::unix::fs::symlink;

use crate::harness::{Galley, Sink, World, label, sidecar};

/// Galley with two files: the test breaks `a.yaml`, and `b.yaml` must keep working.
async fn start() -> (World, Galley, Sink) {
    let world = World::new();
    world.write("a.yaml", &sidecar("a", "1"));
    world.write("b.yaml", &sidecar("b", "1"));
    let galley = world.start().await;
    let mut sink = world.sink(&galley);
    sink.label("sidecars shop/b", "1").await;
    sink.label("sidecars shop/a", "1").await;
    (world, galley, sink)
}

/// `a` is unchanged, `b` can still be changed, and so can `a` once it is valid again.
async fn all_else_goes_on(world: &World, galley: &Galley, sink: &mut Sink) {
    world.write("b.yaml", &sidecar("b", "2"));
    sink.label("sidecars shop/b", "2").await;
    assert_eq!(label(&sink.state(), "sidecars shop/a"), Some("1"));
    world.replace("a.yaml", &sidecar("a", "2"));
    sink.label("sidecars shop/a", "2").await;
    galley.no_messages().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_syntax_error() {
    let (world, galley, mut sink) = start().await;
    world.write(
        "a.yaml",
        &sidecar("a", "2").replace("labels: {", "labels: {{"),
    );
    galley
        .message(&["a.yaml, document 1, line 6: ", "last good state"])
        .await;
    all_else_goes_on(&world, &galley, &mut sink).await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_type() {
    let (world, galley, mut sink) = start().await;
    world.write(
        "a.yaml",
        &sidecar("a", "2").replace(
            "spec: {outboundTrafficPolicy: {}}",
            "spec:\n  egress: all\n  outboundTrafficPolicy: {}",
        ),
    );
    galley
        .message(&[
            "a.yaml, document 1, line 8: Sidecar shop/a: spec.egress: ",
            "last good state",
        ])
        .await;
    all_else_goes_on(&world, &galley, &mut sink).await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_makes_no_sense() {
    let (world, galley, mut sink) = start().await;
    world.write(
        "a.yaml",
        &sidecar("a", "2").replace(
            "spec: {outboundTrafficPolicy: {}}",
            "spec:\n  egress:\n  - hosts: [everything]\n",
        ),
    );
    galley
        .message(&[
            "a.yaml, document 1, line 9: Sidecar shop/a: spec.egress[0].hosts[0]: ",
            "last good state",
        ])
        .await;
    all_else_goes_on(&world, &galley, &mut sink).await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_field_is_ignored_and_told() {
    let (world, galley, mut sink) = start().await;
    world.write(
        "a.yaml",
        &sidecar("a", "2").replace(
            "spec: {outboundTrafficPolicy: {}}",
            "spec:\n  egresss: all\n  outboundTrafficPolicy: {}",
        ),
    );
    galley
        .message(&[
            "a.yaml, document 1, line 8: Sidecar shop/a: spec.egresss: ",
            "is ignored",
        ])
        .await;
    sink.label("sidecars shop/a", "2").await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_to_a_missing_host() {
    let (world, galley, mut sink) = start().await;
    world.write(
        "r.yaml",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: r, namespace: \
         shop}\nspec:\n  hosts: [x]\n  http:\n  - route: [{destination: {host: nowhere}}]\n",
    );
    sink.until("the route", |state| {
        state.contains_key("virtualservices shop/r")
    })
    .await;
    galley
        .message(&["r.yaml, document 1, line 1: VirtualService shop/r: it routes to nowhere.shop"])
        .await;
    world.remove("r.yaml");
    all_else_goes_on(&world, &galley, &mut sink).await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_objects_of_the_same_name() {
    let (world, galley, mut sink) = start().await;
    world.write("c.yaml", &sidecar("a", "3"));
    galley
        .message(&[
            "c.yaml, document 1, line 1: Sidecar shop/a: ",
            "already defined in a.yaml",
        ])
        .await;
    world.write("b.yaml", &sidecar("b", "2"));
    sink.label("sidecars shop/b", "2").await;
    assert_eq!(label(&sink.state(), "sidecars shop/a"), Some("1"));
    world.remove("a.yaml");
    sink.label("sidecars shop/a", "3").await;
    galley.no_messages().await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_file() {
    let (world, galley, mut sink) = start().await;
    // Nobody can read a link to itself, not even root.
    world.remove("a.yaml");
    symlink("a.yaml", world.config().join("a.yaml")).unwrap();
    galley
        .message(&["a.yaml: the file cannot be read: ", "last good state"])
        .await;
    all_else_goes_on(&world, &galley, &mut sink).await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_text() {
    let (world, galley, mut sink) = start().await;
    std::fs::write(world.config().join("a.yaml"), [b'a', b':', 0xff]).unwrap();
    galley
        .message(&["a.yaml: the file is not UTF-8 text: byte 2"])
        .await;
    all_else_goes_on(&world, &galley, &mut sink).await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_50_megabytes() {
    let (world, galley, mut sink) = start().await;
    let file = File::create(world.path("large")).unwrap();
    file.set_len(50 << 20).unwrap();
    std::fs::rename(world.path("large"), world.config().join("a.yaml")).unwrap();
    galley
        .message(&["a.yaml: the file has 52428800 bytes, the limit is 16777216: split it"])
        .await;
    all_else_goes_on(&world, &galley, &mut sink).await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_bomb() {
    let (world, galley, mut sink) = start().await;
    let text = "y".repeat(100_000);
    let bomb = format!(
        "{}x: &x {text}\ny: [{}]\n",
        sidecar("a", "2"),
        vec!["*x"; 5000].join(",")
    );
    world.write("a.yaml", &bomb);
    galley
        .message(&["a.yaml, document 1, ", "aliases expand"])
        .await;
    all_else_goes_on(&world, &galley, &mut sink).await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_bad_files_serves_the_good_ones() {
    let world = World::new();
    world.write("a.yaml", "{");
    world.write(
        "b.yaml",
        &format!("{}---\n}}\n---\n{}", sidecar("b", "1"), sidecar("c", "1")),
    );
    let galley = world.start().await;
    let mut sink = world.sink(&galley);
    sink.until("the good ones", |state| state.len() == 2).await;
    assert_eq!(galley.messages().await.len(), 2);
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_the_directory() {
    let world = World::new();
    std::fs::remove_dir(world.config()).unwrap();
    let galley = world.start().await;
    let mut sink = world.sink(&galley);
    sink.until("empty", |state| state.is_empty()).await;
    galley.message(&["cannot be read: No such file"]).await;
    std::fs::create_dir(world.config()).unwrap();
    world.write("a.yaml", &sidecar("a", "1"));
    sink.label("sidecars shop/a", "1").await;
    galley.no_messages().await;
    galley.stop().await;
}
