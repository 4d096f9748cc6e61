//! Starting a mesh: what is needed, the node, the control plane, the workloads.

pub mod binaries;
pub mod control_plane;
pub mod envoy;
pub mod tools;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Service;

use crate::handle::Mesh;
use crate::layout::Layout;
use crate::lifeline::Lifeline;
use crate::manifest::{self, Source};
use crate::node::config::{NodeConfig, Publish};
use crate::state;

/// Manifests of the samples that make up the default mesh, below the workspace.
const SAMPLES: [&str; 8] = [
    "samples/manifests/namespaces.yaml",
    "samples/manifests/bookinfo/bookinfo.yaml",
    "samples/manifests/bookinfo/bookinfo-gateway.yaml",
    "samples/manifests/bookinfo/destination-rule-all.yaml",
    "samples/manifests/gateway",
    "samples/manifests/httpbin/httpbin.yaml",
    "samples/manifests/sleep/sleep.yaml",
    "samples/manifests/tcp-echo",
];

/// The manifests of the default mesh.
///
/// # Errors
/// When one cannot be read.
pub fn samples() -> Result<Vec<Source>> {
    let paths = SAMPLES.map(|path| binaries::workspace().join(path));
    manifest::read_paths(&paths)
}

/// What a mesh is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it keeps its files.
    pub layout: Layout,
    /// The program with the node's sub-commands (`mesh`).
    pub program: PathBuf,
    /// Programs for containers: name to path.
    pub binaries: BTreeMap<String, PathBuf>,
    /// Whether to run the control plane; without it no Pod gets a sidecar.
    pub control_plane: bool,
    /// Manifests to apply after the control plane's.
    pub sources: Vec<Source>,
    /// Log filter of the node.
    pub log_filter: String,
}

/// A node that was started and ends with this value, unless it is let go.
#[derive(Debug)]
pub struct Started {
    /// The mesh.
    pub mesh: Mesh,
    lifeline: Lifeline,
}

impl Started {
    /// Lets the mesh live on after this process.
    ///
    /// # Errors
    /// When the node has ended.
    pub fn detach(self) -> Result<Mesh> {
        self.lifeline.detach()?;
        Ok(self.mesh)
    }

    /// Ends the mesh and waits for the end.
    ///
    /// # Errors
    /// When the supervisor cannot be waited for.
    pub fn end(self) -> Result<()> {
        self.lifeline.end()
    }

    /// Whether the node has ended by itself.
    ///
    /// # Errors
    /// When the supervisor cannot be asked.
    pub fn has_ended(&mut self) -> Result<bool> {
        self.lifeline.has_ended()
    }
}

/// Starts the node and applies the control plane and the manifests. Returns as soon as that is
/// done; [`Mesh::wait_settled`] waits for the Pods.
///
/// # Errors
/// When a mesh is up already, a manifest is not understood, or the node cannot be started; the
/// text carries the end of its log.
pub async fn start(options: Options) -> Result<Started> {
    let Options {
        layout,
        program,
        binaries,
        control_plane,
        sources,
        log_filter,
    } = options;
    let publish = published_ports(&sources)?;
    state::clear(&layout)?;
    std::fs::create_dir_all(layout.settings())
        .with_context(|| format!("make {}", layout.settings().display()))?;
    control_plane::write_settings(&layout)?;
    let config = NodeConfig {
        layout: layout.clone(),
        binaries,
        publish,
        log_filter,
    };
    let config = config.write()?;
    let started = tokio::task::spawn_blocking(move || launch(&program, &layout, &config))
        .await
        .context("start the node")??;
    let mut all = if control_plane {
        control_plane::sources()
    } else {
        Vec::new()
    };
    all.extend(sources);
    started.mesh.apply_sources(&all).await?;
    Ok(started)
}

fn launch(program: &Path, layout: &Layout, config: &Path) -> Result<Started> {
    let mut command = Command::new(program);
    let lifeline = Lifeline::start(command.arg("node").arg(config), &layout.node_log())?;
    Ok(Started {
        mesh: Mesh::attach(layout.clone())?,
        lifeline,
    })
}

/// The ports of Services of type LoadBalancer: they are published on the host's loopback,
/// privileged ones 8000 higher.
///
/// # Errors
/// When a manifest is not understood.
pub fn published_ports(sources: &[Source]) -> Result<Vec<Publish>> {
    let mut publish = Vec::new();
    for source in sources {
        for (key, object) in manifest::parse(source)? {
            if !(key.group.is_empty() && key.kind == "Service") {
                continue;
            }
            let service: Service = serde_json::from_value(object)
                .with_context(|| format!("{}: {key}", source.origin))?;
            let spec = service.spec.unwrap_or_default();
            if spec.type_.as_deref() != Some("LoadBalancer") {
                continue;
            }
            for port in spec.ports.iter().flatten() {
                let number = u16::try_from(port.port)
                    .with_context(|| format!("{}: {key}: port {}", source.origin, port.port))?;
                publish.push(Publish {
                    namespace: key.namespace.clone(),
                    service: key.name.clone(),
                    port_name: port.name.clone().unwrap_or_default(),
                    port: number,
                    listen: preferred_port(number),
                });
            }
        }
    }
    Ok(publish)
}

fn preferred_port(port: u16) -> u16 {
    match port {
        80 => 8080,
        port if port < 1_024 => port + 8_000,
        port => port,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_balancer_ports_are_published() {
        let source = Source {
            origin: "x".into(),
            text: "apiVersion: v1\nkind: Service\nmetadata: {name: gw, namespace: edge}\n\
                   spec: {type: LoadBalancer, ports: [{name: a, port: 80}, {name: b, port: 443}, {name: c, port: 31400}]}\n\
                   ---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"
                .into(),
        };
        let ports: Vec<(u16, u16)> = published_ports(&[source])
            .unwrap()
            .iter()
            .map(|publish| (publish.port, publish.listen))
            .collect();
        assert_eq!(ports, [(80, 8_080), (443, 8_443), (31_400, 31_400)]);
    }
}
