//! A fake pilot that requires client certificates and sends the same resources to every proxy.

use std::{net::SocketAddr, sync::Arc};

use istio_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use mesh_common::grpc::ads::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use mesh_core::spiffe::Identity as Spiffe;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

use crate::authority::Authority;

const CLUSTERS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const LISTENERS: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
pub(crate) const NAME: &str = "istio-pilot.istio-system.svc";

pub(crate) struct Pilot {
    /// Identities and node ids of connected proxies.
    peers: watch::Sender<Vec<(String, String)>>,
    resources: Vec<(&'static str, Resource)>,
}

impl Pilot {
    /// Serves the given clusters and listeners.
    pub(crate) async fn serve(
        authority: &Authority,
        clusters: Vec<istio_api::envoy::config::cluster::v3::Cluster>,
        listeners: Vec<istio_api::envoy::config::listener::v3::Listener>,
    ) -> (SocketAddr, watch::Receiver<Vec<(String, String)>>) {
        let resource = |name: &str, any| Resource {
            name: name.to_owned(),
            version: "1".to_owned(),
            resource: Some(any),
            ..Resource::default()
        };
        let clusters = clusters.iter().map(|cluster| {
            (
                CLUSTERS,
                resource(&cluster.name, istio_api::any::pack(cluster)),
            )
        });
        let listeners = listeners.iter().map(|listener| {
            (
                LISTENERS,
                resource(&listener.name, istio_api::any::pack(listener)),
            )
        });
        let pilot = Arc::new(Self {
            peers: watch::Sender::default(),
            resources: clusters.chain(listeners).collect(),
        });
        let peers = pilot.peers.subscribe();
        let (cert, key) = authority.issue(
            "spiffe://cluster.local/ns/istio-system/sa/istio-pilot-service-account",
            &[NAME],
        );
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(cert, key))
            .client_ca_root(Certificate::from_pem(authority.root()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(AggregatedDiscoveryServiceServer::new(Service(pilot)));
        tokio::spawn(async move {
            server
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap()
        });
        (address, peers)
    }
}

struct Service(Arc<Pilot>);

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta is the default"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let identity = request
            .peer_certs()
            .and_then(|certs| Spiffe::from_certificate_der(certs.first()?).ok())
            .map(|identity| identity.to_string())
            .unwrap_or_default();
        let (answers, receiver) = mpsc::channel(8);
        let pilot = Arc::clone(&self.0);
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            let mut nonce = 0;
            while let Ok(Some(request)) = requests.message().await {
                if let Some(node) = request.node.filter(|node| !node.id.is_empty()) {
                    pilot
                        .peers
                        .send_modify(|peers| peers.push((identity.clone(), node.id)));
                }
                if !request.response_nonce.is_empty() {
                    assert!(request.error_detail.is_none(), "{:?}", request.error_detail);
                    continue;
                }
                nonce += 1;
                let of_type = pilot
                    .resources
                    .iter()
                    .filter(|(kind, _)| *kind == request.type_url);
                let answer = DeltaDiscoveryResponse {
                    type_url: request.type_url.clone(),
                    nonce: nonce.to_string(),
                    resources: of_type.map(|(_, resource)| resource.clone()).collect(),
                    ..DeltaDiscoveryResponse::default()
                };
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
