//! Every scenario under `tests/fixtures`: the resources of one proxy are those written down beside
//! it, and Envoy takes them.
//!
//! A scenario is a folder with `input.yaml` (configuration objects, the oldest first; a
//! `SyntheticServiceEntry` stands for a Kubernetes Service) and `proxy.yaml` (the xDS node). Its
//! `resources.snap` is written by `cargo insta review`, or with `INSTA_UPDATE=always`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use std::path::{Path, PathBuf};

mod alias;
mod classes;
mod compose;
mod details;
mod egress;
mod envoy;
mod fixture;
mod keys;
mod legacy;

use fixture::Fixture;

fn scenarios() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found: Vec<PathBuf> = std::fs::read_dir(&root)
        .unwrap_or_else(|error| panic!("{}: {error}", root.display()))
        .map(|entry| entry.expect("folder can be read").path())
        .filter(|path| path.join("input.yaml").is_file())
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no scenario under {}", root.display());
    found
}

#[test]
fn resources_are_as_written_down() {
    for scenario in scenarios() {
        let all = compose::all(&Fixture::load(&scenario));
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(&scenario);
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_json_snapshot!("resources", all.to_json()));
    }
}

#[test]
fn equal_input_gives_equal_bytes() {
    for scenario in scenarios() {
        let first = compose::all(&Fixture::load(&scenario));
        let second = compose::all(&Fixture::load(&scenario));
        assert_eq!(first, second, "{}", scenario.display());
    }
}

#[test]
fn envoy_accepts_every_resource() {
    let Some(envoy) = envoy::binary() else {
        println!("SKIPPED: ENVOY_BIN names no Envoy, so nobody checked what it takes");
        return;
    };
    let failures: Vec<String> = scenarios()
        .iter()
        .filter_map(|scenario| {
            let all = compose::all(&Fixture::load(scenario));
            let complaint = envoy::validate(&envoy, &all).err()?;
            Some(format!("{}:\n{complaint}", scenario.display()))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn envoy_refuses_what_is_wrong() {
    let Some(envoy) = envoy::binary() else {
        println!("SKIPPED: ENVOY_BIN names no Envoy, so nobody checked the check");
        return;
    };
    let mut all = compose::all(&Fixture::load(&scenarios()[0]));
    let twice = all.clusters[0].clone();
    all.clusters.push(twice);
    assert!(envoy::validate(&envoy, &all).is_err());
}
