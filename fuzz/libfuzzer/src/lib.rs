//! From the name of a program to its target.

/// Gives `bytes` to the target of this name.
pub fn run(name: &str, bytes: &[u8]) {
    let target = fuzz::TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of this name").run)(bytes);
}
