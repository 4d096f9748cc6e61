//! Who may connect, how streams end, and what is sent again.

use std::collections::BTreeMap;
use std::time::Duration;

use istio_api::mcp::v1alpha1::{RequestResources, Resources};
use mesh_common::grpc::mcp::resource_source_client::ResourceSourceClient;
use mesh_common::mcp::sink::{Connect, Dial};
use mesh_common::testing::Authority;
use mesh_common::tls::{ClientFiles, ReloadingClientConfig, Verify};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::harness::{Galley, PATIENCE, PILOT, SERVER_NAME, Sink, World, sidecar};

pub(crate) const SIDECARS: &str = "istio/networking/v1alpha3/sidecars";

pub(crate) type Stream = (mpsc::Sender<RequestResources>, Streaming<Resources>);

/// Opens a stream by hand and subscribes to one collection.
pub(crate) async fn open(
    galley: &Galley,
    tls: Option<ReloadingClientConfig>,
) -> Result<Stream, Status> {
    let address = galley.address.unwrap().to_string();
    let dial = Dial::new(&address, tls, Some(SERVER_NAME.to_owned())).unwrap();
    let channel = dial.connect(Duration::from_secs(30)).await.unwrap();
    let (tx, rx) = mpsc::channel(4);
    tx.send(subscribe(SIDECARS)).await.unwrap();
    let mut client = ResourceSourceClient::new(channel);
    let stream = client.establish_resource_stream(ReceiverStream::new(rx));
    let response = tokio::time::timeout(PATIENCE, stream).await.unwrap()?;
    Ok((tx, response.into_inner()))
}

pub(crate) fn subscribe(collection: &str) -> RequestResources {
    RequestResources {
        collection: collection.to_owned(),
        ..RequestResources::default()
    }
}

