//! `cargo xtask cluster` and `cargo xtask images`.

fn main() -> std::process::ExitCode {
    e2e::cluster::cli::main()
}
