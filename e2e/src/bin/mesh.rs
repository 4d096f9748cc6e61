//! `cargo mesh`: the whole mesh on one machine.

fn main() -> std::process::ExitCode {
    e2e::cli::main()
}
