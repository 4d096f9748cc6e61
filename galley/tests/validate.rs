//! `galley validate` as a process.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::process::{Command, Output};

fn validate(text: &str) -> Output {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_galley"));
    command.arg("validate").arg(file.path()).output().unwrap()
}

#[test]
fn the_codes_say_what_was_found() {
    let sidecar = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: a}\nspec:\n";
    for (spec, code, says) in [
        ("  egress: [{hosts: [./*]}]\n", 0, ""),
        (
            "  egress: [{hosts: ['*'], port: {number: 99999}}]\n",
            1,
            "2 errors occurred",
        ),
        ("  egress: [\n", 65, "line"),
    ] {
        let output = validate(&format!("{sidecar}{spec}"));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(says), "{text}");
    }
    let none = Command::new(env!("CARGO_BIN_EXE_galley"))
        .arg("validate")
        .output();
    assert_eq!(none.unwrap().status.code(), Some(64));
}
