//! Starts galley in this process on free ports, and sinks that record what they receive.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use galley::args::{Args, Command, ServerArgs};
use galley::run::{Server, StatusTiming};
use galley::source::kube::Timing;
use galley::status::ReportTiming;
use istio_api::collections::{COLLECTIONS, SYNTHETIC_SERVICE_ENTRIES};
use istio_api::mcp::v1alpha1::Resource;
use mesh_common::mcp::sink::{self, Client, Dial, Handle, Options, Updater};
use mesh_common::metrics::Registry;
use mesh_common::testing::Authority;
use mesh_common::tls::{ClientFiles, ReloadingClientConfig, Verify};
use mesh_common::{drain, list_watch};
use mesh_core::mcp::sink::Change;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) const PILOT: &str =
    "spiffe://cluster.local/ns/istio-system/sa/istio-pilot-service-account";
pub(crate) const SERVER_NAME: &str = "istio-galley.istio-system.svc";

/// Maximum time to wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Short delays, as the servers are on this machine.
const TIMING: Timing = Timing {
    patience: Duration::from_millis(300),
    requests: list_watch::Timing {
        min_backoff: Duration::from_millis(10),
        max_backoff: Duration::from_millis(100),
        request: Duration::from_secs(20),
        watch: Duration::from_secs(280),
    },
};

/// Tests do not wait for the next analysis, and Leases do not expire.
const STATUS_TIMING: StatusTiming = StatusTiming {
    analysis: Duration::from_millis(5),
    lease: mesh_common::lease::Timing {
        duration: Duration::from_secs(3600),
        certain: PATIENCE,
        period: Duration::from_millis(5),
    },
    reports: ReportTiming {
        grace: Duration::from_millis(50),
        settle: Duration::ZERO,
        silence: Duration::from_secs(3600),
    },
};

/// Files of a test: configuration, certificates, access list.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) authority: Authority,
}

impl World {
    pub(crate) fn new() -> Self {
        mesh_common::process::install_crypto();
        let world = Self {
            dir: tempfile::tempdir().unwrap(),
            authority: Authority::new("mesh"),
        };
        std::fs::create_dir(world.config()).unwrap();
        std::fs::create_dir(world.path("certs")).unwrap();
        world.issue_server();
        world
    }

