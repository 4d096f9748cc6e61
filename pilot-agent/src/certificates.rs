//! Creates the task that maintains the workload certificate from the settings.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::sync::watch;

use crate::{
    bootstrap::HostPort,
    proxy_config::ProxyConfig,
    secret::{
        Secrets,
        ca::{Client, SYSTEM_BUNDLES},
        manager::{Manager, Origin},
        metrics::Metrics,
        output,
    },
    settings::{Certificates, Paths, Settings},
};

/// Chooses the source of certificates.
///
/// # Errors
/// If an address or root cannot be used.
pub fn manager(
    settings: &Settings,
    paths: &Paths,
    config: &ProxyConfig,
    secrets: watch::Sender<Secrets>,
    metrics: &Metrics,
) -> anyhow::Result<Manager> {
    let certificates = &settings.certificates;
    let origin = match files(certificates, paths) {
        Some(directory) => {
            tracing::info!(
                directory = %directory.display(),
                "using a workload certificate from files"
            );
            Origin::Files(directory)
        }
        None => authority(settings, paths, metrics)?,
    };
    Ok(Manager {
        origin,
        mesh_root: paths.mesh_root(),
        revocation_list: paths.revocation_list(),
        anchors: config.ca_certificates_pem.clone(),
        output: certificates
            .output
            .clone()
            .map(|directory| (directory, certificates.output_mode)),
        debounce: certificates.file_debounce,
        metrics: metrics.clone(),
        secrets,
    })
}

/// The directory with mounted certificates, if they are used.
fn files(certificates: &Certificates, paths: &Paths) -> Option<PathBuf> {
    let complete = |directory: &Path| {
        [output::KEY, output::CHAIN, output::ROOT]
            .iter()
            .all(|name| directory.join(name).exists())
    };
    let mounted = paths.mounted_credentials();
    if complete(&mounted) {
        return Some(mounted);
    }
    let old = paths.certificates();
    // Must not use its own output as the source: that would never be renewed.
    let own_output = certificates.output.as_ref() == Some(&old);
    if certificates.file_mounted
        || (complete(&old) && !own_output && certificates.provisioned.as_ref() != Some(&old))
    {
        return Some(old);
    }
    None
}

fn authority(settings: &Settings, paths: &Paths, metrics: &Metrics) -> anyhow::Result<Origin> {
    let certificates = &settings.certificates;
    let address = HostPort::parse(&certificates.ca_address).with_context(|| {
        format!(
            "invalid CA_ADDR {:?}: want host:port",
            certificates.ca_address
        )
    })?;
    let mut metadata = certificates.headers.clone();
    if !certificates.cluster_id.is_empty() {
        metadata.push(("clusterid".to_owned(), certificates.cluster_id.clone()));
    }
    let identity = format!(
        "spiffe://{}/ns/{}/sa/{}",
        settings.trust_domain, settings.namespace, settings.service_account
    );
    Ok(Origin::Authority {
        client: Box::new(Client {
            address,
            root: root(certificates, paths)?,
            token: certificates.use_token.then(|| paths.token()),
            provisioned: certificates.provisioned.clone(),
            metadata,
            signer: certificates.cert_signer.clone(),
            mark: settings.socket_mark,
            metrics: metrics.clone(),
        }),
        identity,
        algorithm: certificates.algorithm,
        ttl: certificates.ttl,
        grace: certificates.grace,
        jitter: certificates.grace_jitter,
    })
}

/// The root that verifies the authority's own certificate.
fn root(certificates: &Certificates, paths: &Paths) -> anyhow::Result<PathBuf> {
    match (
        certificates.ca_root.as_deref(),
        certificates.provider.as_str(),
        &certificates.provisioned,
    ) {
        (Some("SYSTEM"), _, _) => SYSTEM_BUNDLES
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
            .context("CA_ROOT_CA=SYSTEM: the image has no system CA bundle"),
        (Some(path), _, _) => Ok(path.into()),
        (None, "custom", _) => Ok(paths.certificates().join(output::ROOT)),
        (None, _, Some(directory)) => Ok(directory.join(output::ROOT)),
        (None, "none", None) => {
            bail!("PILOT_CERT_PROVIDER=none needs CA_ROOT_CA, the root of the authority")
        }
        // It may not exist yet when the Pod starts: every connection reads it again.
        (None, _, None) => Ok(paths.mesh_root()),
    }
}
