//! The protocol, with a client that follows it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use self::{
    client::{Client, LONE, LONE_ROUTE},
    world::{World, worlds},
};
use super::*;

mod client;
mod plain;
mod world;

/// An event of a test.
#[derive(Clone, Debug)]
enum Step {
    Publish(World),
    /// The server reads this many requests.
    Take(u8),
    /// The client reads a response and accepts or rejects it.
    Deliver(bool),
    Toggle(Kind),
    Reconnect,
}

fn steps(refusals: bool) -> impl Strategy<Value = Vec<Step>> {
    let accept = if refusals {
        prop::bool::weighted(0.8).boxed()
    } else {
        Just(true).boxed()
    };
    let toggled = prop::sample::select(vec![Kind::Endpoint, Kind::Route]);
    let step = prop_oneof![
        3 => worlds().prop_map(Step::Publish),
        8 => (1..4_u8).prop_map(Step::Take),
        8 => accept.prop_map(Step::Deliver),
        1 => toggled.prop_map(Step::Toggle),
        1 => Just(Step::Reconnect),
    ];
    prop::collection::vec(step, 0..60)
}

fn run(variant: Variant, steps: Vec<Step>) {
    let mut view = World::default().view(&View::default());
    let mut client = Client::connect(variant, view.clone());
    let mut views = BTreeMap::from([(view.version, view.clone())]);
    let mut last = World::default();
    for step in steps {
        match step {
            Step::Publish(world) => {
                view = world.view(&view);
                last = world;
                views.insert(view.version, view.clone());
                client.view(view.clone());
            }
            Step::Take(count) => {
                for _ in 0..count {
                    client.take();
                }
            }
            Step::Deliver(accept) => {
                client.deliver(accept);
            }
            Step::Toggle(Kind::Endpoint) => client.toggle(Kind::Endpoint, LONE),
            Step::Toggle(_) => client.toggle(Kind::Route, LONE_ROUTE),
            Step::Reconnect => client.reconnect(view.clone()),
        }
        if client.has_taken_all() {
            client.holds(&view);
        }
        client.has_what_is_counted(&views);
    }
    client.settle();
    if client.refused {
        // Changes of a rejected response are sent again with the next change of the type.
        for constant in 1..3 {
            let next = World {
                constant,
                ..last.clone()
            };
            view = next.view(&view);
            client.view(view.clone());
            client.settle();
        }
    }
    assert!(client.has_taken_all());
    client.holds(&view);
    client.reconnect(view.clone());
    client.settle();
    assert!(client.has_taken_all());
    client.holds(&view);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, max_shrink_iters: 20000, ..Default::default() })]

    #[test]
    fn a_delta_client_ends_with_what_it_subscribed_to(steps in steps(false)) {
        run(Variant::Delta, steps);
    }

    #[test]
    fn a_state_of_the_world_client_ends_with_what_it_subscribed_to(steps in steps(false)) {
        run(Variant::Sotw, steps);
    }

    #[test]
    fn a_delta_client_that_refuses_gets_it_with_the_next_change(steps in steps(true)) {
        run(Variant::Delta, steps);
    }

    #[test]
    fn a_state_of_the_world_client_that_refuses_gets_it_with_the_next_change(
        steps in steps(true),
    ) {
        run(Variant::Sotw, steps);
    }
}
