//! Incremental equals from scratch: whatever objects and proxies came, changed and went, in
//! whichever batches, every class holds what it would hold had it been made of the final state,
//! in bytes, names, versions, provenance and what was left out.
//!
//! `EQUIVALENCE_CASES` sets the number of cases (256), `EQUIVALENCE_SHRINKS` how many attempts are
//! made to simplify one that fails (20,000).

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

use pilot_networking::kind::Kind as ResourceKind;
use proptest::{
    prelude::*,
    test_runner::{Config, TestError, TestRunner},
};
use run::Order;
use steps::Step;

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number"))
    })
}

fn check(batches: impl Strategy<Value = Vec<Vec<Step>>>, orders: &[Order]) {
    let config = Config {
        cases: setting("EQUIVALENCE_CASES", 256),
        max_shrink_iters: setting("EQUIVALENCE_SHRINKS", 20_000),
        failure_persistence: None,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&batches, |batches| {
        let difference = run::difference(&batches, orders);
        prop_assert!(difference.is_none(), "{}", difference.unwrap_or_default());
        Ok(())
    });
    match result {
        Ok(()) => {}
        // What is wrong with the input that is left, not with the one that was found first.
        Err(TestError::Fail(_, batches)) => panic!(
            "{}\nsteps: {batches:?}",
            run::difference(&batches, orders).unwrap_or_else(|| "not reproducible".to_owned())
        ),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn incremental_equals_from_scratch() {
    check(steps::batches(), &Order::ALL);
}

/// Where every object meets others, small changes reach far; one order of reading is enough, since
/// small meshes show that it does not matter.
#[test]
fn incremental_equals_from_scratch_in_a_full_mesh() {
    check(steps::batches_in_full_mesh(), &[Order::Ascending]);
}

/// Each kind of step does something in the sense of the test: otherwise it would prove nothing.
#[test]
fn every_kind_of_step_changes_some_manifest() {
    let without = steps::without_effect();
    assert!(without.is_empty(), "steps that change nothing: {without:?}");
}

/// Nothing equals nothing: each kind of resource has to be there.
#[test]
fn every_kind_of_resource_is_made() {
    let mut steps = steps::start();
    steps.push(Step::Credential(false, 2, Some(1)));
    let (clients, servers) = run::kinds(&steps);
    assert_eq!(clients, ResourceKind::ALL);
    assert_eq!(servers, [ResourceKind::Cluster, ResourceKind::Listener]);
}

/// Two objects that dispute a host go at once, and the last route configuration with them.
#[test]
fn what_a_route_left_out_goes_with_it() {
    let mut choices = [0; fields::FIELDS];
    choices[6] = 4;
    let objects = [0, 3];
    let mut first = vec![Step::Connect(0)];
    first.extend(objects.map(|slot| Step::Put(kinds::Kind::VirtualService, slot, choices)));
    let last = objects.map(|slot| Step::Delete(kinds::Kind::VirtualService, slot));
    let held = run::manifests(std::slice::from_ref(&first));
    assert!(held.concat().contains("assembly 80"), "{held:?}");
    assert_eq!(run::difference(&[first, last.to_vec()], &Order::ALL), None);
}
