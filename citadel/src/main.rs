//! The binary `citadel`, also installed as `istio_ca`.

use std::process::ExitCode;

mesh_common::allocator!();

fn main() -> ExitCode {
    match mesh_common::process::parse::<citadel::Args>() {
        Ok(args) => citadel::start(args),
        Err(code) => code,
    }
}
