//! Sums, compared with a naive implementation.

use proptest::prelude::*;

use super::*;

const GRACE: Duration = Duration::from_secs(10);

fn key(name: u8) -> Key {
    Key {
        group: "networking.istio.io",
        kind: "Sidecar",
        namespace: "shop".into(),
        name: name.to_string().into(),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Say(u64, u8, Option<(u64, u32)>),
    /// A new stream while the former one is still open.
    Twice(u64),
    End(u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let said = proptest::option::of((0..2u64, 0..4u32));
    prop_oneof![
        5 => (0..3u64, 0..3u8, said).prop_map(|(pilot, name, said)| Step::Say(pilot, name, said)),
        1 => (0..3u64).prop_map(Step::Twice),
        2 => (0..3u64).prop_map(Step::End),
        2 => (1..8u64).prop_map(Step::Wait),
    ]
}

/// A stream in a model that forgets nothing.
#[derive(Debug, Clone, Default)]
struct Memory {
    shares: BTreeMap<u8, (u64, u32)>,
    ended: Option<u64>,
}

proptest! {
    /// For any sequence of streams: of each pilot the newest stream with a report counts, if it is
    /// open or its grace period is not over.
    #[test]
    fn the_newest_stream_of_each_pilot_counts(steps in proptest::collection::vec(step(), 0..60)) {
        let start = Instant::now();
        let mut second = 0;
        let mut reports = Reports::default();
        let mut memory: BTreeMap<u64, BTreeMap<u64, Memory>> = BTreeMap::new();
        let mut current = [0_u64, 1, 2];
        let mut left: Vec<u64> = Vec::new();
        for step in steps {
            let now = start + Duration::from_secs(second);
            match step {
                Step::Say(pilot, name, said) => {
                    let stream = current[usize::try_from(pilot).unwrap()];
                    let shares = &mut memory.entry(pilot).or_default().entry(stream).or_default().shares;
                    match said {
                        Some(said) => drop(shares.insert(name, said)),
                        None => drop(shares.remove(&name)),
                    }
                    let share = said.map(|(version, held)| Share { version, held, reached: 3 });
                    let touched = reports.take(Report::Changed {
                        stream,
                        pilot: pilot.to_string().into(),
                        shares: vec![(key(name), share)],
                    }, 100, now);
                    prop_assert!(touched.contains(&key(name)));
                }
                Step::Twice(pilot) => {
                    let stream = &mut current[usize::try_from(pilot).unwrap()];
                    left.push(*stream);
                    *stream += 3;
                }
                Step::End(pilot) => {
                    // The stream that was left open longest, else the present one.
                    let of_it = left.iter().position(|stream| stream % 3 == pilot);
                    let stream = match of_it {
                        Some(at) => left.remove(at),
                        None => {
                            let stream = &mut current[usize::try_from(pilot).unwrap()];
                            *stream += 3;
                            *stream - 3
                        }
                    };
                    if let Some(known) = memory.entry(pilot).or_default().get_mut(&stream) {
                        known.ended = Some(second);
                    }
                    reports.take(Report::Ended(stream), 100, now);
                }
                Step::Wait(seconds) => {
                    second += seconds;
                    let now = start + Duration::from_secs(second);
                    let due = reports.deadline(GRACE).is_some_and(|at| at <= now);
                    let touched = reports.expire(GRACE, now);
                    prop_assert!(due || touched.is_empty());
                }
            }
            let mut pilots = 0;
            let mut sums: BTreeMap<u8, Sum> = BTreeMap::new();
            let mut counting: Vec<&Memory> = Vec::new();
            for streams in memory.values() {
                // An open stream replaces one that has ended, even if it is older.
                let open = streams.values().rev().find(|one| one.ended.is_none());
                let last = streams.values().next_back();
                let fresh = last.filter(|one| one.ended.is_some_and(|at| second < at + 10));
                counting.extend(open.or(fresh));
            }
            for one in &counting {
                pilots += 1;
                for name in 0..3 {
                    let sum = sums.entry(name).or_default();
                    match one.shares.get(&name) {
                        Some((version, held)) => {
                            sum.reached += 3;
                            if *version == 1 { sum.held += held } else { sum.behind += 1 }
                        }
                        None => sum.behind += 1,
                    }
                }
            }
            prop_assert_eq!(reports.pilots(), pilots);
            for name in 0..3 {
                let is_reported = counting.iter().any(|one| one.shares.contains_key(&name));
                let mut sum = sums.remove(&name).unwrap_or_default();
                sum.pilots = u32::try_from(pilots).unwrap();
                let wanted = if is_reported { Standing::Reported(sum) } else { Standing::NotReported };
                prop_assert_eq!(reports.standing(&key(name), 1), wanted);
            }
        }
    }
}
