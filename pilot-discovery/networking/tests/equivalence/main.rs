//! Incremental equals from scratch: whatever objects and proxies came, changed and went, in
//! whichever batches, every class holds what it would hold had it been made of the final state,
//! in bytes, names, versions, provenance and what was left out.
//!
//! `EQUIVALENCE_CASES` sets the number of cases (256).

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod cost;
mod fields;
mod kinds;
mod proxies;
mod run;
mod steps;

use proptest::{
    prelude::*,
    test_runner::{Config, TestError, TestRunner},
};

fn cases() -> u32 {
    let asked = std::env::var("EQUIVALENCE_CASES").ok();
    asked.map_or(256, |text| {
        text.parse().expect("EQUIVALENCE_CASES is a number")
    })
}

#[test]
fn incremental_equals_from_scratch() {
    let config = Config {
        cases: cases(),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&steps::batches(), |batches| {
        let difference = run::difference(&batches);
        prop_assert!(difference.is_none(), "{}", difference.unwrap_or_default());
        Ok(())
    });
    match result {
        Ok(()) => {}
        // What is wrong with the input that is left, not with the one that was found first.
        Err(TestError::Fail(_, batches)) => panic!(
            "{}\nsteps: {batches:?}",
            run::difference(&batches).unwrap_or_else(|| "not reproducible".to_owned())
        ),
        Err(error) => panic!("{error}"),
    }
}

/// Each kind of step does something in the sense of the test: otherwise it would prove nothing.
#[test]
fn every_kind_of_step_changes_some_manifest() {
    let without = steps::without_effect();
    assert!(without.is_empty(), "steps that change nothing: {without:?}");
}
