//! The whole mesh as an ordinary user, through the command line.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use mesh::start::{binaries, envoy, tools};
use serde_json::Value;

/// `nobody`: it has no subordinate ids, which is the harder case.
const USER: u32 = 65_534;

fn mesh(program: &Path, directory: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .args(["--json", "--dir"])
        .arg(directory)
        .current_dir("/")
        .env("MESH_ENVOY", envoy(program)?)
        .uid(USER)
        .gid(USER);
    command.output().context("start mesh as nobody")
}

fn envoy(program: &Path) -> Result<std::path::PathBuf> {
    envoy::find(
        None,
        program.ancestors().nth(2).context("no target directory")?,
    )
}

fn json(output: &Output) -> Result<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(&text).context("understand the answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_user_runs_the_whole_mesh() -> Result<()> {
    let _turn = crate::fixture::turn().await;
    if !nix::unistd::getuid().is_root() {
        println!(
            "SKIPPED the mesh as another user: only root can become one; the other tests are this one"
        );
        return Ok(());
    }
    tools::ensure()?;
    binaries::build(false)?;
    let program = crate::fixture::program()?;
    let directory = tempfile::tempdir()?;
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777))?;
    let state = directory.path().join("mesh");
    let mut probe = Command::new(&program);
    if probe.arg("--version").uid(USER).gid(USER).output().is_err() {
        println!("SKIPPED the mesh as another user: nobody may not enter the target directory");
        return Ok(());
    }

    let up = json(&mesh(&program, &state, &["up", "--no-build"])?)?;
    assert_eq!(up["status"]["settled"], true);
    let checked = mesh(
        &program,
        &state,
        &["check", "request-routing", "mutual-tls", "egress"],
    )?;
    let down = mesh(&program, &state, &["down"])?;
    let checked = json(&checked)?;
    assert_eq!(checked["passed"], true, "{checked:#}");
    assert_eq!(json(&down)?["down"], true);
    Ok(())
}
