//! Results are sound whatever the order and whatever is missing.

use std::sync::LazyLock;

use istio_api::object::Object;
use istio_rules::conversion::Service;
use proptest::prelude::*;

use super::{BTreeSet, convert, is_sound, objects, services, tables};

/// Everything that the tables have.
static EVERYTHING: LazyLock<(Vec<Object>, Vec<Service>)> = LazyLock::new(|| {
    let mut all = (Vec::new(), Vec::new());
    for table in tables() {
        all.1.extend(services(&table));
        for case in &table.cases {
            all.0.extend(objects(case));
        }
    }
    all
});

/// Some of `count` things in two orders.
fn orders(count: usize) -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    let all: Vec<usize> = (0..count).collect();
    (Just(all).prop_shuffle(), 0..=count)
        .prop_map(|(all, many)| all.into_iter().take(many).collect::<Vec<usize>>())
        .prop_flat_map(|some| (Just(some.clone()), Just(some).prop_shuffle()))
}

/// Of objects of one name, the one that comes first in the tables.
fn pick_objects(order: &[usize]) -> Vec<Object> {
    let name = |i: usize| {
        let object = &EVERYTHING.0[i];
        (object.collection.name, object.meta.full_name())
    };
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    let mut seen = BTreeSet::new();
    sorted.retain(|i| seen.insert(name(*i)));
    let chosen = order.iter().filter(|i| sorted.contains(i));
    chosen.map(|i| EVERYTHING.0[*i].clone()).collect()
}

fn pick_services(order: &[usize]) -> Vec<Service> {
    order.iter().map(|i| EVERYTHING.1[*i].clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn the_result_does_not_depend_on_the_order_and_is_valid(
        (one, other) in orders(EVERYTHING.0.len()),
        (some, mixed) in orders(EVERYTHING.1.len()),
    ) {
        let converted = convert(&pick_objects(&one), &pick_services(&some));
        prop_assert_eq!(is_sound(&converted), Ok(()));
        let again = convert(&pick_objects(&other), &pick_services(&mixed));
        prop_assert!(converted == again, "{:?}\n{:?}", converted.complaints, again.complaints);
    }
}
