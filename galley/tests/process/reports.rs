//! Pilots report which proxies hold an object, and its status shows it.

use std::sync::Arc;
use std::time::Duration;

use istio_api::collections::by_gvk;
use istio_api::distribution::{COLLECTION, Distribution, NODE};
use istio_api::mcp::v1alpha1::{Resource, Resources};
use mesh_common::drain;
use mesh_common::grpc::mcp::resource_sink_client::ResourceSinkClient;
use mesh_common::mcp::source::{Client, ClientOptions, Metrics, Source};
use mesh_common::mcp::{Connect, Dial};
use mesh_common::metrics::Registry;
use mesh_core::mcp::{self, Snapshot};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status, Streaming};

use crate::cluster::{Cluster, SIDECARS};
use crate::harness::{Galley, PATIENCE, PILOT, SERVER_NAME, World, sidecar};
use crate::status::{good, object, settled, shows, start, until};

/// Reports what the test sets.
struct Pilot {
    resources: mcp::Resources,
    version: u64,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    _trigger: drain::Trigger,
}

impl Pilot {
    fn start(world: &World, galley: &Galley, name: &str, identity: &str) -> Self {
        let (snapshots, receiver) = watch::channel(None);
        let (trigger, drain) = drain::channel();
        let metrics = Metrics::register(&Registry::empty(), "pilot", []);
        let source = Source::new(receiver, true, metrics, drain.clone());
        let sink = format!("mcps://{}", galley.address.unwrap());
        let mut metadata = MetadataMap::new();
        metadata.insert(NODE, name.parse().unwrap());
        let tls = world.client(identity);
        let dial = Dial::new(&sink, Some(tls), Some(SERVER_NAME.to_owned())).unwrap();
        let options = ClientOptions {
            sink,
            metadata,
            max_request_bytes: 1 << 20,
            ping_interval: Duration::from_secs(30),
            is_optional: true,
        };
        let reconnections = Client::counter(&Registry::empty(), "pilot");
        tokio::spawn(Client::new(source, options, dial, reconnections).run(drain));
        let mut pilot = Self {
            resources: mcp::Resources::default(),
            version: 0,
            snapshots,
            _trigger: trigger,
        };
        pilot.publish();
        pilot
    }

    fn put(&mut self, name: &str, resource: Resource) {
        self.resources.insert(name.into(), Arc::new(resource));
    }

    fn publish(&mut self) {
        self.version += 1;
        let mut snapshot = Snapshot::default();
        let collection = mcp::Collection {
            version: self.version.to_string().into(),
            resources: self.resources.clone(),
        };
        snapshot.insert(COLLECTION, collection);
        self.snapshots.send_replace(Some(Arc::new(snapshot)));
    }

    fn say(&mut self, name: &str, version: &str, held: u32, reached: u32) {
        self.put(name, said(name, version, held, reached));
        self.publish();
    }
}

fn said(name: &str, version: &str, held: u32, reached: u32) -> Resource {
    let said = Distribution {
        version: version.to_owned(),
        reached,
        held,
    };
    let row = by_gvk("networking.istio.io", "Sidecar").unwrap();
    said.to_mcp(row, "shop", name)
}

/// `status reason message` of the condition `Distributed`.
fn distributed(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let found = conditions.find(|one| one["type"] == "Distributed");
    let text = |member: &str| found.map_or("", |one| one[member].as_str().unwrap());
    let said = ["status", "reason", "message"].map(text).join(" ");
    said.trim().to_owned()
}

