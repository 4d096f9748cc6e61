//! `cargo xtask fuzz`: runs libFuzzer on every target, without a nightly compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

/// Each target has a program in `fuzz/libfuzzer` and a folder in `fuzz/corpus`.
const TARGETS: &[&str] = &["admission", "configuration", "mcp-sink", "mcp-source"];

/// Coverage counters and comparisons for libFuzzer; LLVM options that the stable compiler accepts.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
     -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cforce-frame-pointers";

/// Only for the programs, not for build scripts and macros.
const HOST: &str = "x86_64-unknown-linux-gnu";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run only these targets
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS))]
    targets: Vec<String>,
    /// Seconds per target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Builds the programs and runs them one after the other, also after a failure.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = root.join("target/fuzz");
    build(&root, &target)?;
    let mut failed = Vec::new();
    for name in TARGETS {
        let is_wanted = args.targets.is_empty() || args.targets.iter().any(|one| one == name);
        if is_wanted && !feed(&root, &target, name, args.seconds)? {
            failed.push(*name);
        }
    }
    ensure!(
        failed.is_empty(),
        "{}: an input that fails is in target/fuzz/found; keep it in fuzz/corpus as a test",
        failed.join(", ")
    );
    Ok(())
}

fn build(root: &Path, target: &Path) -> anyhow::Result<()> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        bail!("the fuzzers are built for {HOST} only");
    }
    println!("building the fuzzers; the first time this takes some minutes");
    // The versions of the workspace; cargo adds what is only here.
    let lock = root.join("fuzz/libfuzzer/Cargo.lock");
    std::fs::copy(root.join("Cargo.lock"), &lock)
        .with_context(|| format!("cannot write {}", lock.display()))?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--target", HOST])
        .arg("--manifest-path")
        .arg(root.join("fuzz/libfuzzer/Cargo.toml"))
        .env("CARGO_TARGET_DIR", target)
        .env("RUSTFLAGS", COVERAGE)
        .status()
        .context("cannot start cargo")?;
    ensure!(built.success(), "the build failed");
    Ok(())
}

/// Runs one target; returns false if an input failed. New inputs are stored in
/// `target/fuzz/corpus`.
fn feed(root: &Path, target: &Path, name: &str, seconds: u64) -> anyhow::Result<bool> {
    let (made, found) = (target.join("corpus").join(name), target.join("found"));
    for folder in [&made, &found] {
        std::fs::create_dir_all(folder)?;
    }
    println!("\n== {name}, {seconds} s");
    let status = Command::new(target.join(HOST).join("release").join(name))
        .arg(made)
        .arg(root.join("fuzz/corpus").join(name))
        .arg(format!("-artifact_prefix={}/{name}-", found.display()))
        .arg(format!("-max_total_time={seconds}"))
        // Seconds for one input, and megabytes of the process.
        .args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=16384"])
        .args(["-print_final_stats=1", "-verbosity=0"])
        .status()
        .with_context(|| format!("cannot start {name}"))?;
    Ok(status.success())
}