    pub(crate) fn issue_server(&self) {
        let galley = "spiffe://cluster.local/ns/istio-system/sa/istio-galley-service-account";
        let _ = self
            .authority
            .issue(&[galley], &[SERVER_NAME])
            .write(&self.path("certs"));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("config")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.config().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Replaces a file atomically.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        let temporary = self.path("replacement");
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, self.config().join(name)).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        std::fs::remove_file(self.config().join(name)).unwrap();
    }

    pub(crate) fn args(&self, more: &[&str]) -> ServerArgs {
        let file = |flag: &str, name: &str| format!("--{flag}={}", self.path(name).display());
        let own = [
            "galley".to_owned(),
            "server".to_owned(),
            "--server-address=tcp://127.0.0.1:0".to_owned(),
            "--monitoringPort=0".to_owned(),
            "--ctrlz_port=0".to_owned(),
            "--enable-validation=false".to_owned(),
            file("configPath", "config"),
            file("tlsCertFile", "certs/cert-chain.pem"),
            file("tlsKeyFile", "certs/key.pem"),
            file("caCertFile", "certs/root-cert.pem"),
            file("accessListFile", "accesslist.yaml"),
            file("meshConfigFile", "mesh.yaml"),
        ];
        let all = own
            .into_iter()
            .chain(more.iter().map(|flag| (*flag).to_owned()));
        match Args::try_parse_from(all).unwrap().command {
            Command::Server(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    /// Writes a kubeconfig for the API server at `address`; returns the flag that names it.
    pub(crate) fn kubeconfig(&self, address: SocketAddr) -> String {
        mesh_common::testing::cluster::kubeconfig(self.dir.path(), address)
    }

    pub(crate) async fn start(&self) -> Galley {
        self.start_with(&[]).await
    }

    pub(crate) async fn start_with(&self, more: &[&str]) -> Galley {
        self.run(self.bind(more).await).await
    }

    pub(crate) async fn bind(&self, more: &[&str]) -> Server {
        Server::bind(self.args(more)).await.unwrap()
    }

    pub(crate) async fn run(&self, server: Server) -> Galley {
        let monitoring = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pages = monitoring.local_addr().unwrap();
        let server = server
            .with_monitoring(monitoring)
            .with_timing(TIMING)
            .with_status_timing(STATUS_TIMING);
        let address = server.address();
        let (trigger, drain) = drain::channel();
        let task = tokio::spawn(server.run(drain));
        Galley {
            address,
            pages,
            trigger,
            task,
        }
    }

    /// TLS of a sink with this identity.
    pub(crate) fn client(&self, identity: &str) -> ReloadingClientConfig {
        let dir = tempfile::tempdir().unwrap();
        let files = self.authority.issue(&[identity], &[]).write(dir.path());
        ReloadingClientConfig::load(ClientFiles::from(files), Verify::Dns).unwrap()
    }

    pub(crate) fn sink(&self, galley: &Galley) -> Sink {
        Sink::start(
            &format!("mcps://{}", galley.address.unwrap()),
            Some(self.client(PILOT)),
        )
    }
}

pub(crate) struct Galley {
    pub(crate) address: Option<SocketAddr>,
    pages: SocketAddr,
    trigger: drain::Trigger,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Galley {
    /// Waits until it ends by itself with an error, and its tasks with it; the error.
    pub(crate) async fn failed(self) -> String {
        let result = tokio::time::timeout(PATIENCE, self.task).await.unwrap();
        assert!(
            self.trigger.drain(PATIENCE).await,
            "something holds the drain"
        );
        format!("{:#}", result.unwrap().unwrap_err())
    }

    pub(crate) async fn stop(self) {
        assert!(
            self.trigger.drain(PATIENCE).await,
            "something holds the drain"
        );
        self.task.await.unwrap().unwrap();
    }

    /// A page of the monitoring port: status line and body.
    pub(crate) async fn page(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.pages).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// The problems of the files, one line each.
    pub(crate) async fn messages(&self) -> Vec<String> {
        let (_, body) = self.page("/debug/sources").await;
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        let lines = value["messages"].as_array().unwrap().iter();
        lines
            .map(|line| line.as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until exactly one message exists and it contains all of these parts.
    pub(crate) async fn message(&self, parts: &[&str]) -> String {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let messages = self.messages().await;
            if let [message] = messages.as_slice()
                && parts.iter().all(|part| message.contains(part))
            {
                return message.clone();
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "want {parts:?}, have {messages:#?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn no_messages(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let messages = self.messages().await;
            if messages.is_empty() {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{messages:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Resources by `plural namespace/name`.
pub(crate) type State = BTreeMap<String, Resource>;

#[derive(Default)]
struct Seen {
    state: State,
    /// Number of resources added and removed, over all changes.
    given: usize,
}

struct Recorder {
    seen: Arc<Mutex<Seen>>,
    changed: watch::Sender<()>,
}

impl Updater for Recorder {
    async fn apply(&mut self, change: Change) -> Result<(), String> {
        let plural = change.collection.rsplit('/').next().unwrap_or_default();
        let plural = if change.collection == SYNTHETIC_SERVICE_ENTRIES.name {
            "synthetic"
        } else {
            plural
        };
        {
            let mut seen = self.seen.lock();
            seen.given += change.added.len() + change.removed.len();
            for resource in change.added {
                let name = resource.metadata.as_ref().unwrap().name.clone();
                seen.state.insert(format!("{plural} {name}"), resource);
            }
            for name in change.removed {
                assert!(
                    seen.state.remove(&format!("{plural} {name}")).is_some(),
                    "{name}"
                );
            }
        }
        self.changed.send_replace(());
        Ok(())
    }
}

pub(crate) struct Sink {
    seen: Arc<Mutex<Seen>>,
    changed: watch::Receiver<()>,
    pub(crate) handle: Handle,
    _trigger: drain::Trigger,
}

impl Sink {
    pub(crate) fn start(address: &str, tls: Option<ReloadingClientConfig>) -> Self {
        let collections = COLLECTIONS.iter().chain([&SYNTHETIC_SERVICE_ENTRIES]);
        let options = Options {
            source: address.to_owned(),
            node_id: "pilot-0.istio-system".to_owned(),
            collections: collections.map(|row| row.name.to_owned()).collect(),
            ..Options::default()
        };
        let (changed_tx, changed) = watch::channel(());
        let seen = Arc::<Mutex<Seen>>::default();
        let recorder = Recorder {
            seen: seen.clone(),
            changed: changed_tx,
        };
        let dial = Dial::new(address, tls, Some(SERVER_NAME.to_owned())).unwrap();
        let metrics = sink::Metrics::register(&Registry::empty(), "pilot");
        let (client, handle) = Client::new(options, dial, recorder, metrics);
        let (trigger, drain) = drain::channel();
        tokio::spawn(client.run(drain));
        Self {
            seen,
            changed,
            handle,
            _trigger: trigger,
        }
    }

    pub(crate) fn given(&self) -> usize {
        self.seen.lock().given
    }

    pub(crate) fn state(&self) -> State {
        self.seen.lock().state.clone()
    }

    /// Waits until a condition on the state is true.
    pub(crate) async fn until(&mut self, what: &str, test: impl Fn(&State) -> bool) {
        let wait = async {
            loop {
                self.changed.mark_unchanged();
                if self.handle.is_synced() && test(&self.seen.lock().state) {
                    return;
                }
                tokio::select! {
                    changed = self.changed.changed() => changed.unwrap(),
                    // The client counts as synced shortly after the last change was applied.
                    () = tokio::time::sleep(Duration::from_millis(20)) => {}
                }
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("{what}: {:?}", self.state().keys());
        }
    }

    /// Waits until a label of a resource has this value.
    pub(crate) async fn label(&mut self, name: &str, value: &str) {
        self.until(&format!("{name} has {value}"), |state| {
            label(state, name) == Some(value)
        })
        .await;
    }
}

/// The label `v` of a resource.
pub(crate) fn label<'a>(state: &'a State, name: &str) -> Option<&'a str> {
    Some(
        state
            .get(name)?
            .metadata
            .as_ref()?
            .labels
            .get("v")?
            .as_str(),
    )
}

/// A Sidecar with a label `v`.
pub(crate) fn sidecar(name: &str, value: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata:\n  name: {name}\n  \
         namespace: shop\n  labels: {{v: '{value}'}}\nspec: {{outboundTrafficPolicy: {{}}}}\n"
    )
}
