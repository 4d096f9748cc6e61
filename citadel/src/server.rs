//! The certificate services on port 8060.

mod certificate_service;
mod health;
mod legacy_service;
mod limits;
mod signing;
mod tls_identity;

use std::time::Duration;

use mesh_common::drain;
use mesh_common::grpc::ca::istio_ca_service_server::IstioCAServiceServer;
use mesh_common::grpc::ca::istio_certificate_service_server::IstioCertificateServiceServer;
use mesh_common::grpc::health::health_server::HealthServer;
use mesh_common::tls::{Incoming, ReloadingServerConfig};
use tonic::transport::Server;

pub(crate) use signing::Signing;
pub(crate) use tls_identity::{ServerNames, TlsIdentity};

/// Maximum size of a request, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// Maximum size of the request headers, in bytes.
const MAX_HEADERS: u32 = 64 * 1024;

/// Maximum number of concurrent calls on one connection.
const MAX_STREAMS: u32 = 64;

/// Time limit of one call.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Idle time before a connection is pinged.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Maximum age of a connection: agents call rarely. Calls in progress are completed first.
const MAX_AGE: Duration = Duration::from_secs(300);

/// Serves until the drain begins and all calls have completed.
///
/// # Errors
/// If the transport fails.
pub(crate) async fn serve(
    incoming: Incoming,
    signing: Signing,
    legacy: bool,
    drain: drain::Watch,
) -> Result<(), tonic::transport::Error> {
    let certificates =
        IstioCertificateServiceServer::new(certificate_service::Service::new(signing.clone()))
            .max_decoding_message_size(MAX_MESSAGE);
    let legacy = legacy.then(|| {
        IstioCAServiceServer::new(legacy_service::Service::new(signing))
            .max_decoding_message_size(MAX_MESSAGE)
    });
    let health = HealthServer::new(health::Service).max_decoding_message_size(MAX_MESSAGE);
    Server::builder()
        .timeout(REQUEST_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .max_connection_age(MAX_AGE)
        .add_service(certificates)
        .add_optional_service(legacy)
        .add_service(health)
        .serve_with_incoming_shutdown(incoming, drain.signaled())
        .await
}

/// Accepts connections with the certificate of `identity`.
pub(crate) fn accept(
    listener: tokio::net::TcpListener,
    config: ReloadingServerConfig,
) -> std::io::Result<Incoming> {
    mesh_common::tls::incoming(listener, config, mesh_common::tls::Limits::default())
}
