//! The node's control API: HTTP with JSON over a Unix socket.
//!
//! | path | does |
//! |---|---|
//! | `GET /status?after=N&usage=true` | the mesh; with `after`, as soon as its generation is greater |
//! | `POST /apply`, `/delete` | body: list of sources (`origin`, `text`) |
//! | `POST /scale?deployment=NAME&replicas=N` | |
//! | `POST /kill?pod=&container=&process=&signal=` | signals one process or a container |
//! | `POST /dial?pod=&to=HOST:PORT` | upgrade: the connection becomes one from inside the Pod |
//! | `POST /down` | ends the mesh |

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use axum::extract::{Query, Request as HttpRequest, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, UnixListener};
use tokio::sync::{mpsc, oneshot, watch};

use super::config::Published;
use super::controller::{CONTROL_PLANE, ClusterView, Request};
use super::dns::{self, Table};
use super::store::Outcome;
use super::{Context, usage};
use crate::layout::Layout;
use crate::manifest::{self, Key, Source};
use crate::node::report::{ContainerReport, PodReport, Status};

/// Longest wait for a change before an unchanged status is given.
const LONG_POLL: Duration = Duration::from_secs(30);
/// Name of the protocol that `/dial` upgrades to: bytes.
pub const DIAL_PROTOCOL: &str = "mesh-stream";
const DIAL_LIMIT: Duration = Duration::from_secs(10);

/// What the handlers use.
#[derive(Clone, Debug)]
pub struct Api {
    /// The node.
    pub context: Arc<Context>,
    /// All Pods.
    pub view: watch::Receiver<Arc<ClusterView>>,
    /// Cluster DNS.
    pub names: watch::Receiver<Arc<Table>>,
    /// The controller.
    pub requests: mpsc::Sender<Request>,
    /// Addresses on the host.
    pub published: Vec<Published>,
    /// When the node was started.
    pub started: Instant,
    /// Set to end the node.
    pub end: watch::Sender<bool>,
}

/// One object and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Applied {
    /// Kind, namespace and name.
    pub object: String,
    /// What was done.
    pub outcome: Outcome,
}

#[derive(Debug)]
struct Failure(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = Json(serde_json::json!({"error": format!("{:#}", self.0)}));
        (StatusCode::BAD_REQUEST, body).into_response()
    }
}

/// Binds the control socket, for its owner only. The node's working directory becomes the state
/// directory: the path of a Unix socket has at most 107 bytes.
///
/// # Errors
/// When the socket cannot be made.
pub fn bind(layout: &Layout) -> Result<UnixListener> {
    std::env::set_current_dir(layout.root()).context("go to the state directory")?;
    let path = layout.control_socket();
    let name = path.file_name().context("the control socket has no name")?;
    let listener =
        UnixListener::bind(name).with_context(|| format!("listen on {}", path.display()))?;
    std::fs::set_permissions(name, std::fs::Permissions::from_mode(0o600))
        .context("protect the control socket")?;
    Ok(listener)
}

/// Serves until the socket fails.
///
/// # Errors
/// When the socket fails.
pub async fn serve(listener: UnixListener, api: Api) -> Result<()> {
    let router = Router::new()
        .route("/status", get(status))
        .route("/object", get(object))
        .route("/apply", post(apply))
        .route("/delete", post(delete))
        .route("/scale", post(scale))
        .route("/kill", post(send_signal))
        .route("/dial", post(dial))
        .route("/down", post(down))
        .layer(axum::extract::DefaultBodyLimit::max(64 << 20))
        .with_state(api);
    axum::serve(listener, router)
        .await
        .context("serve the control API")
}

#[derive(Debug, Deserialize)]
struct StatusQuery {
    after: Option<u64>,
    #[serde(default)]
    usage: bool,
}

async fn status(
    State(api): State<Api>,
    Query(query): Query<StatusQuery>,
) -> Result<Json<Status>, Failure> {
    if let Some(after) = query.after {
        let mut view = api.view.clone();
        // A time-out gives the unchanged status, which is a valid answer.
        let _ =
            tokio::time::timeout(LONG_POLL, view.wait_for(|view| view.generation > after)).await;
    }
    let mut status = api.status();
    if query.usage {
        status = tokio::task::spawn_blocking(move || {
            usage::fill(&mut status);
            status
        })
        .await?;
    }
    Ok(Json(status))
}

