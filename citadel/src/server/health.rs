//! `grpc.health.v1.Health`: reports serving as long as the process serves.

use futures::stream::{self, BoxStream, StreamExt};
use mesh_common::grpc::health::health_server::Health;
use mesh_common::grpc::health::{HealthCheckRequest, HealthCheckResponse, ServingStatus};
use tonic::{Request, Response, Status};

use crate::metrics::{CREATE_CERTIFICATE, HANDLE_CSR};

#[derive(Debug)]
pub(super) struct Service;

fn known(service: &str) -> bool {
    service.is_empty() || [CREATE_CERTIFICATE.service, HANDLE_CSR.service].contains(&service)
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Health for Service {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if known(&request.get_ref().service) {
            Ok(Response::new(answer(ServingStatus::Serving)))
        } else {
            Err(Status::not_found("unknown service"))
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let status = if known(&request.get_ref().service) {
            ServingStatus::Serving
        } else {
            ServingStatus::ServiceUnknown
        };
        // The state stays the same until the connection ends.
        let stream = stream::once(async move { Ok(answer(status)) }).chain(stream::pending());
        Ok(Response::new(stream.boxed()))
    }
}
