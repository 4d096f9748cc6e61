//! Faulty and hostile sinks: at most their own stream ends, others are still served, and metrics
//! show what happened.

use std::collections::BTreeMap;
use std::time::Duration;

use istio_api::google::rpc;
use istio_api::mcp::v1alpha1::RequestResources;
use mesh_common::grpc::health::health_client::HealthClient;
use mesh_common::grpc::health::{HealthCheckRequest, ServingStatus};
use mesh_core::mcp::source::{MAX_COLLECTIONS, MAX_NAME_BYTES};
use tonic::Code;

use crate::harness::{Galley, PATIENCE, Sink, World, label, sidecar};
use crate::transport::{SIDECARS, Stream, open, receive, subscribe};

/// Galley with a sink that must still be served.
async fn start() -> (World, Galley, Sink) {
    let world = World::new();
    world.write("a.yaml", &sidecar("a", "1"));
    let galley = world.start_with(&["--insecure"]).await;
    let mut honest = Sink::start(&galley.address.unwrap().to_string(), None);
    honest.label("sidecars shop/a", "1").await;
    (world, galley, honest)
}

/// A change reaches the honest sink.
async fn others_are_served(world: &World, honest: &mut Sink) {
    let next = match label(&honest.state(), "sidecars shop/a") {
        Some("2") => "3",
        _ => "2",
    };
    world.write("a.yaml", &sidecar("a", next));
    honest.label("sidecars shop/a", next).await;
}

