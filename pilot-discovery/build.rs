//! Generates the ADS server around a codec that sends bytes which are encoded already.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let method = |name: &str, route: &str, request: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(format!("::istio_api::envoy::service::discovery::v3::{request}"))
            .output_type("crate::xds::codec::Framed")
            .codec_path(format!(
                "crate::xds::codec::AdsCodec::<::istio_api::envoy::service::discovery::v3::{request}>"
            ))
            .client_streaming()
            .server_streaming()
            .build()
    };
    let service = Service::builder()
        .package("envoy.service.discovery.v3")
        .name("AggregatedDiscoveryService")
        .method(method(
            "stream_aggregated_resources",
            "StreamAggregatedResources",
            "DiscoveryRequest",
        ))
        .method(method(
            "delta_aggregated_resources",
            "DeltaAggregatedResources",
            "DeltaDiscoveryRequest",
        ))
        .build();
    Builder::new().build_client(false).compile(&[service]);
}
