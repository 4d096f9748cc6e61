//! `cargo xtask test`.

use std::{ffi::OsString, path::PathBuf, process::Command};

use anyhow::{Context as _, ensure};

use crate::step::{Outcome, run as step};

/// The crate whose tests start whole meshes, one at a time.
const MESH: &str = "e2e";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Skip the tests that start the whole mesh
    #[arg(long)]
    no_mesh: bool,
    /// Also run the tests on a real Kubernetes, which is built first if needed (12 minutes)
    #[arg(long, conflicts_with = "no_mesh")]
    cluster: bool,
}

/// Environment variable that enables the cluster tests.
const CLUSTER: &str = "KEELSON_TEST_CLUSTER";

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// Runs every step, also after a failure, and prints a table.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut outcomes = vec![
        step("format", cargo().args(["fmt", "--all", "--check"]))?,
        step(
            "lints",
            cargo()
                .args(["clippy", "--workspace", "--all-targets", "--locked", "--"])
                .args(["-D", "warnings"]),
        )?,
        supply_chain()?,
    ];
    let envoy = envoy();
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    if args.no_mesh {
        println!("SKIPPED the tests of the mesh: --no-mesh");
        tests.args(["--exclude", MESH]);
    }
    if args.cluster {
        outcomes.push(kubernetes()?);
        tests.env(CLUSTER, "1");
    }
    match &envoy {
        Ok(path) => {
            tests.env("ENVOY_BIN", path).env("MESH_ENVOY", path);
        }
        Err(error) => println!("SKIPPED tests with a real Envoy: {error:#}"),
    }
    // Tests print why they were skipped; otherwise the runner captures the output.
    tests.args(["--", "--show-output"]);
    outcomes.push(step(
        "unit, property, golden, process and mesh tests",
        &mut tests,
    )?);
    outcomes.push(step(
        "documentation",
        cargo()
            .args(["doc", "--workspace", "--no-deps", "--locked", "--quiet"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?);
    report(&outcomes, envoy.err())
}

/// Licences, banned crates and sources, checked by cargo-deny if it is installed.
fn supply_chain() -> anyhow::Result<Outcome> {
    let installed = cargo()
        .args(["deny", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if installed {
        return step(
            "supply chain",
            cargo().args(["deny", "check", "bans", "licenses", "sources"]),
        );
    }
    println!("\n== supply chain");
    Ok(Outcome {
        name: "supply chain",
        passed: true,
        elapsed: std::time::Duration::ZERO,
        skipped: vec![
            "SKIPPED licences and sources: cargo-deny is not installed (cargo install cargo-deny)"
                .to_owned(),
        ],
    })
}

/// The programs of the cluster: their first build takes longer than all other steps.
fn kubernetes() -> anyhow::Result<Outcome> {
    let cluster = crate::mesh::build()?.with_file_name("cluster");
    step("Kubernetes", Command::new(cluster).arg("prepare"))
}

/// The Envoy that tests use, fetched if it is missing.
fn envoy() -> anyhow::Result<PathBuf> {
    println!("\n== envoy");
    let output = Command::new(crate::mesh::build()?)
        .arg("envoy")
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run mesh envoy")?;
    ensure!(
        output.status.success(),
        "cannot get Envoy: see the messages above"
    );
    let path = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    ensure!(path.is_file(), "{} is not a file", path.display());
    println!("{}", path.display());
    Ok(path)
}

fn report(outcomes: &[Outcome], no_envoy: Option<anyhow::Error>) -> anyhow::Result<()> {
    println!("\n{:<48} {:>8}  result", "step", "seconds");
    for outcome in outcomes {
        let result = if outcome.passed { "passed" } else { "FAILED" };
        println!(
            "{:<48} {:>8.1}  {result}",
            outcome.name,
            outcome.elapsed.as_secs_f64()
        );
    }
    let skipped = outcomes.iter().flat_map(|outcome| outcome.skipped.iter());
    for line in skipped.clone() {
        println!("{line}");
    }
    if let Some(error) = &no_envoy {
        println!("FAILED tests with a real Envoy could not run: {error:#}");
    }
    let failed =
        outcomes.iter().filter(|outcome| !outcome.passed).count() + usize::from(no_envoy.is_some());
    let passed = outcomes.len() + usize::from(no_envoy.is_some()) - failed;
    println!(
        "{passed} passed, {failed} failed, {} skipped",
        skipped.count()
    );
    ensure!(failed == 0, "{failed} steps failed");
    Ok(())
}
