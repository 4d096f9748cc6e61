//! The self-check: citadel requests a certificate from its own port, and touches a file as long as
//! that succeeds.

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use istio_api::ca::IstioCertificateRequest;
use mesh_common::drain;
use mesh_common::grpc::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use mesh_common::tls::{self, KeyPair, ReloadingClientConfig, Verify};
use mesh_core::spiffe::Identity;
use rustls::RootCertStore;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::MissedTickBehavior;

use crate::ca::{Authority, Kind, Names};

/// Time limit of one check.
const LIMIT: Duration = Duration::from_secs(10);

/// Tolerated excess of the file's age over the interval.
const TOLERANCE: Duration = Duration::from_millis(10);

/// What to check and where to record it.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) file: PathBuf,
    /// The file is touched twice per interval.
    pub(crate) interval: Duration,
    pub(crate) check_interval: Duration,
    pub(crate) address: SocketAddr,
    pub(crate) own: Identity,
}

/// Checks until the drain begins, then removes the file.
pub(crate) async fn run(authority: Arc<Authority>, options: Options, drain: drain::Watch) {
    let mut touch = tokio::time::interval((options.interval / 2).max(Duration::from_millis(1)));
    let mut check = tokio::time::interval(options.check_interval.max(Duration::from_secs(1)));
    touch.set_missed_tick_behavior(MissedTickBehavior::Delay);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = drain.signaled();
    tokio::pin!(end);
    // Healthy until a check fails, as in 1.1.
    let mut healthy = true;
    loop {
        tokio::select! {
            () = &mut end => break,
            _ = check.tick() => {
                let result = tokio::time::timeout(LIMIT, ask(&authority, &options)).await;
                let result = result.map_err(anyhow::Error::from).and_then(|result| result);
                healthy = result.is_ok();
                if let Err(error) = result {
                    tracing::error!(error = format!("{error:#}"), "self-check failed");
                }
            }
            _ = touch.tick() => {}
        }
        if let Err(error) = note(&options.file, healthy) {
            tracing::error!(
                path = %options.file.display(),
                error = %error,
                "cannot update the probe file"
            );
        }
    }
    // The file may be gone already.
    let _ = note(&options.file, false);
}

/// Touches or removes the file.
fn note(path: &Path, healthy: bool) -> std::io::Result<()> {
    if healthy {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        return file.set_modified(SystemTime::now());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn ask(authority: &Authority, options: &Options) -> anyhow::Result<()> {
    let names = Names {
        identity: Some(&options.own),
        dns: &[],
    };
    let ttl = options.check_interval.max(Duration::from_secs(60));
    let issued = authority.issue(&names, Kind::P256, ttl, SystemTime::now())?;
    let pair = KeyPair {
        chain: tls::certificates(issued.chain_pem().as_bytes())?,
        key: PrivateKeyDer::from_pem_slice(issued.key.as_bytes())?,
    };
    let mut roots = RootCertStore::empty();
    for root in issued.bundle.roots() {
        roots.add(root.clone())?;
    }
    let config = ReloadingClientConfig::fixed(
        tls::client_config(roots, Some(pair), &Verify::Dns, "of the self-check")?,
        None,
    );
    let channel = tls::channel(
        &options.address.to_string(),
        &config,
        Some("istio-citadel"),
        |endpoint| endpoint,
    )?;
    let key = Kind::P256.generate()?;
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&key)?
        .pem()?;
    let request = IstioCertificateRequest {
        csr,
        validity_duration: i64::try_from(ttl.as_secs())?,
        ..Default::default()
    };
    let answer = IstioCertificateServiceClient::new(channel)
        .create_certificate(request)
        .await?
        .into_inner();
    let leaf = answer
        .cert_chain
        .first()
        .context("the response has no certificate")?;
    let leaf = tls::certificates(leaf.as_bytes())?;
    let identity =
        Identity::from_certificate_der(leaf.first().context("the response has no certificate")?)?;
    if identity != options.own {
        bail!(
            "the certificate is for {identity} instead of {}",
            options.own
        );
    }
    Ok(())
}

/// The `probe` command: checks that the file is at most `interval` old.
///
/// # Errors
/// If it is older or does not exist.
pub(crate) fn check_file(path: &Path, interval: Duration, now: SystemTime) -> anyhow::Result<()> {
    let modified = fs::metadata(path)
        .and_then(|facts| facts.modified())
        .with_context(|| format!("cannot read the probe file {}", path.display()))?;
    let age = now.duration_since(modified).unwrap_or_default();
    if age > interval + TOLERANCE {
        bail!(
            "the probe file {} is {} ms old: want at most {} ms",
            path.display(),
            age.as_millis(),
            interval.as_millis()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_the_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alive");
        let second = Duration::from_secs(1);
        assert!(check_file(&path, second, SystemTime::now()).is_err());
        note(&path, true).unwrap();
        let now = SystemTime::now();
        check_file(&path, second, now).unwrap();
        assert!(check_file(&path, second, now + second * 2).is_err());
        note(&path, false).unwrap();
        note(&path, false).unwrap();
        assert!(!path.exists());
    }
}