/// The condition `Distributed` of an object in the cluster, once it has this value.
async fn says(cluster: &Cluster, name: &str, wanted: &str) -> Value {
    let object = shows(cluster, SIDECARS, name, |one| distributed(one) == wanted).await;
    let conditions = object["status"]["conditions"].as_array().unwrap();
    let mut conditions = conditions.iter();
    let found = conditions.find(|one| one["type"] == "Distributed");
    found.unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_says_by_how_many_proxies_it_is_held() {
    let (world, cluster) = (World::new(), Cluster::start());
    cluster.apply(SIDECARS, object("a", &good()));
    let galley = start(&world, &cluster).await;
    let mut sink = world.sink(&galley);
    sink.until("the object", |state| state.len() == 1).await;
    let version = |sink: &crate::harness::Sink| {
        let state = sink.state();
        let metadata = state["sidecars shop/a"].metadata.clone();
        metadata.unwrap().version
    };
    let first = version(&sink);
    let mut pilot = Pilot::start(&world, &galley, "pilot-0.istio-system", PILOT);
    pilot.say("a", &first, 12, 14);
    says(&cluster, "shop/a", "False Pending held by 12 of 14 proxies").await;
    pilot.say("a", &first, 14, 14);
    let held = says(&cluster, "shop/a", "True Held held by 14 of 14 proxies").await;
    assert_eq!(held["observedGeneration"], 1);
    assert!(held["lastTransitionTime"].is_string());

    // Another proxy connects. The page has the new numbers, the status stays.
    settled(&galley, 1).await;
    pilot.say("a", &first, 14, 15);
    let page = until(&galley, "numbers", |page| {
        page["objects"][0]["proxies"]["reached"] == 15
    })
    .await;
    let numbers = json!({"reached": 15, "held": 14, "pilots": 1, "pilotsBehind": 0});
    assert_eq!(page["objects"][0]["proxies"], numbers);
    // Unit tests count writes; the analysis may cause one here at any time.
    let object = cluster.object(SIDECARS, "shop/a");
    assert_eq!(distributed(&object), "True Held held by 14 of 14 proxies");

    // No proxy holds the next generation yet.
    let changed = json!({"outboundTrafficPolicy": {"mode": "ALLOW_ANY"}});
    cluster.edit(SIDECARS, "shop/a", changed);
    let wanted = "False Pending held by 0 of 15 proxies; 1 of 1 pilots do not have it";
    let pending = says(&cluster, "shop/a", wanted).await;
    assert_eq!(pending["observedGeneration"], 2);

    // A second pilot has proxies, too.
    sink.until("the change", |state| {
        state["sidecars shop/a"].metadata.as_ref().unwrap().version != first
    })
    .await;
    let second = version(&sink);
    let mut other = Pilot::start(&world, &galley, "pilot-1.istio-system", PILOT);
    until(&galley, "both", |page| page["pilots"] == 2).await;
    pilot.say("a", &second, 15, 15);
    other.say("a", &second, 3, 3);
    says(&cluster, "shop/a", "True Held held by 18 of 18 proxies").await;

    // It ends, and its numbers are removed.
    drop(other);
    let page = until(&galley, "one", |page| page["pilots"] == 1).await;
    assert_eq!(page["objects"][0]["proxies"]["reached"], 15);
    settled(&galley, 1).await;
    drop(pilot);
    until(&galley, "none", |page| page["pilots"] == 0).await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_cannot_be_read_is_no_harm_to_others() {
    let world = World::new();
    world.write("a.yaml", &sidecar("a", "1"));
    let galley = world.start_with(&["--enable-status"]).await;
    let mut pilot = Pilot::start(&world, &galley, "pilot-0", PILOT);
    let good = said("a", "v", 1, 2);
    let mut other_kind = said("b", "v", 1, 2);
    other_kind.body.as_mut().unwrap().type_url = "type.googleapis.com/x".to_owned();
    let mut nowhere = said("c", "v", 1, 2);
    nowhere.metadata.as_mut().unwrap().name = "nowhere".to_owned();
    let mut bare = said("d", "v", 1, 2);
    bare.body = None;
    let too_many = said("e", "v", 3, 2);
    for (i, resource) in [other_kind, nowhere, bare, too_many, good]
        .into_iter()
        .enumerate()
    {
        pilot.put(&i.to_string(), resource);
    }
    pilot.publish();
    // It reports another version than the one in force.
    let wanted = "held by 0 of 2 proxies; 1 of 1 pilots do not have it";
    until(&galley, "the good one", |page| {
        let conditions = page["objects"][0]["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|one| one["type"] == "Distributed" && one["message"] == wanted)
    })
    .await;
    galley.stop().await;
}

type Stream = (
    mpsc::Sender<Resources>,
    Streaming<istio_api::mcp::v1alpha1::RequestResources>,
);

/// Opens a stream by hand.
async fn open(world: &World, galley: &Galley, identity: &str) -> Result<Stream, Status> {
    let address = galley.address.unwrap().to_string();
    let tls = Some(world.client(identity));
    let dial = Dial::new(&address, tls, Some(SERVER_NAME.to_owned())).unwrap();
    let channel = dial.connect(Duration::from_secs(30)).await.unwrap();
    let (tx, rx) = mpsc::channel(4);
    let mut client = ResourceSinkClient::new(channel);
    let stream = client.establish_resource_stream(ReceiverStream::new(rx));
    let response = tokio::time::timeout(PATIENCE, stream).await.unwrap()?;
    Ok((tx, response.into_inner()))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_have_configuration_may_report() {
    let world = World::new();
    let list = format!("allowed:\n- {PILOT}\n");
    std::fs::write(world.path("accesslist.yaml"), list).unwrap();
    let galley = world.start_with(&["--enable-status"]).await;
    let stranger = "spiffe://cluster.local/ns/shop/sa/stranger";
    let refused = open(&world, &galley, stranger).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let (_, metrics) = galley.page("/metrics").await;
    assert!(metrics.contains("galley_mcp_sink_refused_total{reason=\"identity\"} 1"));

    // An allowed peer is asked for reports, and learns why its stream is ended.
    let (messages, mut requests) = open(&world, &galley, PILOT).await.unwrap();
    let request = requests.message().await.unwrap().unwrap();
    assert_eq!(request.collection, COLLECTION);
    assert!(request.incremental);
    let nameless = Resources {
        collection: COLLECTION.to_owned(),
        ..Resources::default()
    };
    messages.send(nameless).await.unwrap();
    let end = tokio::time::timeout(PATIENCE, requests.message()).await;
    let status = end.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("has no nonce"), "{status}");
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_statuses_nobody_takes_reports() {
    let world = World::new();
    let galley = world.start().await;
    let refused = open(&world, &galley, PILOT).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    galley.stop().await;
}
