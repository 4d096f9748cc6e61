//! `grpc.health.v1.Health` of a source.

use futures::stream::{self, BoxStream, StreamExt};
use tonic::{Request, Response, Status};

use super::stream::Snapshots;
use crate::drain;
use crate::grpc::health::health_server;
use crate::grpc::health::{HealthCheckRequest, HealthCheckResponse, ServingStatus};

/// Reports SERVING as soon as there is a snapshot; earlier subscriptions are held back.
#[derive(Debug, Clone)]
pub(super) struct Health {
    snapshots: Snapshots,
    drain: drain::Watch,
    services: Vec<&'static str>,
}

impl Health {
    /// `services`: full names that may be requested; the empty one always may.
    pub(super) fn new(
        snapshots: Snapshots,
        drain: drain::Watch,
        services: Vec<&'static str>,
    ) -> Self {
        Self {
            snapshots,
            drain,
            services,
        }
    }

    fn knows(&self, service: &str) -> bool {
        service.is_empty() || self.services.contains(&service)
    }
}

fn status(snapshots: &Snapshots) -> ServingStatus {
    if snapshots.borrow().is_some() {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if self.knows(&request.get_ref().service) {
            Ok(Response::new(answer(status(&self.snapshots))))
        } else {
            Err(Status::not_found("unknown service"))
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let first = if self.knows(&request.get_ref().service) {
            status(&self.snapshots)
        } else {
            ServingStatus::ServiceUnknown
        };
        let (mut snapshots, drain) = (self.snapshots.clone(), self.drain.clone());
        let change = async move {
            let served = snapshots.wait_for(Option::is_some).await.is_ok();
            (first == ServingStatus::NotServing && served)
                .then(|| Ok(answer(ServingStatus::Serving)))
        };
        let later = stream::once(change)
            .filter_map(std::future::ready)
            .chain(stream::pending());
        // A stream that never ends would delay the shutdown.
        let end = async move { drain.signaled().await };
        let stream = stream::once(std::future::ready(Ok(answer(first))))
            .chain(later)
            .take_until(Box::pin(end));
        Ok(Response::new(stream.boxed()))
    }
}
