//! `IstioCertificateService/CreateCertificate`.

use istio_api::ca::{IstioCertificateRequest, IstioCertificateResponse};
use mesh_common::grpc::ca::istio_certificate_service_server::IstioCertificateService;
use prost_types::Struct;
use prost_types::value::Kind;
use tonic::{Request, Response, Status};

use super::Signing;
use super::signing::Credentials;
use crate::ca::{Error, Requested, Signed};
use crate::metrics::CREATE_CERTIFICATE;

/// Metadata field in which node agents request an identity other than their own.
const IMPERSONATED: &str = "ImpersonatedIdentity";

#[derive(Debug)]
pub(super) struct Service {
    signing: Signing,
}

impl Service {
    pub(super) fn new(signing: Signing) -> Self {
        Self { signing }
    }

    async fn create(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<IstioCertificateResponse, Status> {
        let (credentials, message) = Credentials::of(request);
        let caller = self.signing.authenticate(&credentials, false).await;
        self.signing.count(caller.as_ref().ok());
        let caller = caller?;
        if message.metadata.as_ref().is_some_and(impersonates) {
            tracing::info!(caller = %caller.identity, "impersonation refused");
            self.signing.metrics().authentication_failures.inc();
            return Err(Status::unauthenticated(
                "request impersonation authentication failure",
            ));
        }
        let requested = Requested::Seconds(message.validity_duration);
        let signed = self
            .signing
            .sign(&credentials, &caller, message.csr.into_bytes(), requested)
            .await?
            .map_err(|error| status(&error))?;
        Ok(IstioCertificateResponse {
            cert_chain: cert_chain(&signed),
        })
    }
}

fn impersonates(metadata: &Struct) -> bool {
    metadata
        .fields
        .get(IMPERSONATED)
        .is_some_and(|value| match &value.kind {
            None | Some(Kind::NullValue(_)) => false,
            Some(Kind::StringValue(text)) => !text.is_empty(),
            // Any other value is an attempt, too.
            Some(_) => true,
        })
}

/// The leaf, each intermediate, and as the last entry all roots in one text.
fn cert_chain(signed: &Signed) -> Vec<String> {
    let mut chain = vec![signed.leaf.pem.clone()];
    chain.extend_from_slice(signed.bundle.intermediates());
    chain.push(signed.bundle.root_pem().to_owned());
    chain
}

fn status(error: &Error) -> Status {
    let text = error.to_string();
    match error {
        Error::NotReady => Status::unavailable(text),
        Error::Csr(_) | Error::Ttl(_) => Status::invalid_argument(text),
        Error::CertGen(_) => Status::internal(text),
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let call = self.signing.metrics().call(CREATE_CERTIFICATE);
        call.done(self.create(request).await.map(Response::new))
    }
}
