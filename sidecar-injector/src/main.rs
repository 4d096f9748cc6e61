//! Entry point of the injection webhook.

use mesh_common::process;
use sidecar_injector::Args;
use std::process::ExitCode;
use std::time::Duration;

mesh_common::allocator!();

/// Time for requests in progress after a termination signal.
const DEADLINE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let args: Args = match process::parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    let log = args.log.clone();
    process::run(&log, DEADLINE, |shutdown| {
        sidecar_injector::run(args, shutdown)
    })
}
