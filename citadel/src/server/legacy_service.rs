//! `IstioCAService/HandleCSR` of 1.1, for callers with a certificate.

use istio_api::ca::{CsrRequest, CsrResponse};
use mesh_common::grpc::ca::istio_ca_service_server::IstioCAService;
use tonic::{Request, Response, Status};

use super::Signing;
use super::signing::Credentials;
use crate::ca::{self, Error, Requested};
use crate::metrics::HANDLE_CSR;

/// Error of 1.1 for a request without names.
const NO_NAMES: &str = "CSR identity extraction error (the SAN extension does not exist)";

#[derive(Debug)]
pub(super) struct Service {
    signing: Signing,
}

impl Service {
    pub(super) fn new(signing: Signing) -> Self {
        Self { signing }
    }

    async fn handle(&self, request: Request<CsrRequest>) -> Result<CsrResponse, Status> {
        let (credentials, message) = Credentials::of(request);
        let caller = self.signing.authenticate(&credentials, true).await;
        self.signing.count(caller.as_ref().ok());
        let caller = caller?;
        let metrics = self.signing.metrics();
        // Parsing is cheap; signing parses again, on its own thread.
        let key = ca::parse_csr(&message.csr_pem).map_err(|error| {
            metrics.csr_parsing_errors.inc();
            Status::invalid_argument(error.to_string())
        })?;
        if !key.has_names() {
            metrics.id_extraction_errors.inc();
            return Err(Status::invalid_argument(NO_NAMES));
        }
        let requested = Requested::Minutes(message.requested_ttl_minutes);
        let signed = self
            .signing
            .sign(&credentials, &caller, message.csr_pem.to_vec(), requested)
            .await?
            .map_err(|error| status(&error))?;
        Ok(CsrResponse {
            is_approved: true,
            status: None,
            signed_cert: signed.leaf.pem.into_bytes().into(),
            cert_chain: signed.bundle.intermediates().concat().into_bytes().into(),
        })
    }
}

fn status(error: &Error) -> Status {
    let text = error.to_string();
    match error {
        Error::Csr(_) => Status::invalid_argument(text),
        Error::NotReady | Error::Ttl(_) | Error::CertGen(_) => Status::internal(text),
    }
}

#[tonic::async_trait]
impl IstioCAService for Service {
    async fn handle_csr(
        &self,
        request: Request<CsrRequest>,
    ) -> Result<Response<CsrResponse>, Status> {
        let call = self.signing.metrics().call(HANDLE_CSR);
        call.done(self.handle(request).await.map(Response::new))
    }
}
