//! The system's tools that a mesh needs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// A program and the Debian package that has it.
pub type Tool = (&'static str, &'static str);

const TOOLS: [Tool; 3] = [
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("iptables-restore", "iptables"),
];
/// Where administrators' programs are, whether or not the caller's `PATH` says so.
const PLACES: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

fn is_there(program: &str) -> bool {
    PLACES
        .iter()
        .any(|place| Path::new(place).join(program).exists())
}

/// Checks that every tool is there; as root on Debian or Ubuntu installs what is missing.
///
/// # Errors
/// When something is missing and cannot be installed; the text names the command that gets it.
pub fn ensure() -> Result<()> {
    install(missing(&TOOLS))
}

/// The packages of the programs that are not there.
#[must_use]
pub fn missing(tools: &[Tool]) -> Vec<&'static str> {
    let mut packages: Vec<&str> = tools
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Installs packages with apt-get.
///
/// # Errors
/// Without root or apt-get, or when it fails; the text names the command that gets them.
pub fn install(packages: Vec<&'static str>) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let can_install = nix::unistd::geteuid().is_root() && is_there("apt-get");
    if !can_install {
        bail!("missing system packages: {list}; on Debian and Ubuntu: sudo apt-get install {list}");
    }
    eprintln!("installing {list} with apt-get");
    for arguments in [
        vec!["update", "--quiet"],
        [
            vec!["install", "--quiet", "--yes", "--no-install-recommends"],
            packages,
        ]
        .concat(),
    ] {
        let status = Command::new("apt-get")
            .args(&arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(std::process::Stdio::null())
            .status()
            .context("start apt-get")?;
        if !status.success() {
            bail!(
                "apt-get {} failed; install {list} by hand",
                arguments.join(" ")
            );
        }
    }
    Ok(())
}
