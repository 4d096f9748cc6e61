//! Configuration of the injection: files and, for those that are not given, the ConfigMaps in the
//! cluster that the webhook uses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use sidecar_injector::config::{Config, Policy, Settings};

use crate::args::{Global, KubeInject};
use crate::cluster::Cluster;

/// Timeout of reading both ConfigMaps.
const LIMIT: Duration = Duration::from_secs(30);

/// All inputs of the library.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) config: Config,
    /// Namespace of objects without one.
    pub(super) namespace: String,
}

pub(super) fn read(global: &Global, args: &KubeInject) -> Result<Found> {
    let is_offline = args.inject_config_file.is_some() && args.mesh_config_file.is_some();
    // With all files given, no cluster is needed.
    let remote = if is_offline {
        Remote::default()
    } else {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?
            .block_on(async { tokio::time::timeout(LIMIT, remote(global, args)).await })
            .context("the cluster did not respond in time")??
    };
    let injection = pick(
        args.inject_config_file.as_deref(),
        &remote.injector,
        "config",
        || remote.named(global, &args.inject_config_map, &args.revision),
    )?;
    let values = match (&args.values_file, &args.inject_config_file) {
        (Some(path), _) => text_of(path)?,
        (None, Some(_)) => String::new(),
        (None, None) => remote.injector.get("values").cloned().unwrap_or_default(),
    };
    let mesh = pick(
        args.mesh_config_file.as_deref(),
        &remote.mesh,
        "mesh",
        || remote.named(global, &args.mesh_config_map, &args.revision),
    )?;
    let settings = Settings {
        revision: args.revision.clone(),
        ..Settings::default()
    };
    let mut config = Config::parse(&injection, &values, &mesh, settings)?;
    // The command asks for injection, so the policy does not apply.
    config.policy = Policy::Enabled;
    let namespace = global
        .namespace
        .clone()
        .or(remote.namespace)
        .unwrap_or_else(|| "default".to_owned());
    Ok(Found { config, namespace })
}

/// Data in the ConfigMaps.
#[derive(Debug, Default)]
struct Remote {
    injector: BTreeMap<String, String>,
    mesh: BTreeMap<String, String>,
    namespace: Option<String>,
}

impl Remote {
    fn named(&self, global: &Global, name: &str, revision: &str) -> String {
        format!(
            "ConfigMap {}/{}",
            global.istio_namespace,
            with_revision(name, revision)
        )
    }
}

fn with_revision(name: &str, revision: &str) -> String {
    if matches!(revision, "" | "default") {
        name.to_owned()
    } else {
        format!("{name}-{revision}")
    }
}

async fn remote(global: &Global, args: &KubeInject) -> Result<Remote> {
    let cluster = Cluster::connect(global.kubeconfig.as_deref(), global.context.as_deref()).await?;
    let read = async |name: &str, is_wanted: bool| -> Result<BTreeMap<String, String>> {
        if !is_wanted {
            return Ok(BTreeMap::new());
        }
        let name = with_revision(name, &args.revision);
        let namespace = &global.istio_namespace;
        let map: Option<ConfigMap> = cluster.get(namespace, &name).await?;
        let map = map.with_context(|| {
            format!("ConfigMap {namespace}/{name} does not exist: name another one, or use files")
        })?;
        Ok(map.data.unwrap_or_default())
    };
    Ok(Remote {
        injector: read(&args.inject_config_map, args.inject_config_file.is_none()).await?,
        mesh: read(&args.mesh_config_map, args.mesh_config_file.is_none()).await?,
        namespace: Some(cluster.namespace.clone()),
    })
}

/// Content of the file, or the entry of the ConfigMap.
fn pick(
    file: Option<&Path>,
    map: &BTreeMap<String, String>,
    entry: &str,
    named: impl Fn() -> String,
) -> Result<String> {
    match file {
        Some(path) => text_of(path),
        None => map
            .get(entry)
            .cloned()
            .with_context(|| format!("{} has no entry {entry}", named())),
    }
}

fn text_of(path: &(impl AsRef<Path> + ?Sized)) -> Result<String> {
    let path: PathBuf = path.as_ref().to_owned();
    ensure!(path.is_file(), "{} is not a file", path.display());
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
