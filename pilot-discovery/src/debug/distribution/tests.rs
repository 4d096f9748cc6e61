//! The page, in a world with two proxies.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use istio_api::envoy::{config::core::v3::Node, service::discovery::v3::DiscoveryRequest as Sotw};
use pilot_model::{mesh::Mesh, proxy::Proxy};
use pilot_xds::{
    request::read_sotw,
    stream::{Response as Sent, Stream, Variant},
};
use prost::Message as _;

use super::{super::State, *};
use crate::{
    metrics::Metrics,
    world::{self, Batch, Command, Connection, command::Change, pace::Pace},
    xds::registry::{Entry, Registry, Status},
};

const CONFIG: &str = r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: open, namespace: a}
spec:
  hosts: [open.a.svc.cluster.local]
  addresses: [10.96.0.1]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: open, namespace: a}
spec:
  host: open.a.svc.cluster.local
  exportTo: ["."]
  trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}
"#;

/// A connected proxy that answers only when the test says so.
struct Peer {
    connection: Connection,
    stream: Stream,
    entry: Entry,
    open: Vec<Sent>,
}

impl Peer {
    async fn connect(state: &State, namespace: &str) -> Self {
        let node = Node {
            id: format!("sidecar~10.1.0.1~p.{namespace}~{namespace}.svc.cluster.local"),
            ..Node::default()
        };
        let proxy = Proxy::parse(Some(&node)).unwrap();
        let connection = state.world.connect(proxy.clone()).await.unwrap();
        let status = Status {
            connection: String::new(),
            address: String::new(),
            connected: std::time::SystemTime::UNIX_EPOCH,
            variant: Variant::Sotw,
            proxy: Arc::new(proxy),
            types: Default::default(),
            taken: Default::default(),
        };
        let entry = state.streams.enter(connection.id, status);
        let view = connection.view.borrow().clone();
        let mut peer = Self {
            stream: Stream::new(Variant::Sotw, view),
            connection,
            entry,
            open: Vec::new(),
        };
        for kind in [Kind::Cluster, Kind::Listener] {
            peer.send(kind, "", None);
        }
        peer
    }

    fn send(&mut self, kind: Kind, nonce: &str, error: Option<&str>) {
        let error = error.map(|message| istio_api::google::rpc::Status {
            message: message.to_owned(),
            ..Default::default()
        });
        let request = Sotw {
            type_url: kind.type_url().to_owned(),
            response_nonce: nonce.to_owned(),
            error_detail: error,
            ..Default::default()
        };
        let (_, request) = read_sotw(&request.encode_to_vec().into()).unwrap();
        let (_, sent) = self.stream.on_request(request);
        self.open.extend(sent);
        self.entry.update(&self.stream);
    }

    /// Answers all pending responses.
    fn answer(&mut self, error: Option<&str>) {
        while let Some(sent) = self.open.pop() {
            self.send(sent.kind, &sent.nonce, error);
        }
    }

    /// Follows the newest view.
    fn follow(&mut self) {
        let view = self.connection.view.borrow().clone();
        self.open.extend(self.stream.on_view(view));
        self.entry.update(&self.stream);
    }
}

fn batch(text: &str, version: &str) -> Batch {
    let (objects, _) = crate::config::dir::parse(text.as_bytes()).unwrap();
    let changes = objects.into_iter().map(|((_, key), mut object)| {
        object.meta.resource_version = version.to_owned();
        Change {
            collection: object.collection,
            key,
            object: Some(object),
        }
    });
    Batch {
        changes: changes.collect(),
        full: None,
    }
}

async fn apply(state: &State, text: &str, version: &str) {
    let batch = batch(text, version);
    state.world.send(Command::Apply(batch)).await.unwrap();
    state.world.send(Command::Synced).await.unwrap();
    state.world.inspect(|_| ()).await.unwrap();
}

async fn ask(state: &State, resource: &str, version: Option<&str>) -> (StatusCode, Value) {
    let wanted = Wanted {
        resource: Some(resource.to_owned()),
        version: version.map(str::to_owned),
    };
    let params = Query(Params::default());
    let response = config_distribution(Shared(state.clone()), params, Query(wanted)).await;
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
    let body = serde_json::from_slice(&body.unwrap()).unwrap_or_default();
    (status, body)
}

