//! Where a mesh keeps its files: one directory, by default `target/mesh` of the workspace.

use std::path::{Path, PathBuf};

/// Paths below the state directory. Nothing outside of it is written.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// A layout below `root`, which need not exist yet but must be absolute.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The state directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Who runs: pid, start time, published addresses (JSON).
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.root.join("state.json")
    }

    /// What the node was started with (JSON).
    #[must_use]
    pub fn node_config(&self) -> PathBuf {
        self.root.join("node.json")
    }

    /// The control API's Unix socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    /// Log of the node process.
    #[must_use]
    pub fn node_log(&self) -> PathBuf {
        self.root.join("node.log")
    }

    /// Logs of the containers.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Log of one container.
    #[must_use]
    pub fn container_log(&self, namespace: &str, pod: &str, container: &str) -> PathBuf {
        self.logs()
            .join(format!("{namespace}_{pod}_{container}.log"))
    }

    /// What Pods see as `/var/lib/mesh` through a `hostPath` volume.
    #[must_use]
    pub fn shared(&self) -> PathBuf {
        self.root.join("shared")
    }

    /// The directory that galley watches, one file per object. Its parent is what is mounted,
    /// so that the directory itself may vanish and come back.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        self.shared().join("config").join("objects")
    }

    /// Where citadel keeps the CA and writes the mesh root.
    #[must_use]
    pub fn citadel(&self) -> PathBuf {
        self.shared().join("citadel")
    }

    /// The mesh root certificate (PEM), written by citadel.
    #[must_use]
    pub fn root_certificate(&self) -> PathBuf {
        self.citadel().join("root-cert.pem")
    }

    /// Certificates of the control plane's servers, written by citadel.
    #[must_use]
    pub fn control_plane_certificates(&self) -> PathBuf {
        self.shared().join("certs")
    }

    /// Kubernetes Secrets with certificates, which only pilot-discovery gets to see.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.shared().join("secrets")
    }

    /// Static configuration of the control plane: mesh config, injection template, access list.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.shared().join("settings")
    }

    /// Public keys of the token issuer.
    #[must_use]
    pub fn jwks(&self) -> PathBuf {
        self.settings().join("jwks.json")
    }

    /// Mount point of the node's private tmpfs; empty for everybody else.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Volumes and settings of one Pod, on the private tmpfs.
    #[must_use]
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.run().join("pods").join(uid)
    }

    /// Mount point on which each container's helper builds that container's root.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.run().join("root")
    }

    /// What every container shares: read-only `/usr`, `/dev`.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.run().join("image")
    }

    /// The mesh's own binaries and Envoy, mounted at `/usr/local/bin`.
    #[must_use]
    pub fn binaries(&self) -> PathBuf {
        self.run().join("bin")
    }
}
