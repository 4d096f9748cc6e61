//! Benchmarks of whole processes, with simulated peers: `cargo xtask bench`.

pub mod config;
pub mod inject;
pub mod process;
pub mod push;

use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;

/// Runs a benchmark, prints its table (or JSON), and writes JSON to `target/bench/<name>.json`.
pub fn report<T: Serialize>(
    name: &str,
    json: bool,
    run: impl Future<Output = anyhow::Result<T>>,
    table: impl FnOnce(&T) -> String,
) -> ExitCode {
    let done = || -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let results = runtime.block_on(run)?;
        let text = serde_json::to_string_pretty(&results)?;
        let here = std::env::current_exe()?;
        // <target>/<profile>/bench-<name>
        let target = here.ancestors().nth(2).context("the target directory")?;
        let folder = target.join("bench");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("{name}.json")), &text)?;
        if json {
            println!("{text}");
        } else {
            print!("{}", table(&results));
        }
        Ok(())
    };
    match done() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