impl Api {
    fn status(&self) -> Status {
        let view = Arc::clone(&self.view.borrow());
        let mut pods: Vec<PodReport> = view.pods.iter().map(|pod| self.report(pod)).collect();
        pods.sort_by_key(|pod| !pod.control_plane);
        Status {
            generation: view.generation,
            settled: view.settled,
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            objects: self.context.layout.objects(),
            published: self.published.clone(),
            pods,
            node: None,
        }
    }

    fn report(&self, pod: &super::controller::PodView) -> PodReport {
        let status = &pod.status;
        let metadata = &status.pod.metadata;
        let (namespace, name) = (
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        );
        let containers = status
            .containers
            .iter()
            .map(|container| ContainerReport {
                name: container.name.clone(),
                role: container.role,
                state: container.state.clone(),
                ready: container.ready,
                restarts: container.restarts,
                last_code: container.last_code,
                log: self
                    .context
                    .layout
                    .container_log(&namespace, &name, &container.name),
                processes: Vec::new(),
            })
            .collect();
        let age = status.created.elapsed().unwrap_or_default();
        PodReport {
            workload: pod.workload.name.clone(),
            ip: status.ip,
            control_plane: namespace == CONTROL_PLANE && !name.contains("gateway"),
            phase: status.phase,
            ready: status.is_ready(),
            reason: status.reason.clone(),
            injected: metadata
                .annotations
                .as_ref()
                .is_some_and(|all| all.contains_key("sidecar.istio.io/status")),
            age_seconds: age.as_secs_f64(),
            namespace,
            name,
            containers,
        }
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(make(reply))
            .await
            .ok()
            .context("the node is ending")?;
        answer.await.context("the node is ending")
    }
}

#[derive(Debug, Deserialize)]
struct ObjectQuery {
    group: String,
    kind: String,
    namespace: String,
    name: String,
}

/// The object as it was applied, or null.
async fn object(
    State(api): State<Api>,
    Query(query): Query<ObjectQuery>,
) -> Json<Option<serde_json::Value>> {
    let key = Key {
        group: query.group,
        ..Key::core(&query.kind, &query.namespace, &query.name)
    };
    Json(api.context.store.get(&key).as_deref().cloned())
}

fn parse(sources: &[Source]) -> Result<Vec<(Key, serde_json::Value)>> {
    sources
        .iter()
        .map(manifest::parse)
        .collect::<Result<Vec<_>>>()
        .map(|all| all.concat())
}

async fn apply(
    State(api): State<Api>,
    Json(sources): Json<Vec<Source>>,
) -> Result<Json<Vec<Applied>>, Failure> {
    let objects = parse(&sources)?;
    let outcomes = api.ask(|reply| Request::Apply { objects, reply }).await??;
    let applied = |(key, outcome): (Key, Outcome)| Applied {
        object: key.to_string(),
        outcome,
    };
    Ok(Json(outcomes.into_iter().map(applied).collect()))
}

async fn delete(
    State(api): State<Api>,
    Json(sources): Json<Vec<Source>>,
) -> Result<Json<Vec<Applied>>, Failure> {
    let keys = parse(&sources)?.into_iter().map(|(key, _)| key).collect();
    let gone = api.ask(|reply| Request::Delete { keys, reply }).await?;
    let deleted = |key: Key| Applied {
        object: key.to_string(),
        outcome: Outcome::Deleted,
    };
    Ok(Json(gone.into_iter().map(deleted).collect()))
}

#[derive(Debug, Deserialize)]
struct ScaleQuery {
    deployment: String,
    replicas: u32,
}

async fn scale(
    State(api): State<Api>,
    Query(query): Query<ScaleQuery>,
) -> Result<Json<()>, Failure> {
    let (namespace, name) = query
        .deployment
        .split_once('/')
        .unwrap_or(("default", &query.deployment));
    let key = Key {
        group: "apps".to_owned(),
        ..Key::core("Deployment", namespace, name)
    };
    api.ask(|reply| Request::Scale {
        key,
        replicas: query.replicas,
        reply,
    })
    .await??;
    Ok(Json(()))
}