/// Total, reached, acked, and the states of the proxies.
fn counts(body: &Value) -> (u64, u64, u64, Vec<&str>) {
    let number = |name: &str| body[name].as_u64().unwrap();
    let proxies = body["proxies"].as_array().unwrap().iter();
    let states = proxies.map(|proxy| proxy["state"].as_str().unwrap());
    (
        number("total"),
        number("reached"),
        number("acked"),
        states.collect(),
    )
}

fn state_of_a_pilot(pace: Pace) -> State {
    let metrics = Metrics::register(&mesh_common::metrics::Registry::empty());
    State {
        world: world::Handle::start(Mesh::default(), pace, metrics).unwrap(),
        streams: Registry::default(),
        pilot: "pilot-0.istio-system".into(),
        secrets: crate::config::secrets::cluster::Status::default(),
    }
}

const RULE: &str = "DestinationRule/a/open";

#[tokio::test]
async fn a_proxy_holds_an_object_when_it_took_all_that_is_made_from_it() {
    let state = state_of_a_pilot(Pace::default());
    apply(&state, CONFIG, "v1").await;
    let mut near = Peer::connect(&state, "a").await;
    let mut far = Peer::connect(&state, "b").await;
    // The rule is private: it does not reach the other proxy, which counts as acknowledged.
    let (_, body) = ask(&state, RULE, None).await;
    assert_eq!(body["resourceVersion"], "v1");
    assert_eq!(body["proxies"][0]["pilot"], "pilot-0.istio-system");
    assert_eq!(counts(&body), (2, 1, 1, vec!["pending", "acked"]));
    near.answer(None);
    far.answer(None);
    let (_, body) = ask(&state, RULE, Some("v1")).await;
    assert_eq!(counts(&body), (2, 1, 2, vec!["acked", "acked"]));
    let (_, body) = ask(&state, "ServiceEntry/a/open", None).await;
    assert_eq!(counts(&body), (2, 2, 2, vec!["acked", "acked"]));

    apply(&state, &CONFIG.replace('7', "8"), "v2").await;
    let (_, body) = ask(&state, RULE, Some("v1")).await;
    assert_eq!(counts(&body).2, 0);
    let (_, body) = ask(&state, RULE, Some("v2")).await;
    assert_eq!(counts(&body), (2, 1, 1, vec!["pending", "acked"]));
    near.follow();
    far.follow();
    near.answer(Some("no"));
    let (_, body) = ask(&state, RULE, Some("v2")).await;
    assert_eq!(counts(&body), (2, 1, 1, vec!["nacked", "acked"]));
    drop(near);
    let (_, body) = ask(&state, RULE, Some("v2")).await;
    assert_eq!(counts(&body), (1, 0, 1, vec!["acked"]));
}

#[tokio::test]
async fn a_change_that_is_not_published_is_held_by_no_proxy() {
    let pace = Pace {
        after: std::time::Duration::from_secs(3600),
        max: std::time::Duration::from_secs(3600),
        ..Pace::default()
    };
    let state = state_of_a_pilot(pace);
    apply(&state, CONFIG, "v1").await;
    let mut peer = Peer::connect(&state, "a").await;
    peer.answer(None);
    let (_, body) = ask(&state, RULE, Some("v1")).await;
    assert_eq!(counts(&body), (1, 1, 1, vec!["acked"]));
    let batch = batch(&CONFIG.replace('7', "8"), "v2");
    state.world.send(Command::Apply(batch)).await.unwrap();
    let (_, body) = ask(&state, RULE, Some("v2")).await;
    assert_eq!(counts(&body), (1, 1, 0, vec!["pending"]));
}

#[tokio::test]
async fn what_does_not_exist_is_held_by_no_proxy() {
    let state = state_of_a_pilot(Pace::default());
    let mut peer = Peer::connect(&state, "a").await;
    peer.answer(None);
    let (_, body) = ask(&state, RULE, None).await;
    assert_eq!(counts(&body), (1, 0, 0, vec!["pending"]));
    assert_eq!(body["resourceVersion"], Value::Null);
    for wrong in ["", "a/b", "/b/c", "a/b/c/d", "a/b/"] {
        let (status, _) = ask(&state, wrong, None).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}
