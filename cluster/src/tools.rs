//! The programs of Kubernetes, etcd, DNS and Helm: built from pinned Go modules, once for each
//! version of what they are built from.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::ProgressBar;
use sha2::{Digest as _, Sha256};

use mesh::start::binaries::workspace;

/// Names by which the one program of Kubernetes is called.
const KUBE: [&str; 6] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];
/// What is built, from small to large.
const PROGRAMS: [(&str, &str); 5] = [
    ("pause", "./pause"),
    ("helm", "helm.sh/helm/v3/cmd/helm"),
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("coredns", "./dns"),
    ("kube", "./kube"),
];
/// What the build depends on, below the module.
const SOURCES: [&str; 5] = [
    "go.mod",
    "go.sum",
    "dns/main.go",
    "kube/main.go",
    "pause/main.go",
];
/// Written last into a folder of finished programs.
const DONE: &str = ".done";
/// Part of the key: a change of how things are built counts as one of what is built.
const RECIPE: &str = "1";

/// A folder of finished programs.
#[derive(Clone, Debug)]
pub struct Tools {
    directory: PathBuf,
}

impl Tools {
    /// Those that are there, else builds them: about twelve minutes on two cores, and 0.8 GB of
    /// modules to download.
    ///
    /// # Errors
    /// When Go is missing or the build fails.
    pub fn find_or_build(target: &Path) -> Result<Self> {
        let all = target.join("cluster/tools");
        let directory = all.join(key()?);
        if !directory.join(DONE).is_file() {
            std::fs::create_dir_all(&all).with_context(|| format!("make {}", all.display()))?;
            let staging = tempfile::tempdir_in(&all).context("make a directory for the build")?;
            build(staging.path())?;
            std::fs::write(staging.path().join(DONE), "").context("finish the build")?;
            std::fs::rename(staging.keep(), &directory)
                .with_context(|| format!("put {} in place", directory.display()))?;
        }
        Ok(Self { directory })
    }

    /// Path of the program `name`.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn module() -> PathBuf {
    workspace().join("cluster/tools")
}

fn go() -> Command {
    let mut go = Command::new("go");
    go.current_dir(module())
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=readonly");
    go
}

fn ask(arguments: &[&str]) -> Result<String> {
    let output = go().args(arguments).output().context(
        "start go: the cluster's programs are built with Go, which must be 1.26 or newer",
    )?;
    ensure!(
        output.status.success(),
        "go {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn key() -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(RECIPE);
    hash.update(ask(&["version"])?);
    for source in SOURCES {
        let path = module().join(source);
        let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    Ok(hash
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Versions that the programs report, taken from the module so that they are written down once.
fn linker_flags() -> Result<String> {
    let version_of = |module: &str| ask(&["list", "-m", "-f", "{{.Version}}", module]);
    let kubernetes = version_of("k8s.io/kubernetes")?;
    let helm = version_of("helm.sh/helm/v3")?;
    let mut numbers = kubernetes.trim_start_matches('v').split('.');
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        bail!("{kubernetes:?} is not a version of k8s.io/kubernetes");
    };
    let mut flags = format!("-s -w -X helm.sh/helm/v3/internal/version.version={helm}");
    // For which Kubernetes Helm renders when nobody says it.
    for package in ["pkg/chartutil", "pkg/lint/rules"] {
        for (name, value) in [("k8sVersionMajor", major), ("k8sVersionMinor", minor)] {
            flags.push_str(&format!(" -X helm.sh/helm/v3/{package}.{name}={value}"));
        }
    }
    for package in [
        "k8s.io/component-base/version",
        "k8s.io/client-go/pkg/version",
    ] {
        for (name, value) in [
            ("gitVersion", kubernetes.as_str()),
            ("gitMajor", major),
            ("gitMinor", minor),
            ("gitTreeState", "archive"),
            ("gitCommit", "unknown"),
            ("buildDate", "1970-01-01T00:00:00Z"),
        ] {
            flags.push_str(&format!(" -X {package}.{name}={value}"));
        }
    }
    Ok(flags)
}

fn build(directory: &Path) -> Result<()> {
    eprintln!(
        "building Kubernetes, etcd, CoreDNS and Helm, once: about 12 minutes on two cores, 0.8 GB of Go modules"
    );
    let flags = linker_flags()?;
    let start = Instant::now();
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(120));
    for (index, (name, package)) in PROGRAMS.into_iter().enumerate() {
        let what = format!("{name} ({} of {})", index + 1, PROGRAMS.len());
        compile(package, &directory.join(name), &flags, &|packages| {
            bar.set_message(format!(
                "{what}: {packages} packages compiled, {} s",
                start.elapsed().as_secs()
            ));
        })
        .with_context(|| format!("build {what}"))?;
        eprintln!("built {what} after {} s", start.elapsed().as_secs());
    }
    bar.finish_and_clear();
    for name in KUBE {
        symlink("kube", directory.join(name)).with_context(|| format!("link {name}"))?;
    }
    Ok(())
}

/// `progress` is called with the number of compiled packages.
fn compile(package: &str, output: &Path, flags: &str, progress: &dyn Fn(usize)) -> Result<()> {
    let mut child = go()
        .args(["build", "-v", "-buildvcs=false", "-trimpath"])
        .arg(format!("-ldflags={flags}"))
        .arg("-o")
        .arg(output)
        .arg(package)
        .stderr(Stdio::piped())
        .spawn()
        .context("start go")?;
    let lines = child.stderr.take().context("go has no output")?;
    // A compiled package is a line with its path and nothing else; the rest are messages.
    let mut messages = Vec::new();
    let mut packages = 0;
    for line in BufReader::new(lines).lines() {
        let line = line.context("read go's output")?;
        if line.contains(char::is_whitespace) {
            messages.push(line);
        } else {
            packages += 1;
            progress(packages);
        }
    }
    let status = child.wait().context("wait for go")?;
    ensure!(
        status.success(),
        "go build failed:\n{}",
        messages
            .get(messages.len().saturating_sub(20)..)
            .unwrap_or_default()
            .join("\n")
    );
    Ok(())
}
