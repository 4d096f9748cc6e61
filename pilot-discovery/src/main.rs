//! Entry point of `pilot-discovery`.

use std::{process::ExitCode, time::Duration};

use mesh_common::process;
use pilot_discovery::{
    args::{Cli, Command},
    request, run,
};

mesh_common::allocator!();

fn main() -> ExitCode {
    let cli = match process::parse::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli.command {
        Command::Discovery(args) => {
            process::run(&cli.log, args.shutdown, |drain| run::run(*args, drain))
        }
        Command::Request(args) => process::run(&cli.log, Duration::ZERO, |_| async move {
            println!("{}", request::run(&args).await?);
            Ok(())
        }),
        Command::Version(version) => {
            println!("{}", version.render());
            ExitCode::SUCCESS
        }
    }
}
