//! The secret discovery server on the Unix socket of the Pod.

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

/// Maximum number of open streams.
const MAX_STREAMS: usize = 1024;
/// Timeout of the check whether another server listens on the socket.
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// Any process in the Pod may connect: the socket is in a volume of this Pod only.
const SOCKET_MODE: u32 = 0o666;
const DIRECTORY_MODE: u32 = 0o750;

/// State shared by all streams.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Certificates of the workload.
    pub secrets: watch::Receiver<Secrets>,
    /// Certificates from files.
    pub files: Arc<Files>,
    /// Counters.
    pub metrics: Metrics,
}

/// State of a socket path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Free: nothing was there, or a stale socket file was removed.
    Free,
    /// Another secret discovery server is listening.
    Served,
}

/// Checks whether another server listens on the socket, and removes a stale socket file.
///
/// # Errors
/// If the path is not a socket or cannot be removed.
pub async fn look(path: &Path) -> io::Result<Found> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Free),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the file exists but is not a socket",
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

/// Opens the socket, so that Envoy can connect.
///
/// # Errors
/// If the directory cannot be created or the socket cannot be bound.
pub fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(directory)
            .with_context(|| format!("cannot create the directory {}", directory.display()))?;
    }
    let listener = UnixListener::bind(path)
        .with_context(|| format!("cannot open the socket {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))
        .with_context(|| format!("cannot set the mode of the socket {}", path.display()))?;
    Ok(listener)
}

/// Serves until dropped.
///
/// # Errors
/// If the transport fails.
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
            Status::resource_exhausted(format!(
                "too many secret streams: at most {MAX_STREAMS} are allowed"
            ))
        })?;
        // At most one response is queued; later changes are merged until a slow reader has taken
        // it.
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
            "delta is not supported: use state of the world",
        ))
    }

    async fn fetch_secrets(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented(
            "unary requests are not supported: use the stream",
        ))
    }
}
