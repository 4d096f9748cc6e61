//! The messages of the two services; the machine only knows those of the newer one.

use istio_api::mcp::v1alpha1::{
    MeshConfigRequest, MeshConfigResponse, RequestResources, Resources,
};

use super::source::{Dialect, Request};

/// Messages of a service.
pub trait Wire: 'static {
    /// Sent by a sink.
    type Request: prost::Message + Default + 'static;
    /// Sent by a source.
    type Response: Send + 'static;
    /// The rules of the service.
    const DIALECT: Dialect;

    /// A request in the form of the machine.
    fn request(request: Self::Request) -> Request;
    /// A response of the machine in the form of the service.
    fn response(message: Resources) -> Self::Response;
}

/// `ResourceSource` and `ResourceSink`.
#[derive(Debug)]
pub struct Current;

impl Wire for Current {
    type Request = RequestResources;
    type Response = Resources;
    const DIALECT: Dialect = Dialect::Resources;

    fn request(request: RequestResources) -> Request {
        request.into()
    }

    fn response(message: Resources) -> Resources {
        message
    }
}

/// `AggregatedMeshConfigService`.
#[derive(Debug)]
pub struct Aggregated;

impl Wire for Aggregated {
    type Request = MeshConfigRequest;
    type Response = MeshConfigResponse;
    const DIALECT: Dialect = Dialect::Aggregated;

    fn request(request: MeshConfigRequest) -> Request {
        Request {
            version: Some(request.version_info).filter(|version| !version.is_empty()),
            message: RequestResources {
                sink_node: request.sink_node,
                // The type URL names the collection.
                collection: request.type_url,
                response_nonce: request.response_nonce,
                error_detail: request.error_detail,
                ..RequestResources::default()
            },
        }
    }

    fn response(message: Resources) -> MeshConfigResponse {
        MeshConfigResponse {
            version_info: message.system_version_info,
            resources: message.resources,
            type_url: message.collection,
            nonce: message.nonce,
        }
    }
}
