//! Citadel's own server certificate: created in advance, renewed at half of its lifetime and after
//! each change of the authority, never while a client waits.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use mesh_common::backoff::Backoff;
use mesh_common::drain;
use mesh_common::tls::{self, ClientAuth, KeyPair, ReloadingServerConfig, ServerOptions};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use crate::ca::{Authority, Names};
use crate::metrics;

/// Namespace and DNS names of this process.
#[derive(Clone, Debug)]
pub(crate) struct ServerNames {
    pub(crate) host_identities: Vec<String>,
    pub(crate) namespace: String,
    pub(crate) cluster_domain: String,
}

impl ServerNames {
    /// All DNS names of the certificate, without duplicates.
    pub(crate) fn dns(&self) -> Vec<String> {
        let Self {
            namespace,
            cluster_domain,
            ..
        } = self;
        let mut names = Vec::new();
        let fixed = [
            "istio-ca".to_owned(),
            "istio-citadel".to_owned(),
            format!("istio-citadel.{namespace}"),
            format!("istio-citadel.{namespace}.svc"),
            format!("istio-citadel.{namespace}.svc.{cluster_domain}"),
        ];
        for name in self.host_identities.iter().cloned().chain(fixed) {
            if !name.is_empty() && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

/// The TLS configuration of the port, and the task that keeps it current.
#[derive(Debug)]
pub(crate) struct TlsIdentity {
    authority: Arc<Authority>,
    names: Vec<String>,
    config: ReloadingServerConfig,
    not_after: SystemTime,
}

impl TlsIdentity {
    /// Creates the first certificate, which takes some time with an RSA authority.
    pub(crate) fn new(authority: Arc<Authority>, names: &ServerNames) -> anyhow::Result<Self> {
        let names = names.dns();
        let (config, not_after) = make(&authority, &names, SystemTime::now())?;
        Ok(Self {
            authority,
            names,
            config: ReloadingServerConfig::fixed(config, Some(not_after)),
            not_after,
        })
    }

    /// TLS configuration for connections.
    pub(crate) fn config(&self) -> ReloadingServerConfig {
        self.config.clone()
    }

    /// Keeps the certificate current until the drain begins.
    pub(crate) async fn run(mut self, drain: drain::Watch) {
        let mut changes = self.authority.subscribe();
        let end = drain.signaled();
        tokio::pin!(end);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let mut pause = metrics::half_life(self.not_after, SystemTime::now());
        loop {
            tokio::select! {
                () = &mut end => return,
                () = tokio::time::sleep(pause) => {}
                // An error means that the authority, and with it the process, has ended.
                changed = changes.changed() => if changed.is_err() { return },
            }
            let (authority, names) = (Arc::clone(&self.authority), self.names.clone());
            let made =
                tokio::task::spawn_blocking(move || make(&authority, &names, SystemTime::now()))
                    .await;
            pause = match made.map_err(anyhow::Error::from).and_then(|made| made) {
                Ok((config, not_after)) => {
                    self.config.replace(config, Some(not_after));
                    self.not_after = not_after;
                    backoff.reset();
                    tracing::info!("server certificate renewed");
                    metrics::half_life(not_after, SystemTime::now())
                }
                Err(error) => {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "cannot renew the server certificate"
                    );
                    backoff.next()
                }
            };
        }
    }
}

fn make(
    authority: &Authority,
    names: &[String],
    now: SystemTime,
) -> anyhow::Result<(ServerConfig, SystemTime)> {
    let bundle = authority.bundle();
    let names = Names {
        identity: None,
        dns: names,
    };
    let issued = authority
        .issue(&names, bundle.kind(), authority.policy().max, now)
        .context("cannot sign the server certificate")?;
    let pair = KeyPair {
        chain: tls::certificates(issued.chain_pem().as_bytes())?,
        key: PrivateKeyDer::from_pem_slice(issued.key.as_bytes())?,
    };
    let mut roots = RootCertStore::empty();
    for root in issued.bundle.roots() {
        roots
            .add(root.clone())
            .context("cannot use the root certificate to verify clients")?;
    }
    let options = ServerOptions::grpc(ClientAuth::Optional);
    let config = tls::server_config(pair, Some(roots), &options, "of port 8060")?;
    Ok((config, issued.leaf.not_after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_port() {
        let names = ServerNames {
            host_identities: vec![
                "istio-ca".to_owned(),
                "istio-citadel".to_owned(),
                "ca.example".to_owned(),
            ],
            namespace: "istio-system".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
        };
        assert_eq!(
            names.dns(),
            [
                "istio-ca",
                "istio-citadel",
                "ca.example",
                "istio-citadel.istio-system",
                "istio-citadel.istio-system.svc",
                "istio-citadel.istio-system.svc.cluster.local",
            ]
        );
    }
}
