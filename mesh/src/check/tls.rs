//! An HTTPS request of the host with a trust anchor of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::http::Answer;

/// How long a request with its connection may take.
const LIMIT: Duration = Duration::from_secs(5);

/// A certificate with its key, as a gateway serves it; its own issuer.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What a client must trust.
    pub certificate: CertificateDer<'static>,
    /// The certificate in PEM.
    pub certificate_pem: String,
    /// The key in PEM.
    pub key_pem: String,
}

impl Identity {
    /// A fresh key and certificate for `name`.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate(name: &str) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()])
            .with_context(|| format!("make a certificate for {name}"))?;
        Ok(Self {
            certificate: made.cert.der().clone(),
            certificate_pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
        })
    }
}

/// GET `https://HOST PATH` from `address`, trusting `anchor` alone.
///
/// # Errors
/// When no connection can be made, the certificate is not trusted, or there is no answer in 5 s.
pub async fn get(
    address: &str,
    host: &str,
    path: &str,
    anchor: &CertificateDer<'static>,
) -> Result<Answer> {
    let begun = Instant::now();
    let exchange = async {
        let mut roots = RootCertStore::empty();
        roots.add(anchor.clone()).context("use the trust anchor")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("set up TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connect to {address}"))?;
        let name = ServerName::try_from(host.to_owned()).context("the name of the server")?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .context("TLS handshake")?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let request = Request::get(path)
            .header(header::HOST, host)
            .body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request).await?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        driver.abort();
        anyhow::Ok((parts, body))
    };
    let (parts, body) = tokio::time::timeout(LIMIT, exchange)
        .await
        .with_context(|| format!("no answer within {LIMIT:?}"))??;
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body,
        elapsed: begun.elapsed(),
    })
}
