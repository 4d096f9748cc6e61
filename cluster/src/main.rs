//! `cargo xtask cluster` and `cargo xtask images`.

fn main() -> std::process::ExitCode {
    cluster::cli::main()
}
