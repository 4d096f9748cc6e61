//! A class holds what the generators give for each of its proxies: everything, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use pilot_networking::{class::fleet::Fleet, kind::Kind, resource::Resource};

use crate::{compose, fixture::Fixture, scenarios};

#[test]
fn classes_hold_what_the_generators_give() {
    for scenario in scenarios() {
        let fixture = Fixture::load(&scenario);
        let all = compose::all(&fixture);
        let mut fleet = Fleet::default();
        let sides = fleet.connect(1, fixture.proxy.clone(), &fixture.snapshot, Instant::now());
        let given = [
            (Kind::Cluster, &all.clusters),
            (Kind::Endpoint, &all.endpoints),
            (Kind::Listener, &all.listeners),
            (Kind::Route, &all.routes),
            (Kind::Secret, &all.secrets),
        ];
        for (kind, given) in given {
            let held = sides.outbound[kind].iter().chain(&sides.inbound[kind]);
            let held: BTreeMap<&str, &Resource> = held
                .map(|(name, resource)| (&**name, &**resource))
                .collect();
            let given: BTreeMap<&str, &Resource> =
                given.iter().map(|one| (&*one.name, one)).collect();
            let names = |of: &BTreeMap<&str, _>| of.keys().map(ToString::to_string).collect();
            let (held_names, given_names): (Vec<String>, Vec<String>) =
                (names(&held), names(&given));
            assert_eq!(held_names, given_names, "{}: {kind:?}", scenario.display());
            for (name, given) in given {
                assert_eq!(held[name], given, "{}: {name}", scenario.display());
            }
        }
        let sides = [&sides.outbound, &sides.inbound];
        let held = sides.iter().flat_map(|side| side.skipped.values());
        let held: BTreeSet<String> = held
            .flat_map(|unit: &Arc<_>| unit.iter().map(|one| format!("{one:?}")))
            .collect();
        let given = all.skipped.iter().map(|one| format!("{one:?}"));
        let given: BTreeSet<String> = given.collect();
        assert_eq!(held, given, "{}: left out", scenario.display());
    }
}
