//! Generates the gRPC clients and servers over the messages of `istio-api`.

use std::path::PathBuf;

use tonic_build::manual::{Builder, Method, Service};

const DISCOVERY: &str = "istio_api::envoy::service::discovery::v3";
const MCP: &str = "istio_api::mcp::v1alpha1";
const CA: &str = "istio_api::ca";
const HEALTH: &str = "crate::grpc::health";

#[derive(Clone, Copy)]
enum Shape {
    Unary,
    ServerStream,
    Bidirectional,
}

struct Call(
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Shape,
);

fn method(call: &Call) -> Method {
    let Call(name, messages, input, output, shape) = call;
    let builder = Method::builder()
        .name(snake(name))
        .route_name(*name)
        .input_type(format!("::{messages}::{input}").replace("::crate", "crate"))
        .output_type(format!("::{messages}::{output}").replace("::crate", "crate"))
        .codec_path("tonic_prost::ProstCodec");
    match shape {
        Shape::Unary => builder,
        Shape::ServerStream => builder.server_streaming(),
        Shape::Bidirectional => builder.client_streaming().server_streaming(),
    }
    .build()
}

/// `HandleCSR` becomes `handle_csr`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut previous_lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && previous_lower {
            out.push('_');
        }
        previous_lower = c.is_ascii_lowercase();
        out.push(c.to_ascii_lowercase());
    }
    out
}

fn service(package: &str, name: &str, calls: &[Call]) -> Service {
    let mut builder = Service::builder().package(package).name(name);
    for call in calls {
        builder = builder.method(method(call));
    }
    builder.build()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let (request, response) = ("DiscoveryRequest", "DiscoveryResponse");
    let (delta_request, delta_response) = ("DeltaDiscoveryRequest", "DeltaDiscoveryResponse");
    let services = [
        service(
            "envoy.service.discovery.v3",
            "AggregatedDiscoveryService",
            &[
                Call(
                    "StreamAggregatedResources",
                    DISCOVERY,
                    request,
                    response,
                    Shape::Bidirectional,
                ),
                Call(
                    "DeltaAggregatedResources",
                    DISCOVERY,
                    delta_request,
                    delta_response,
                    Shape::Bidirectional,
                ),
            ],
        ),
        service(
            "envoy.service.secret.v3",
            "SecretDiscoveryService",
            &[
                Call(
                    "StreamSecrets",
                    DISCOVERY,
                    request,
                    response,
                    Shape::Bidirectional,
                ),
                Call(
                    "DeltaSecrets",
                    DISCOVERY,
                    delta_request,
                    delta_response,
                    Shape::Bidirectional,
                ),
                Call("FetchSecrets", DISCOVERY, request, response, Shape::Unary),
            ],
        ),
        service(
            "istio.mcp.v1alpha1",
            "ResourceSource",
            &[Call(
                "EstablishResourceStream",
                MCP,
                "RequestResources",
                "Resources",
                Shape::Bidirectional,
            )],
        ),
        service(
            "istio.mcp.v1alpha1",
            "AggregatedMeshConfigService",
            &[
                Call(
                    "StreamAggregatedResources",
                    MCP,
                    "MeshConfigRequest",
                    "MeshConfigResponse",
                    Shape::Bidirectional,
                ),
                Call(
                    "IncrementalAggregatedResources",
                    MCP,
                    "IncrementalMeshConfigRequest",
                    "IncrementalMeshConfigResponse",
                    Shape::Bidirectional,
                ),
            ],
        ),
        service(
            "istio.mcp.v1alpha1",
            "ResourceSink",
            &[Call(
                "EstablishResourceStream",
                MCP,
                "Resources",
                "RequestResources",
                Shape::Bidirectional,
            )],
        ),
        service(
            "istio.v1.auth",
            "IstioCertificateService",
            &[Call(
                "CreateCertificate",
                CA,
                "IstioCertificateRequest",
                "IstioCertificateResponse",
                Shape::Unary,
            )],
        ),
        service(
            "istio.v1.auth",
            "IstioCAService",
            &[Call(
                "HandleCSR",
                CA,
                "CsrRequest",
                "CsrResponse",
                Shape::Unary,
            )],
        ),
        service(
            "grpc.health.v1",
            "Health",
            &[
                Call(
                    "Check",
                    HEALTH,
                    "HealthCheckRequest",
                    "HealthCheckResponse",
                    Shape::Unary,
                ),
                Call(
                    "Watch",
                    HEALTH,
                    "HealthCheckRequest",
                    "HealthCheckResponse",
                    Shape::ServerStream,
                ),
            ],
        ),
    ];
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    Builder::new().out_dir(out).compile(&services);
    Ok(())
}
