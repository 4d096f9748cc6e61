//! The secret discovery server on the Pod's Unix socket.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use futures::Stream;
use istio_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use mesh_common::grpc::sds::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, watch},
};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::secret::{Secrets, file::Files, metrics::Metrics};

pub mod resource;
pub mod stream;
pub mod subscription;

/// Streams that may be open at a time.
const MAX_STREAMS: usize = 1024;
/// Limit of the check whether somebody else serves the socket.
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// Anybody within the Pod may connect: the socket lies in a volume of the Pod alone.
const SOCKET_MODE: u32 = 0o666;
const DIRECTORY_MODE: u32 = 0o750;

/// What every stream needs.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Certificates of the workload.
    pub secrets: watch::Receiver<Secrets>,
    /// Certificates in files.
    pub files: Arc<Files>,
    /// Counters.
    pub metrics: Metrics,
}

/// State of a socket path before it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing is there, or nobody listens (a stale file was removed).
    Free,
    /// Another secret discovery server is alive.
    Served,
}

/// Looks whether another server has the socket, and removes a dead one.
///
/// # Errors
/// The path holds something that is no socket, or cannot be removed.
pub async fn look(path: &Path) -> io::Result<Found> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Free),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is something that is not a socket",
            ));
        }
        Ok(_) => {}
    }
    match tokio::time::timeout(PROBE_LIMIT, UnixStream::connect(path)).await {
        Ok(Ok(_)) => Ok(Found::Served),
        Ok(Err(_)) | Err(_) => {
            fs::remove_file(path)?;
            Ok(Found::Free)
        }
    }
}

/// Opens the socket; Envoy may connect from now on.
///
/// # Errors
/// The directory cannot be made or the socket not bound.
pub fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(directory)
            .with_context(|| format!("directory {} cannot be made", directory.display()))?;
    }
    let listener = UnixListener::bind(path)
        .with_context(|| format!("socket {} cannot be opened", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))
        .with_context(|| format!("mode of socket {} cannot be set", path.display()))?;
    Ok(listener)
}

/// Serves until dropped.
///
/// # Errors
/// The transport fails.
pub async fn serve(listener: UnixListener, shared: Shared) -> Result<(), tonic::transport::Error> {
    let service = Service {
        shared,
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
    };
    Server::builder()
        .add_service(SecretDiscoveryServiceServer::new(service))
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await
}

#[derive(Debug)]
struct Service {
    shared: Shared,
    streams: Arc<Semaphore>,
}

#[tonic::async_trait]
impl SecretDiscoveryService for Service {
    type StreamSecretsStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaSecretsStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let permit = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("more than {MAX_STREAMS} secret streams"))
        })?;
        // One response waits at most: what a slow reader misses meanwhile is merged.
        let (answers, receiver) = mpsc::channel(1);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            stream::run(request.into_inner(), answers, shared).await;
            drop(permit);
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented(
            "secrets are served as state of the world only",
        ))
    }

    async fn fetch_secrets(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("secrets are served as a stream only"))
    }
}
