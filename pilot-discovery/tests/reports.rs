//! A pilot reports to galleys what its proxies hold.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use clap::Parser as _;
use istio_api::{
    distribution::{COLLECTION, Distribution, NODE},
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
    },
    google::rpc,
};
use mesh_common::{
    drain,
    grpc::ads::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    mcp::{
        sink::{self, Caller, Desk, Updater},
        source::{self, Authorize},
    },
    metrics::Registry,
};
use mesh_core::mcp::sink::Change;
use pilot_discovery::{
    args::{Cli, Command},
    run::{Bound, run_reporting},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Streaming, transport::Server};

/// Waits fail after this time.
const PATIENCE: Duration = Duration::from_secs(20);
const CLUSTERS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const LISTENERS: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

const CONFIG: &str = r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: open, namespace: a}
spec:
  hosts: [open.test]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: open, namespace: a}
spec:
  host: open.test
  exportTo: ["."]
  trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}
"#;

struct Everybody;

impl Authorize for Everybody {
    fn authorize(&self, _: Option<&[String]>) -> Result<String, String> {
        Ok(String::new())
    }
}

/// Reports about the rule, in order: version, held, reached. `None`: the report was removed.
type Said = Vec<Option<(String, u32, u32)>>;

/// Records the reports that it receives.
#[derive(Clone)]
struct Galley {
    address: SocketAddr,
    said: watch::Sender<Said>,
    /// Names of the pilots whose streams are open.
    pilots: watch::Sender<BTreeSet<String>>,
}

struct Listener(Galley, String);

impl Updater for Listener {
    async fn apply(&mut self, change: Change) -> Result<(), String> {
        for resource in &change.added {
            let (key, said) = Distribution::from_mcp(resource).unwrap();
            if key.kind == "DestinationRule" {
                let said = (said.version, said.held, said.reached);
                self.0.said.send_modify(|all| all.push(Some(said)));
            }
        }
        let is_rule = |name: &&String| name.contains("/destinationrules/");
        if change.removed.iter().any(|name| is_rule(&name)) {
            self.0.said.send_modify(|all| all.push(None));
        }
        Ok(())
    }
}

impl Desk for Galley {
    type Updater = Listener;

    fn open(&self, caller: Caller) -> Listener {
        let name = caller.metadata.get(NODE).unwrap().to_str().unwrap();
        self.pilots.send_modify(|pilots| {
            pilots.insert(name.to_owned());
        });
        Listener(self.clone(), name.to_owned())
    }

    async fn close(&self, listener: Listener) {
        self.pilots.send_modify(|pilots| {
            pilots.remove(&listener.1);
        });
    }
}

impl Galley {
    async fn start(drain: &drain::Watch) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let galley = Self {
            address: listener.local_addr().unwrap(),
            said: watch::channel(Said::new()).0,
            pilots: watch::channel(BTreeSet::new()).0,
        };
        let registry = Registry::empty();
        let metrics = source::Metrics::register(&registry, "galley", []);
        let (_, snapshots) = watch::channel(None);
        let options = source::Options::default();
        let door = source::Server::new(
            snapshots,
            Arc::new(Everybody),
            options,
            metrics,
            drain.clone(),
        );
        let options = sink::ServerOptions {
            node_id: "galley-0".to_owned(),
            collections: vec![COLLECTION.to_owned()],
            max_message_bytes: 1 << 20,
            max_streams: 8,
        };
        let metrics = sink::Metrics::register(&registry, "galley");
        let sink = sink::Server::new(
            options,
            galley.clone(),
            door.admission(),
            metrics,
            drain.clone(),
        );
        let server = Server::builder().add_service(sink.service());
        let end = drain.signaled();
        tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            server.serve_with_incoming_shutdown(incoming, end).await
        });
        galley
    }

    /// Waits until the last report fulfils `test`.
    async fn until(
        &self,
        what: &str,
        test: impl Fn(&Option<(String, u32, u32)>) -> bool,
    ) -> String {
        let mut said = self.said.subscribe();
        let wait = said.wait_for(|said| said.last().is_some_and(&test));
        let found = tokio::time::timeout(PATIENCE, wait).await;
        let Ok(found) = found else {
            panic!("{what}: {:?}", self.said.borrow());
        };
        let last = found.unwrap().last().cloned().unwrap();
        last.map_or_else(String::new, |(version, ..)| version)
    }

    /// Waits until `held` of `reached` proxies hold the rule; returns its version.
    async fn held(&self, held: u32, reached: u32) -> String {
        let what = format!("{held} of {reached}");
        let wanted = (held, reached);
        self.until(&what, |said| {
            said.as_ref().is_some_and(|said| (said.1, said.2) == wanted)
        })
        .await
    }
}

/// A sidecar of namespace `a` that subscribes to clusters and listeners.
struct Proxy {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl Proxy {
    async fn connect(pilot: SocketAddr, name: &str) -> Self {
        let address = format!("http://{pilot}");
        let client = AggregatedDiscoveryServiceClient::connect(address).await;
        let (requests, rx) = mpsc::channel(8);
        for type_url in [CLUSTERS, LISTENERS] {
            let node = Node {
                id: format!("sidecar~10.1.0.1~{name}.a~a.svc.cluster.local"),
                ..Node::default()
            };
            let request = DiscoveryRequest {
                node: Some(node),
                type_url: type_url.to_owned(),
                ..DiscoveryRequest::default()
            };
            requests.send(request).await.unwrap();
        }
        let mut client = client.unwrap();
        let responses = client.stream_aggregated_resources(ReceiverStream::new(rx));
        Self {
            requests,
            responses: responses.await.unwrap().into_inner(),
        }
    }

