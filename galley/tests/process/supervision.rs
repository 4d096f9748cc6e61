//! A task that fails takes the process with it.

use crate::harness::{World, sidecar};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_panics_ends_the_process() {
    let world = World::new();
    let (panic, panics) = tokio::sync::oneshot::channel::<()>();
    world.write("a.yaml", &sidecar("a", "1"));
    let server = world.bind(&[]).await;
    let galley = world
        .run(server.with_task(Box::pin(async move {
            panics.await.unwrap();
            panic!("on purpose")
        })))
        .await;
    let mut sink = world.sink(&galley);
    sink.label("sidecars shop/a", "1").await;
    panic.send(()).unwrap();
    assert_eq!(galley.failed().await, "task \"extra\" panicked: on purpose");
}
