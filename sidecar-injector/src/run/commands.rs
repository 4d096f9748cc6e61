//! Subcommands that do not serve.

use crate::args::{Probe, Render};
use crate::config::{Config, Settings, default_injection};
use crate::inject::{Outcome, Request, inject};
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Tolerated excess of the file's age over the interval.
const SLACK: Duration = Duration::from_millis(10);

pub(super) fn probe(args: &Probe) -> anyhow::Result<()> {
    let path = args.path.display();
    let written = std::fs::metadata(&args.path)
        .and_then(|metadata| metadata.modified())
        .with_context(|| format!("cannot read {path}"))?;
    let age = SystemTime::now()
        .duration_since(written)
        .unwrap_or_default();
    if age > args.interval + SLACK {
        bail!("{path} is {age:?} old: want at most {:?}", args.interval);
    }
    println!("OK");
    Ok(())
}

pub(super) fn render(args: &Render) -> anyhow::Result<()> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let optional = |path: &Option<PathBuf>| path.as_ref().map(read).transpose();
    let injection = optional(&args.config)?.unwrap_or_else(default_injection);
    let values = optional(&args.values)?.unwrap_or_default();
    let mesh = optional(&args.mesh)?.unwrap_or_default();
    let config = Config::parse(&injection, &values, &mesh, Settings::default())?;
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    let pod: Value = serde_yaml::from_str(&read(&args.pod)?)
        .with_context(|| format!("{} is not valid YAML", args.pod.display()))?;
    let request = Request {
        namespace: &args.namespace,
        url_env: &[],
        workload: None,
    };
    match inject(&pod, &request, &config)? {
        Outcome::Skipped { reason, .. } => eprintln!("not injected: {reason}"),
        Outcome::Injected(injected) => {
            for warning in &injected.warnings {
                eprintln!("warning: {warning}");
            }
            if args.patch {
                println!("{}", serde_json::to_string_pretty(&injected.patch)?);
            } else {
                print!("{}", serde_yaml::to_string(&injected.pod)?);
            }
        }
    }
    Ok(())
}