    /// Answers the next response.
    async fn answer(&mut self, error: Option<&str>) {
        let response = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        let response = response.unwrap().unwrap().unwrap();
        let error_detail = error.map(|message| rpc::Status {
            code: 3,
            message: message.to_owned(),
            details: Vec::new(),
        });
        let request = DiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            version_info: response.version_info,
            error_detail,
            ..DiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }
}

struct Pilot {
    dir: tempfile::TempDir,
    bound: Bound,
}

impl Pilot {
    async fn start(galleys: &[&Galley], drain: &drain::Watch) -> Self {
        mesh_common::process::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("config")).unwrap();
        std::fs::write(dir.path().join("mesh.yaml"), "").unwrap();
        let addresses = galleys
            .iter()
            .map(|galley| format!("mcp://{}", galley.address));
        let addresses: Vec<String> = addresses.collect();
        let flags = [
            "pilot-discovery".to_owned(),
            "discovery".to_owned(),
            format!("--configDir={}", dir.path().join("config").display()),
            format!("--meshConfig={}", dir.path().join("mesh.yaml").display()),
            "--grpcAddr=127.0.0.1:0".to_owned(),
            "--secureGrpcAddr=".to_owned(),
            "--httpAddr=".to_owned(),
            "--monitoringAddr=".to_owned(),
            "--ctrlz_port=0".to_owned(),
            format!("--statusReportAddr={}", addresses.join(",")),
            "--statusReportInterval=2ms".to_owned(),
        ];
        let Command::Discovery(args) = Cli::try_parse_from(flags).unwrap().command else {
            panic!("another command");
        };
        let pilot = dir.path().join("config/a.yaml");
        std::fs::write(pilot, CONFIG).unwrap();
        let (bound, bound_at) = oneshot::channel();
        let run = run_reporting(*args, drain.clone(), bound);
        tokio::spawn(async move { run.await.unwrap() });
        let bound = tokio::time::timeout(PATIENCE, bound_at).await;
        Self {
            dir,
            bound: bound.unwrap().unwrap(),
        }
    }

    /// Writes the rule with a number of connections, or deletes it.
    fn write(&self, connections: Option<u32>) {
        let text = match connections {
            Some(connections) => CONFIG.replace(": 7}", &format!(": {connections}}}")),
            None => CONFIG.split("---").next().unwrap().to_owned(),
        };
        let temporary = self.dir.path().join("temporary");
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, self.dir.path().join("config/a.yaml")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_galley_is_told_how_many_proxies_hold_an_object() {
    let (trigger, drain) = drain::channel();
    let (galley, other) = (Galley::start(&drain).await, Galley::start(&drain).await);
    let pilot = Pilot::start(&[&galley, &other], &drain).await;
    let first = galley.held(0, 0).await;
    assert_eq!(other.held(0, 0).await, first);
    assert_eq!(galley.pilots.borrow().len(), 1);
    let names: Vec<_> = galley.pilots.borrow().iter().cloned().collect();
    assert_eq!(names, ["pilot.istio-system"]);

    let address = pilot.bound.grpc.unwrap();
    let mut proxy = Proxy::connect(address, "one").await;
    let mut stubborn = Proxy::connect(address, "two").await;
    for _ in [CLUSTERS, LISTENERS] {
        proxy.answer(None).await;
        stubborn.answer(None).await;
    }
    assert_eq!(galley.held(2, 2).await, first);

    // One proxy accepts the change, and one rejects it.
    pilot.write(Some(8));
    let second = galley.held(0, 2).await;
    assert_ne!(second, first);
    stubborn.answer(Some("no")).await;
    proxy.answer(None).await;
    assert_eq!(galley.held(1, 2).await, second);
    assert_eq!(other.held(1, 2).await, second);

    // The next change contains it again; both accept that.
    pilot.write(Some(9));
    proxy.answer(None).await;
    stubborn.answer(None).await;
    let third = galley.held(2, 2).await;
    let never = Some((second, 2, 2));
    assert!(!galley.said.borrow().contains(&never));
    assert_eq!(other.held(2, 2).await, third);

    // One proxy disconnects, and the rule is deleted.
    drop(stubborn);
    assert_eq!(galley.held(1, 1).await, third);
    pilot.write(None);
    galley.until("gone", Option::is_none).await;
    drop(drain);
    assert!(trigger.drain(PATIENCE).await, "something holds the drain");
}

#[tokio::test]
async fn addresses_that_are_none_are_refused() {
    let flags = ["pilot-discovery", "discovery", "--ctrlz_port=0"];
    let more = [
        "--meshConfig=/nonexistent/mesh.yaml",
        "--httpAddr=",
        "--monitoringAddr=",
        "--grpcAddr=127.0.0.1:0",
        "--secureGrpcAddr=",
        "--statusReportAddr=galley:9901",
    ];
    let cli = Cli::try_parse_from(flags.iter().chain(&more)).unwrap();
    let Command::Discovery(args) = cli.command else {
        panic!("another command");
    };
    let (_trigger, drain) = drain::channel();
    let error = pilot_discovery::run::run(*args, drain).await.unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.contains("--statusReportAddr") && text.contains("mcps://host:port"),
        "{text}"
    );
}
