//! Load on the injector: in one process, and through an API server.
//!
//! ```text
//! Pods of the samples ─► AdmissionReview ─► sidecar_injector::review ─► patch      (in process)
//! Pods of the samples ─► API server (dry run) ─► webhook ─► injector ─► answer     (--kubeconfig)
//! ```

pub mod cluster;
pub mod local;
pub mod table;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use table::Results;

/// Settings of the benchmark.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "bench inject", about = "Time to inject a Pod")]
pub struct Args {
    /// Prints JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Injections of each Pod in process
    #[arg(long, default_value_t = 2_000)]
    pub rounds: usize,
    /// A cluster with the injector installed; without it only the first part is measured
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Pods a second through the API server
    #[arg(long, default_value_t = 50)]
    pub rate: u32,
    /// Seconds of each of both measurements
    #[arg(long, default_value_t = 20)]
    pub seconds: u32,
}

/// Measures.
///
/// # Errors
/// When a Pod is not injected, or the API server refuses one.
pub async fn run(args: &Args) -> Result<Results> {
    let pods = pods()?;
    let mut rows = vec![local::measure(&pods, args.rounds)?];
    if let Some(kubeconfig) = &args.kubeconfig {
        rows.extend(cluster::measure(kubeconfig, &pods, args.rate, args.seconds).await?);
    }
    Ok(Results { rows })
}

/// A Pod as each Deployment of the samples makes it.
fn pods() -> Result<Vec<Value>> {
    let mut pods = Vec::new();
    for source in mesh::start::samples()? {
        for (key, object) in mesh::manifest::parse(&source)? {
            if key.kind != "Deployment" || key.namespace != "default" {
                continue;
            }
            let template = object
                .pointer("/spec/template")
                .context("a Deployment has a template")?;
            let mut pod = template.clone();
            let members = pod.as_object_mut().context("a template is an object")?;
            members.insert("apiVersion".to_owned(), json!("v1"));
            members.insert("kind".to_owned(), json!("Pod"));
            let metadata = pod
                .pointer_mut("/metadata")
                .and_then(Value::as_object_mut)
                .context("a template has metadata")?;
            metadata.insert("generateName".to_owned(), json!(format!("{}-", key.name)));
            // Of the namespace's own account: those of the samples are not there.
            if let Some(spec) = pod.pointer_mut("/spec").and_then(Value::as_object_mut) {
                spec.remove("serviceAccountName");
            }
            pods.push(pod);
        }
    }
    Ok(pods)
}