#[derive(Debug, Deserialize)]
struct KillQuery {
    pod: String,
    container: Option<String>,
    process: Option<String>,
    signal: Option<String>,
}

async fn send_signal(
    State(api): State<Api>,
    Query(query): Query<KillQuery>,
) -> Result<Json<Vec<i32>>, Failure> {
    let signal: Signal = query
        .signal
        .map_or(Ok(Signal::SIGKILL), |name| {
            let name = name.to_ascii_uppercase();
            if name.starts_with("SIG") {
                name.parse()
            } else {
                format!("SIG{name}").parse()
            }
        })
        .context("no such signal")?;
    let mut status = api.status();
    if query.process.is_some() {
        usage::fill(&mut status);
    }
    let pod = status.pod_named(&query.pod)?;
    let container = pod.container_named(query.container.as_deref())?;
    let pids: Vec<i32> = match (&query.process, &container.state) {
        (Some(name), _) => container
            .processes
            .iter()
            .filter(|process| process.name == *name)
            .map(|process| process.pid)
            .collect(),
        (None, super::pod::status::State::Running { pid, .. }) => vec![*pid],
        (None, _) => Vec::new(),
    };
    if pids.is_empty() {
        return Err(anyhow::anyhow!(
            "nothing to signal: container {} does not run that",
            container.name
        )
        .into());
    }
    for pid in &pids {
        kill(Pid::from_raw(*pid), signal).with_context(|| format!("send {signal} to {pid}"))?;
    }
    Ok(Json(pids))
}

#[derive(Debug, Deserialize)]
struct DialQuery {
    pod: String,
    to: String,
}

async fn dial(
    State(api): State<Api>,
    Query(query): Query<DialQuery>,
    request: HttpRequest,
) -> Result<Response, Failure> {
    let mut stream = tokio::time::timeout(DIAL_LIMIT, connect(&api, &query))
        .await
        .with_context(|| format!("connect to {}: no answer within {DIAL_LIMIT:?}", query.to))??;
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let joined = async {
            let client = upgrade.await?;
            tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut stream).await?;
            anyhow::Ok(())
        };
        if let Err(error) = joined.await {
            tracing::debug!("a dialled connection broke: {error:#}");
        }
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static(DIAL_PROTOCOL)),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// A connection as a process of the Pod would make it: captured, resolved with its search list.
async fn connect(api: &Api, query: &DialQuery) -> Result<TcpStream> {
    let (host, port) = query.to.rsplit_once(':').context("to is not HOST:PORT")?;
    let port: u16 = port.parse().context("to is not HOST:PORT")?;
    let (namespace, name) = {
        let status = api.status();
        let pod = status.pod_named(&query.pod)?;
        (pod.namespace.clone(), pod.name.clone())
    };
    let view = Arc::clone(&api.view.borrow());
    let sandbox = view
        .pods
        .iter()
        .find(|pod| {
            let metadata = &pod.status.pod.metadata;
            metadata.name.as_ref() == Some(&name) && metadata.namespace.as_ref() == Some(&namespace)
        })
        .and_then(|pod| pod.status.sandbox.clone())
        .with_context(|| format!("Pod {name} has no network yet"))?;
    let ip = match host.parse() {
        Ok(ip) => ip,
        Err(_) if host == "localhost" => std::net::Ipv4Addr::LOCALHOST,
        Err(_) => match dns::resolve(&api.names.borrow(), &namespace, host) {
            Some(ip) => ip,
            None => bail!("{host} does not resolve in namespace {namespace}"),
        },
    };
    let stream = sandbox
        .socket()
        .await?
        .connect((ip, port).into())
        .await
        .with_context(|| format!("connect to {}", query.to))?;
    stream.set_nodelay(true).context("prepare the connection")?;
    Ok(stream)
}

async fn down(State(api): State<Api>) -> Json<()> {
    // The answer needs a moment to be written.
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        api.end.send_replace(true);
    });
    Json(())
}
