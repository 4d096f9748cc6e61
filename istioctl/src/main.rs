//! Entry point of `istioctl`.

use std::process::ExitCode;

fn main() -> ExitCode {
    istioctl::cli::main()
}
