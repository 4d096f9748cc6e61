//! The direction of dependencies: between the crates of the workspace, and between the modules of
//! each crate. The first two tables are the whole of what is to be edited when a crate is added.

mod crates;
mod picture;
mod rooms;

use anyhow::ensure;

/// Which workspace crates each crate may use. An arrow may only point down.
const ALLOWED: &[(&str, &[&str])] = &[
    ("istio-api", &[]),
    ("istio-rules", &["istio-api"]),
    ("pilot-model", &["istio-api", "istio-rules"]),
    ("pilot-networking", &["istio-api", "pilot-model"]),
    ("pilot-xds", &["istio-api", "pilot-networking"]),
    ("mesh-core", &["istio-api"]),
    ("mesh-common", &["istio-api", "istio-rules", "mesh-core"]),
    ("galley-engine", &["istio-api", "istio-rules", "mesh-core"]),
    (
        "galley",
        &[
            "galley-engine",
            "istio-api",
            "istio-rules",
            "mesh-common",
            "mesh-core",
        ],
    ),
    (
        "pilot-discovery",
        &[
            "istio-api",
            "istio-rules",
            "mesh-common",
            "mesh-core",
            "pilot-model",
            "pilot-networking",
            "pilot-xds",
        ],
    ),
    ("citadel", &["istio-api", "mesh-common", "mesh-core"]),
    (
        "sidecar-injector",
        &["istio-api", "mesh-common", "mesh-core"],
    ),
    ("pilot-agent", &["istio-api", "mesh-common", "mesh-core"]),
    (
        "istioctl",
        &[
            "istio-api",
            "istio-rules",
            "mesh-common",
            "mesh-core",
            "sidecar-injector",
        ],
    ),
    (
        "fuzz",
        &["galley", "galley-engine", "istio-api", "mesh-core"],
    ),
    ("samples", &[]),
    ("mesh", &[]),
    (
        "bench",
        &[
            "istio-api",
            "mesh",
            "mesh-common",
            "sidecar-injector",
            "mesh-core",
        ],
    ),
    ("cluster", &["mesh", "mesh-common"]),
    ("xtask", &[]),
];

/// The crate that may use every other.
const TOP: &str = "e2e";

/// Crates that decide and must stay free of IO, with what they must never reach.
const PURE: &[&str] = &[
    "istio-api",
    "istio-rules",
    "mesh-core",
    "galley-engine",
    "pilot-model",
    "pilot-networking",
    "pilot-xds",
];
const IMPURE: &[&str] = &["tokio", "tonic", "hyper", "kube", "axum", "mio", "socket2"];

/// A second cryptography provider must not come in.
const FORBIDDEN: &[&str] = &["ring", "openssl", "native-tls"];

/// Circles of modules that are still there. The list only shrinks: a new circle fails the check, and
/// so does an entry that is no longer one.
const KNOWN: &[rooms::Known] = &[];

/// Prints the picture of the crates, then checks crates and modules.
pub(crate) fn check() -> anyhow::Result<()> {
    let workspace = crates::Workspace::read()?;
    print!("{}", picture::draw(ALLOWED, TOP, PURE));
    let mut problems = workspace.graph.problems();
    problems.extend(crates::forbidden(&crates::compiled()?));
    let found = rooms::find(&workspace.roots)?;
    problems.extend(rooms::problems(&found, KNOWN));
    ensure!(
        problems.is_empty(),
        "dependencies against the layers:\n  {}",
        problems.join("\n  ")
    );
    println!(
        "layers: {} crates depend downwards only; {} known circles of modules",
        workspace.graph.members.len(),
        found.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_workspace_keeps_its_layers() {
        super::check().unwrap();
    }
}