/// Waits until the metrics have this line.
async fn metric(galley: &Galley, line: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (_, metrics) = galley.page("/metrics").await;
        if metrics.lines().any(|found| found == line) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{line}: {metrics}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn refusal(nonce: &str) -> RequestResources {
    RequestResources {
        response_nonce: nonce.to_owned(),
        error_detail: Some(rpc::Status {
            code: Code::InvalidArgument.into(),
            message: "never".to_owned(),
            details: Vec::new(),
        }),
        ..subscribe(SIDECARS)
    }
}

async fn end(stream: &mut Stream) -> tonic::Status {
    loop {
        match receive(stream).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a status"),
            Err(status) => return status,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_never_answers() {
    let (world, galley, mut honest) = start().await;
    let mut silent = open(&galley, None).await.unwrap();
    let first = receive(&mut silent).await.unwrap().unwrap();
    for _ in 0..3 {
        others_are_served(&world, &mut honest).await;
    }
    // Nothing more is sent until it answers: then the newest state, once.
    let ack = RequestResources {
        response_nonce: first.nonce,
        ..subscribe(SIDECARS)
    };
    silent.0.send(ack).await.unwrap();
    let second = receive(&mut silent).await.unwrap().unwrap();
    assert_eq!(second.nonce, "2");
    let labels = &second.resources[0].metadata.as_ref().unwrap().labels;
    assert_eq!(
        labels.get("v").map(String::as_str),
        label(&honest.state(), "sidecars shop/a")
    );
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_refuses_everything() {
    let (world, galley, mut honest) = start().await;
    let mut stream = open(&galley, None).await.unwrap();
    for round in 1..=3 {
        let sent = receive(&mut stream).await.unwrap().unwrap();
        assert_eq!(sent.nonce, round.to_string());
        stream.0.send(refusal(&sent.nonce)).await.unwrap();
        // It is stale by then: it is counted and has no other effect.
        stream.0.send(refusal(&sent.nonce)).await.unwrap();
        others_are_served(&world, &mut honest).await;
    }
    receive(&mut stream).await.unwrap().unwrap();
    let nacks = "galley_mcp_source_request_nacks_total{code=\"InvalidArgument\",\
                 collection=\"istio/networking/v1alpha3/sidecars\"} 6";
    metric(&galley, nacks).await;
    let (_, page) = galley.page("/connectionsj/").await;
    assert!(page.contains("\"nack\":\"never\""), "{page}");
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_lies_about_what_it_holds() {
    let (world, galley, mut honest) = start().await;
    let versions = [("shop/a", "forged"), ("shop/ghost", "1")];
    let lie = RequestResources {
        collection: SIDECARS.to_owned(),
        initial_resource_versions: versions
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .into(),
        incremental: true,
        ..RequestResources::default()
    };
    let mut stream = open(&galley, None).await.unwrap();
    receive(&mut stream).await.unwrap().unwrap();
    // Not the first request of this stream: the versions in it are ignored.
    stream.0.send(lie.clone()).await.unwrap();
    stream
        .0
        .send(RequestResources {
            response_nonce: "99".to_owned(),
            ..lie.clone()
        })
        .await
        .unwrap();
    others_are_served(&world, &mut honest).await;
    let sent = receive(&mut stream).await.unwrap().unwrap();
    assert_eq!((sent.resources.len(), sent.removed_resources.len()), (1, 0));
    // The first request of another stream: the versions in it are compared.
    let gateways = "istio/networking/v1alpha3/gateways";
    stream
        .0
        .send(RequestResources {
            collection: gateways.to_owned(),
            ..lie
        })
        .await
        .unwrap();
    let sent = receive(&mut stream).await.unwrap().unwrap();
    assert!(sent.incremental && sent.resources.is_empty());
    assert_eq!(sent.removed_resources, ["shop/a", "shop/ghost"]);
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_sends_10_megabytes() {
    let (world, galley, mut honest) = start().await;
    let mut stream = open(&galley, None).await.unwrap();
    receive(&mut stream).await.unwrap().unwrap();
    let large = RequestResources {
        initial_resource_versions: BTreeMap::from([("n".repeat(10 << 20), String::new())]),
        ..subscribe(SIDECARS)
    };
    stream.0.send(large).await.unwrap();
    let status = end(&mut stream).await;
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().contains("1048576"), "{status}");
    others_are_served(&world, &mut honest).await;
    let line = "galley_mcp_source_recv_failures_total{code=\"11\",error=\"OutOfRange\"} 1";
    metric(&galley, line).await;
    metric(&galley, "galley_mcp_source_clients_total 1").await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_asks_for_10000_unknown_collections() {
    let (world, galley, mut honest) = start().await;
    let mut stream = open(&galley, None).await.unwrap();
    let requests = stream.0.clone();
    let flood = tokio::spawn(async move {
        for i in 0..10_000 {
            if requests
                .send(subscribe(&format!("no/such/{i}")))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    let status = end(&mut stream).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    let message = format!("more than {MAX_COLLECTIONS} collections on one stream");
    assert_eq!(status.message(), message);
    drop(stream);
    flood.await.unwrap();
    others_are_served(&world, &mut honest).await;
    metric(
        &galley,
        "galley_mcp_source_refused_total{reason=\"request\"} 1",
    )
    .await;
    let (_, metrics) = galley.page("/metrics").await;
    let family = "galley_mcp_source_unknown_collections_total{";
    let series = metrics
        .lines()
        .filter(|line| line.starts_with(family))
        .count();
    assert!(series <= 51, "{series} series");

    let mut stream = open(&galley, None).await.unwrap();
    stream
        .0
        .send(subscribe(&"x".repeat(MAX_NAME_BYTES + 1)))
        .await
        .unwrap();
    let status = end(&mut stream).await;
    assert!(
        status.message().contains("has 257 bytes, the limit is 256"),
        "{status}"
    );
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_of_the_services() {
    let world = World::new();
    let galley = world.start_with(&["--insecure"]).await;
    let address = format!("http://{}", galley.address.unwrap());
    let mut client = HealthClient::connect(address).await.unwrap();
    let ask = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    for service in [
        "",
        "istio.mcp.v1alpha1.ResourceSource",
        "istio.mcp.v1alpha1.AggregatedMeshConfigService",
    ] {
        let mut states = client.watch(ask(service)).await.unwrap().into_inner();
        let wait = async {
            while states.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap();
        let state = client.check(ask(service)).await.unwrap().into_inner();
        assert_eq!(state.status(), ServingStatus::Serving);
    }
    let unknown = "istio.mcp.v1alpha1.ResourceSink";
    let refused = client.check(ask(unknown)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let mut states = client.watch(ask(unknown)).await.unwrap().into_inner();
    let state = states.message().await.unwrap().unwrap();
    assert_eq!(state.status(), ServingStatus::ServiceUnknown);
    // The open stream does not delay the shutdown.
    galley.stop().await;
}
