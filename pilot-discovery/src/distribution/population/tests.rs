//! Counts, compared with checking every proxy.

use proptest::prelude::*;

use super::*;
use pilot_networking::kind::Kind;

const SECOND: Duration = Duration::from_secs(1);

fn place(outbound: ClassId, inbound: Option<ClassId>, since: u64) -> Membership {
    Membership {
        outbound,
        inbound,
        since,
    }
}

#[test]
fn who_comes_or_moves_is_counted_when_it_took_everything_or_after_some_time() {
    let start = Instant::now();
    let mut arriving = Arriving::new();
    let mut count = |since: u64, taken: Taken, now: Instant| {
        let members = [(7, place(1, None, since))];
        let population =
            Population::gather(&members, &BTreeMap::from([(7, taken)]), &mut arriving, now);
        population.groups.get(&(1, 0)).cloned().unwrap_or_default()
    };
    let nothing: Vec<Counted> = Vec::new();
    assert_eq!(count(3, [None; 5], start), nothing);
    let almost = [Some(3), Some(3), Some(4), Some(3), Some(2)];
    assert_eq!(count(3, almost, start + 9 * SECOND), nothing);
    // It is counted, although it does not hold everything.
    assert_eq!(count(3, almost, start + PATIENCE), [[3, 3, 4, 3, 0]]);
    assert_eq!(count(3, [Some(4); 5], start + 11 * SECOND), [[4; 5]]);
    // It moves: what it accepted is of another class.
    assert_eq!(count(5, [Some(4); 5], start + 12 * SECOND), nothing);
    assert_eq!(count(5, [Some(5); 5], start + 13 * SECOND), [[5; 5]]);
    // It moves again, and the time starts again.
    assert_eq!(count(6, [Some(5); 5], start + 14 * SECOND), nothing);
    assert_eq!(count(6, [Some(5); 5], start + 23 * SECOND), nothing);
    assert_eq!(count(6, [Some(5); 5], start + 24 * SECOND), [[0; 5]]);
}

/// What an object needs in a class.
fn needs() -> impl Strategy<Value = Option<Needs>> {
    prop::option::of(prop::array::uniform5(0..3_u64))
}

proptest! {
    /// Classes 1 and 2 are of clients, 3 and 4 of servers.
    #[test]
    fn each_proxy_counts_once(
        proxies in prop::collection::vec(
            (1..3_u64, prop::option::of(3..5_u64), prop::array::uniform5(0..3_u64)), 0..12),
        objects in prop::collection::vec(prop::array::uniform4(needs()), 1..4),
    ) {
        let members: Vec<(u64, Membership)> = proxies
            .iter()
            .zip(0..)
            .map(|((outbound, inbound, _), id)| (id, place(*outbound, *inbound, 0)))
            .collect();
        let taken = proxies.iter().zip(0..).map(|((.., taken), id)| (id, taken.map(Some)));
        let taken = taken.collect();
        let population = Population::gather(&members, &taken, &mut Arriving::new(), Instant::now());
        let mut reaches: BTreeMap<ClassId, Reached> = BTreeMap::new();
        for (id, object) in objects.iter().enumerate() {
            for (class, needs) in (1..).zip(object) {
                if let Some(needs) = needs {
                    let reach = reaches.entry(class).or_default();
                    reach.put(u32::try_from(id).unwrap(), *needs);
                }
            }
        }
        let mut counter = Counter::new(&population, &reaches);
        for (id, object) in objects.iter().enumerate() {
            let of = |class: ClassId| object[usize::try_from(class).unwrap() - 1];
            let mut wanted = Count::default();
            for (outbound, inbound, taken) in &proxies {
                let sides = [of(*outbound), inbound.and_then(of)];
                let sides: Vec<Needs> = sides.into_iter().flatten().collect();
                let holds = sides.iter().all(|needs| (0..Kind::COUNT).all(|at| taken[at] >= needs[at]));
                wanted.reached += u32::from(!sides.is_empty());
                wanted.held += u32::from(!sides.is_empty() && holds);
            }
            let classes = (1..5).filter(|class| of(*class).is_some());
            prop_assert_eq!(counter.count(u32::try_from(id).unwrap(), classes), wanted);
        }
    }
}
