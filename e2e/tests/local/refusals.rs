//! Proxies that are not who they say, or do not speak the protocol.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bench::push::raw::{Sized, SizedCodec};
use hyper_util::rt::TokioIo;
use istio_api::envoy::config::core::v3::Node;
use istio_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh::handle::Mesh;
use mesh::wait::wait_until;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::fixture::{LIMIT, Whole};

const PILOT: &str = "istio-pilot.istio-system.svc:15012";
const CLIENT: &str = "default/sleep";
const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

/// A key with its certificate chain.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity_in(directory: &Path) -> Result<Identity> {
    let chain = CertificateDer::pem_file_iter(directory.join("cert-chain.pem"))?;
    let key = PrivateKeyDer::from_pem_file(directory.join("key.pem"))?;
    Ok((chain.collect::<Result<_, _>>()?, key))
}

/// A certificate of an unknown authority, for a right name.
fn forged() -> Result<Identity> {
    let mut parameters = rcgen::CertificateParams::default();
    let name = "spiffe://cluster.local/ns/default/sa/sleep".try_into()?;
    parameters.subject_alt_names = vec![rcgen::SanType::URI(name)];
    let key = rcgen::KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    Ok((vec![certificate.der().clone()], key))
}

/// A connection to pilot from the client's Pod.
async fn channel(mesh: &Mesh, identity: Option<Identity>) -> Result<Channel> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(
        mesh.layout().root_certificate(),
    )?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((chain, key)) => config.with_client_auth_cert(chain, key)?,
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mesh = mesh.clone();
    let connect = tower::service_fn(move |_| {
        let (mesh, connector) = (mesh.clone(), connector.clone());
        async move {
            let stream = mesh.dial(CLIENT, PILOT).await?;
            let name = ServerName::try_from("istio-pilot.istio-system.svc")?;
            anyhow::Ok(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    let endpoint = Endpoint::from_static("http://istio-pilot.istio-system.svc:15012");
    Ok(endpoint.connect_with_connector(connect).await?)
}

/// Opens a stream with `first` and waits for what pilot says to it.
async fn say(
    mesh: &Mesh,
    identity: Option<Identity>,
    first: DeltaDiscoveryRequest,
) -> Result<Result<Sized<DeltaDiscoveryResponse>, Status>> {
    let mut grpc = Grpc::new(channel(mesh, identity).await?);
    grpc.ready().await?;
    let path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
    // The stream ends when the sender goes, at the end of this function.
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    sender.send(first).await?;
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let codec = SizedCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    let opened = grpc
        .streaming(tonic::Request::new(requests), path, codec)
        .await;
    let mut stream = match opened {
        Ok(stream) => stream.into_inner(),
        Err(status) => return Ok(Err(status)),
    };
    let answer = tokio::time::timeout(LIMIT, stream.message()).await?;
    Ok(answer.and_then(|answer| answer.ok_or_else(|| Status::unknown("the stream ended"))))
}

fn request(id: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node {
            id: id.to_owned(),
            ..Node::default()
        }),
        type_url: CLUSTER.to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_may_not_is_refused_counted_and_harms_no_one() -> Result<()> {
    let whole = Whole::start().await?;
    let mesh = whole.mesh();
    let streams = whole.all_proxies_connected().await?;
    let certificates = mesh.layout().control_plane_certificates();
    let galley = || identity_in(&certificates.join("galley"));
    let own = "sidecar~10.244.0.99~g.istio-system~istio-system.svc.cluster.local";
    let foreign = "sidecar~10.244.0.99~sleep.default~default.svc.cluster.local";

    // Whoever is what it says is served.
    let answer = say(mesh, Some(galley()?), request(own)).await??;
    assert_eq!(answer.message.type_url, CLUSTER);

    let mut refused = 0.0;
    for (identity, first, code, reason) in [
        (
            None,
            request(own),
            Code::Unauthenticated,
            "a client certificate of the mesh is required",
        ),
        (
            Some(galley()?),
            request(foreign),
            Code::PermissionDenied,
            "istio-galley-service-account",
        ),
        (
            Some(galley()?),
            request("sidecar~nonsense"),
            Code::InvalidArgument,
            "node",
        ),
        (
            Some(galley()?),
            DeltaDiscoveryRequest::default(),
            Code::InvalidArgument,
            "node",
        ),
    ] {
        let before = whole
            .pilot_metric("pilot_xds_refused_streams")
            .await
            .unwrap_or(0.0);
        let status = say(mesh, identity, first).await?.err();
        let status = status.context("the stream was served")?;
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(reason), "{status:?}");
        refused = whole.pilot_metric("pilot_xds_refused_streams").await?;
        assert_eq!(refused, before + 1.0, "{status:?}");
    }
    assert_eq!(refused, 4.0);

    // Nobody's certificate: the connection is refused before a stream can be opened.
    let error = match say(mesh, Some(forged()?), request(own)).await {
        Ok(answer) => answer
            .err()
            .context("a forged certificate was served")?
            .to_string(),
        Err(error) => format!("{error:#}"),
    };
    println!("forged: {error}");
    // Nor does anyone get in who speaks something else.
    let plain = mesh
        .http_from(CLIENT)
        .get(&format!("http://{PILOT}/"))
        .await;
    assert!(plain.is_err() || plain.is_ok_and(|answer| !answer.status.is_success()));

    wait_until("streams of the mesh's own proxies only", LIMIT, || async {
        let now = whole.pilot_metric("pilot_xds{").await?;
        ensure!(now == streams, "{now}, not {streams}");
        Ok(())
    })
    .await?;
    whole
        .apply("tasks/traffic-shifting/virtual-service-reviews-v3.yaml")
        .await?;
    whole.reviews_go_to(CLIENT, "v3").await?;
    assert_eq!(whole.reviews_answer(CLIENT).await?, "v3");
    Ok(())
}
