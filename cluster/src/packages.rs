//! System packages that the node needs.

use anyhow::{Result, ensure};

use mesh::start::tools::{self, Tool};

/// Folder of Debian's CNI plugins.
pub const CNI: &str = "/usr/lib/cni";

const TOOLS: [Tool; 9] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("conntrack", "conntrack"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("socat", "socat"),
    ("mount", "mount"),
];

/// Checks that everything is there; on Debian installs what is missing.
///
/// # Errors
/// Without root, or when something is missing and cannot be installed; the text says what.
pub fn ensure() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "a cluster needs root: containers, control groups and mounts that Kubernetes makes itself"
    );
    let mut missing = tools::missing(&TOOLS);
    if !std::path::Path::new(CNI).join("bridge").exists() {
        missing.push("containernetworking-plugins");
    }
    tools::install(missing)
}
