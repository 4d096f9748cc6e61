//! `cargo mesh`: the whole mesh on one machine.

fn main() -> std::process::ExitCode {
    mesh::cli::main()
}