pub(crate) async fn receive(stream: &mut Stream) -> Result<Option<Resources>, Status> {
    tokio::time::timeout(PATIENCE, stream.1.message())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_identities_may_connect() {
    let world = World::new();
    std::fs::write(
        world.path("accesslist.yaml"),
        format!("allowed:\n- {PILOT}\n"),
    )
    .unwrap();
    let galley = world.start().await;
    let mut stream = open(&galley, Some(world.client(PILOT))).await.unwrap();
    assert!(receive(&mut stream).await.unwrap().is_some());

    let stranger = "spiffe://cluster.local/ns/shop/sa/stranger";
    let refused = open(&galley, Some(world.client(stranger)))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(
        refused.message(),
        "Authentication failure: no allowed identity found in peer's authentication info"
    );
    let (_, metrics) = galley.page("/metrics").await;
    assert!(metrics.contains("galley_mcp_source_refused_total{reason=\"identity\"} 1"));

    // The list is followed; an invalid or missing file changes nothing.
    std::fs::write(
        world.path("accesslist.yaml"),
        format!("allowed:\n- {stranger}\n"),
    )
    .unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while open(&galley, Some(world.client(stranger))).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(open(&galley, Some(world.client(PILOT))).await.is_err());
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_or_missing_certificate_ends_in_the_handshake() {
    let world = World::new();
    let galley = world.start().await;
    let dir = tempfile::tempdir().unwrap();
    let foreign = Authority::new("foreign")
        .issue(&[PILOT], &[])
        .write(dir.path());
    // It trusts the server, but the server does not trust it.
    std::fs::write(&foreign.root, world.authority.root()).unwrap();
    let foreign = ReloadingClientConfig::load(ClientFiles::from(foreign), Verify::Dns).unwrap();
    let bare = ClientFiles {
        root: world.path("certs/root-cert.pem"),
        pair: None,
    };
    let bare = ReloadingClientConfig::load(bare, Verify::Dns).unwrap();
    for tls in [Some(foreign), Some(bare), None] {
        let mut outcome = open(&galley, tls).await;
        if let Ok(stream) = &mut outcome {
            assert!(receive(stream).await.is_err());
        }
    }
    assert!(open(&galley, Some(world.client(PILOT))).await.is_ok());
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_served_to_new_connections() {
    let mut world = World::new();
    world.write("a.yaml", &sidecar("a", "1"));
    let galley = world.start().await;
    let mut held = open(&galley, Some(world.client(PILOT))).await.unwrap();
    receive(&mut held).await.unwrap();
    world.authority = Authority::new("next");
    world.issue_server();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while open(&galley, Some(world.client(PILOT))).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The earlier stream goes on.
    let ack = RequestResources {
        response_nonce: "1".to_owned(),
        ..subscribe(SIDECARS)
    };
    held.0.send(ack).await.unwrap();
    world.write("a.yaml", &sidecar("a", "2"));
    assert_eq!(receive(&mut held).await.unwrap().unwrap().nonce, "2");
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_process_ends_streams_as_unavailable() {
    let world = World::new();
    let galley = world.start().await;
    let mut stream = open(&galley, Some(world.client(PILOT))).await.unwrap();
    receive(&mut stream).await.unwrap();
    let stopping = tokio::spawn(galley.stop());
    let status = receive(&mut stream).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    drop(stream);
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_again_after_a_restart() {
    let world = World::new();
    for i in 0..20 {
        world.write(&format!("{i}.yaml"), &sidecar(&format!("s{i}"), "1"));
    }
    // No other test can create a socket of this name between the end and the start.
    let address = format!("unix://{}", world.path("galley.sock").display());
    let flags = ["--insecure", &format!("--server-address={address}")];
    let galley = world.start_with(&flags).await;
    let mut sink = Sink::start(&address, None);
    sink.until("all", |state| state.len() == 20).await;
    assert_eq!(sink.given(), 20);
    galley.stop().await;
    world.write("3.yaml", &sidecar("s3", "2"));
    let galley = world.start_with(&flags).await;
    sink.label("sidecars shop/s3", "2").await;
    assert_eq!(sink.given(), 21);
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_1_1_sink_is_answered_as_by_1_1() {
    let world = World::new();
    world.write("a.yaml", &sidecar("a", "1"));
    let galley = world.start_with(&["--insecure"]).await;
    let mut stream = open(&galley, None).await.unwrap();
    let first = receive(&mut stream).await.unwrap().unwrap();
    assert!(!first.incremental && !first.nonce.is_empty());
    let metadata = first.resources[0].metadata.as_ref().unwrap();
    assert_eq!(metadata.name, "shop/a");
    assert_eq!(metadata.create_time.unwrap().seconds, -62_135_596_800);
    let body = first.resources[0].body.as_ref().unwrap();
    assert_eq!(
        body.type_url,
        "type.googleapis.com/istio.networking.v1alpha3.Sidecar"
    );
    // Known but empty, legacy, and unknown: all are answered, and the stream goes on.
    for collection in [
        "istio/networking/v1alpha3/gateways",
        "istio/policy/v1beta1/rules",
        "no/such/thing",
    ] {
        stream.0.send(subscribe(collection)).await.unwrap();
        let answer = receive(&mut stream).await.unwrap().unwrap();
        assert_eq!(
            (answer.collection.as_str(), answer.resources.len()),
            (collection, 0)
        );
    }
    let (_, metrics) = galley.page("/metrics").await;
    assert!(
        metrics.contains(
            "galley_mcp_source_unknown_collections_total{collection=\"no/such/thing\"} 1"
        )
    );
    assert!(metrics.contains("galley_mcp_source_clients_total 1"));
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_serves_plain_text() {
    let world = World::new();
    world.write("a.yaml", &sidecar("a", "1"));
    let address = format!("unix://{}", world.path("galley.sock").display());
    let flag = format!("--server-address={address}");
    let galley = world.start_with(&["--insecure", &flag]).await;
    let mut sink = Sink::start(&address, None);
    sink.label("sidecars shop/a", "1").await;
    galley.stop().await;
    assert!(!world.path("galley.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_monitoring_port() {
    let world = World::new();
    world.write("a.yaml", &sidecar("a", "1"));
    let galley = world.start().await;
    let mut sink = world.sink(&galley);
    sink.label("sidecars shop/a", "1").await;
    let pages: BTreeMap<&str, &str> = [
        ("/ready", "ready"),
        ("/healthz", "ok"),
        ("/debug/snapshot", "shop/a"),
        (
            "/debug/snapshot?collection=istio/networking/v1alpha3/sidecars",
            "\"labels\"",
        ),
        ("/snapshotj/", "shop/a"),
        ("/debug/connections", "pilot-0.istio-system"),
        ("/connectionsj/", PILOT),
        ("/metrics", "galley_server_cert_expiry_timestamp_seconds"),
    ]
    .into();
    for (path, part) in pages {
        let (status, body) = galley.page(path).await;
        assert!(
            status.contains("200") && body.contains(part),
            "{path}: {status} {body}"
        );
    }
    galley.stop().await;
}
