//! Maps the name of a program to its fuzz target.

/// Passes `bytes` to the target of this name.
pub fn run(name: &str, bytes: &[u8]) {
    let target = fuzz::TARGETS.iter().find(|target| target.name == name);
    (target.expect("unknown fuzz target").run)(bytes);
}
