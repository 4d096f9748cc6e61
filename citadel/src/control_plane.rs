//! Certificates of the other control-plane processes, as files that are renewed in place.
//!
//! A process that has files cannot wait for an agent: galley must serve before there is a mesh.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use mesh_common::backoff::Backoff;
use mesh_common::drain;
use mesh_common::readiness::Gate;
use mesh_common::spiffe::{Identity, TrustDomain};

use crate::ca::{Authority, Issued, Kind, Names};
use crate::metrics::{self, Metrics};
use crate::settings::CustomNames;
use crate::store::atomic;

/// Processes that get a certificate.
pub(crate) const COMPONENTS: [&str; 3] = ["galley", "pilot", "sidecar-injector"];

/// Where and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) dir: PathBuf,
    pub(crate) namespace: String,
    pub(crate) cluster_domain: String,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) dns_names: bool,
    pub(crate) custom_names: CustomNames,
    pub(crate) ttl: Duration,
}

/// ServiceAccount of a component.
pub(crate) fn service_account(component: &str) -> String {
    format!("istio-{component}-service-account")
}

/// DNS names of a component.
pub(crate) fn dns_names(options: &Options, component: &str) -> Vec<String> {
    let Options {
        namespace,
        cluster_domain,
        ..
    } = options;
    let service = format!("istio-{component}");
    let mut names = Vec::new();
    if options.dns_names {
        names.push(format!("{service}.{namespace}.svc"));
        names.push(format!("{service}.{namespace}"));
        names.push(format!("{service}.{namespace}.svc.{cluster_domain}"));
    }
    let key = (namespace.clone(), service_account(component));
    for name in options.custom_names.get(&key).into_iter().flatten() {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// Makes and writes all certificates once. Returns when they are to be renewed.
fn write_all(
    authority: &Authority,
    options: &Options,
    metrics: &Metrics,
    now: SystemTime,
) -> anyhow::Result<Duration> {
    let mut next = Duration::MAX;
    for component in COMPONENTS {
        let written = write_one(authority, options, component, now);
        let result = if written.is_ok() {
            "success"
        } else {
            "failure"
        };
        metrics
            .control_plane_writes
            .with_label_values(&[component, result])
            .inc();
        let issued = written.with_context(|| format!("certificate of {component}"))?;
        tracing::info!(component, serial = %issued.leaf.serial, "control-plane certificate written");
        next = next.min(metrics::half_life(issued.leaf.not_after, now));
    }
    let root = options.dir.join("root-cert.pem");
    atomic::replace(
        &root,
        authority.bundle().root_pem().as_bytes(),
        atomic::PUBLIC,
    )
    .with_context(|| format!("write {}", root.display()))?;
    Ok(next)
}

fn write_one(
    authority: &Authority,
    options: &Options,
    component: &str,
    now: SystemTime,
) -> anyhow::Result<Issued> {
    let identity = Identity::new(
        options.trust_domain.clone(),
        &options.namespace,
        &service_account(component),
    )?;
    let dns = dns_names(options, component);
    let names = Names {
        identity: Some(&identity),
        dns: &dns,
    };
    let issued = authority.issue(&names, Kind::P256, options.ttl, now)?;
    let dir = options.dir.join(component);
    publish(&dir, &issued).with_context(|| format!("write {}", dir.display()))?;
    Ok(issued)
}

fn publish(dir: &Path, issued: &Issued) -> std::io::Result<()> {
    let chain = issued.chain_pem();
    atomic::publish(
        dir,
        &[
            ("cert-chain.pem", chain.as_bytes(), atomic::PUBLIC),
            ("key.pem", issued.key.as_bytes(), atomic::PRIVATE),
            (
                "root-cert.pem",
                issued.bundle.root_pem().as_bytes(),
                atomic::PUBLIC,
            ),
        ],
    )
}

/// Keeps the files current until the drain begins: at half of their life and with each change of
/// the authority. `gate` opens with the first complete set.
pub(crate) async fn run(
    authority: Arc<Authority>,
    options: Options,
    metrics: Metrics,
    gate: Gate,
    drain: drain::Watch,
) {
    let mut changes = authority.subscribe();
    let end = drain.signaled();
    tokio::pin!(end);
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    loop {
        changes.mark_unchanged();
        let (authority, options, metrics) =
            (Arc::clone(&authority), options.clone(), metrics.clone());
        let written = tokio::task::spawn_blocking(move || {
            write_all(&authority, &options, &metrics, SystemTime::now())
        })
        .await;
        let pause = match written {
            Ok(Ok(next)) => {
                gate.open();
                backoff.reset();
                // Spread, so that processes do not reload together.
                next.mul_f64(rand::random_range(0.9..=1.0))
            }
            Ok(Err(error)) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "control-plane certificates not written"
                );
                backoff.next()
            }
            Err(error) => {
                tracing::error!(error = %error, "control-plane certificates not written");
                backoff.next()
            }
        };
        tokio::select! {
            () = &mut end => return,
            () = tokio::time::sleep(pause) => {}
            // An error means that the authority is gone, and with it the process.
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_component() {
        let options = Options {
            dir: PathBuf::new(),
            namespace: "istio-system".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            trust_domain: TrustDomain::new("td").unwrap(),
            dns_names: true,
            custom_names: [(
                (
                    "istio-system".to_owned(),
                    "istio-pilot-service-account".to_owned(),
                ),
                vec!["istio-pilot.istio-system".to_owned(), "extra".to_owned()],
            )]
            .into(),
            ttl: Duration::from_secs(60),
        };
        assert_eq!(
            dns_names(&options, "pilot"),
            [
                "istio-pilot.istio-system.svc",
                "istio-pilot.istio-system",
                "istio-pilot.istio-system.svc.cluster.local",
                "extra",
            ]
        );
        let without = Options {
            dns_names: false,
            ..options
        };
        assert_eq!(dns_names(&without, "galley"), Vec::<String>::new());
    }
}
