//! `cargo xtask bench push`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use e2e::load::{
    run::{Args, run},
    table::table,
};

fn main() -> ExitCode {
    let args = Args::parse();
    match bench(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let results = runtime.block_on(run(args))?;
    let json = serde_json::to_string_pretty(&results)?;
    let here = std::env::current_exe()?;
    // <target>/<profile>/bench-push
    let target = here.ancestors().nth(2).context("the target directory")?;
    let dir = target.join("bench");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("push.json"), &json)?;
    if args.json {
        println!("{json}");
    } else {
        print!("{}", table(&results));
    }
    Ok(())
}
