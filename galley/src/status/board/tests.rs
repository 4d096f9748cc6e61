//! The board over time.

mod distribution;

use istio_rules::analysis::catalogue;
use proptest::prelude::*;
use serde_json::json;

use std::time::Duration;

use super::*;
use crate::status::distribution::Share;

fn key(name: &str) -> Key {
    Key {
        group: "networking.istio.io",
        kind: "Sidecar",
        namespace: "shop".into(),
        name: name.into(),
    }
}

/// A clock, an API server with objects that only have a status, and a board that watches it.
struct World {
    start: Instant,
    seconds: u64,
    board: Board,
    objects: BTreeMap<String, (u64, i64, Value)>,
    version: u64,
    writes: Vec<String>,
}

impl World {
    fn new() -> Self {
        let start = Instant::now();
        let now = Now {
            monotonic: start,
            wall: Timestamp::UNIX_EPOCH,
        };
        Self {
            start,
            seconds: 0,
            board: Board::new(Timing::default(), now),
            objects: BTreeMap::new(),
            version: 0,
            writes: Vec::new(),
        }
    }

    fn ready(mut self) -> Self {
        let now = self.now();
        self.board.observe(Observation::Synced, now);
        self.board.analyzed(Arc::default(), now);
        self
    }

    fn now(&self) -> Now {
        Now {
            monotonic: self.start + Duration::from_secs(self.seconds),
            wall: Timestamp::from_second(i64::try_from(self.seconds).unwrap()).unwrap(),
        }
    }

    fn path(name: &str) -> Arc<Path> {
        Path::new(&format!("networking.istio.io/sidecars/shop/{name}")).into()
    }

    /// Changes the spec of an object.
    fn apply(&mut self, name: &str) {
        self.version += 1;
        let entry = self.objects.entry(name.to_owned());
        let object = entry.or_insert_with(|| (0, 0, json!(null)));
        (object.0, object.1) = (self.version, object.1 + 1);
    }

    /// The watch shows the present state of an object.
    fn show(&mut self, name: &str, verdict: Verdict) {
        let (version, generation, status) = &self.objects[name];
        let live = Live {
            api_version: "v1",
            resource_version: version.to_string().into(),
            generation: Some(*generation),
            shown: Shown::read(&json!({"status": status})),
        };
        let observation = Observation::Read {
            path: Self::path(name),
            objects: vec![(key(name), verdict)],
            obscured: None,
            live: Some(Box::new(live)),
        };
        let now = self.now();
        self.board.observe(observation, now);
    }

    /// Answers a write as an API server would.
    fn answer(&mut self, write: &Write) -> Outcome {
        let name = write.id.0.name.to_string();
        self.writes.push(name.clone());
        let Some(object) = self.objects.get_mut(&name) else {
            return Outcome::Refused;
        };
        if *write.resource_version != *object.0.to_string() {
            return Outcome::Refused;
        }
        self.version += 1;
        object.0 = self.version;
        object.2 = write.patch["status"].clone();
        let shown = Shown::read(&json!({"status": object.2}));
        Outcome::Written(object.0.to_string().into(), shown)
    }

    /// Writes everything that is due.
    fn write(&mut self) {
        let now = self.now();
        if self.board.timer().is_some_and(|at| at <= now.monotonic) {
            self.board.tick(now);
        }
        while let Some(write) = self.board.next(self.now()) {
            let outcome = self.answer(&write);
            let now = self.now();
            self.board.done(&write, outcome, now);
        }
    }

    fn condition(&self, name: &str, kind: &str) -> Option<(String, String)> {
        let conditions = self.objects[name].2["conditions"].as_array()?;
        let found = conditions.iter().find(|one| one["type"] == kind)?;
        let text = |member: &str| found[member].as_str().unwrap().to_owned();
        let said = format!("{} {}", text("status"), text("message"));
        Some((said.trim().to_owned(), text("lastTransitionTime")))
    }

    fn distributed(&self, name: &str) -> String {
        self.condition(name, "Distributed").unwrap().0
    }

    /// The pilot of this number reports on an object: version, held, reached.
    fn report(&mut self, stream: u64, name: &str, said: Option<(u64, u32, u32)>) {
        let share = said.map(|(version, held, reached)| Share {
            version,
            reached,
            held,
        });
        let report = Report::Changed {
            stream,
            pilot: format!("pilot-{}", stream % 10).into(),
            shares: vec![(key(name), share)],
        };
        let now = self.now();
        self.board.reported(report, now);
    }

    fn end(&mut self, stream: u64) {
        let now = self.now();
        self.board.reported(Report::Ended(stream), now);
    }

    /// Advances the clock by this many seconds.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.seconds += 1;
            self.write();
        }
    }

    /// Pilots 1 and 2 report, and their reports count.
    fn heard(mut self) -> Self {
        for pilot in [1, 2] {
            self.report(pilot, "nothing", None);
        }
        self.wait(Timing::default().settle.as_secs());
        self
    }
}

fn findings() -> Arc<[Finding]> {
    Arc::new([Finding {
        code: &catalogue::SCHEMA_WARNING,
        text: "x".to_owned(),
    }])
}

fn pair(said: &str, time: &str) -> Option<(String, String)> {
    Some((said.to_owned(), time.to_owned()))
}

#[test]
fn nothing_is_written_before_everything_is_known() {
    let mut world = World::new();
    world.apply("a");
    world.show("a", Verdict::Accepted(7));
    world.write();
    let now = world.now();
    world.board.observe(Observation::Synced, now);
    world.write();
    assert_eq!(world.writes.len(), 0);
    world.board.analyzed(Arc::default(), now);
    world.write();
    assert_eq!(world.writes, ["a"]);
}

#[test]
fn times_move_with_states_and_nothing_is_written_twice() {
    let mut world = World::new().ready();
    world.apply("a");
    world.show("a", Verdict::Accepted(7));
    world.write();
    let accepted = |world: &World| world.condition("a", "Accepted");
    assert_eq!(accepted(&world), pair("True", "1970-01-01T00:00:00Z"));
    world.seconds = 10;
    // Its own write comes back.
    world.show("a", Verdict::Accepted(7));
    world.write();
    assert_eq!(world.writes.len(), 1);
    // A new generation is stated; the time of the last transition stays.
    world.apply("a");
    world.show("a", Verdict::Accepted(7));
    world.write();
    assert_eq!(world.writes.len(), 2);
    assert_eq!(world.objects["a"].2["observedGeneration"], 2);
    assert_eq!(accepted(&world), pair("True", "1970-01-01T00:00:00Z"));
    world.apply("a");
    world.show("a", Verdict::Refused("wrong".into()));
    world.write();
    assert_eq!(
        accepted(&world),
        pair("False wrong", "1970-01-01T00:00:10Z")
    );

    // Another process takes over and finds nothing to write.
    let objects = std::mem::take(&mut world.objects);
    let mut next = World::new();
    next.objects = objects;
    next.seconds = 59;
    next.show("a", Verdict::Refused("wrong".into()));
    let mut next = next.ready();
    next.write();
    assert_eq!(next.writes.len(), 0);
}

#[test]
fn a_conflict_waits_for_what_the_watch_shows() {
    let mut world = World::new().ready();
    world.apply("a");
    world.show("a", Verdict::Accepted(7));
    world.apply("a");
    world.write();
    assert_eq!(world.writes.len(), 1);
    assert_eq!(world.board.waiting(), 0);
    world.show("a", Verdict::Accepted(7));
    world.write();
    assert_eq!(world.writes.len(), 2);
    assert_eq!(world.objects["a"].2["observedGeneration"], 2);
}

#[test]
fn what_changes_during_a_write_is_written_after_it_as_it_is_then() {
    let mut world = World::new().ready();
    world.apply("a");
    world.show("a", Verdict::Accepted(7));
    let now = world.now();
    let write = world.board.next(now).unwrap();
    assert!(world.board.next(now).is_none());
    let outcome = world.answer(&write);
    // The watch is faster than the response, and the object is changed twice meanwhile.
    world.show("a", Verdict::Accepted(7));
    for _ in 0..2 {
        world.apply("a");
        world.show("a", Verdict::Accepted(7));
    }
    assert!(world.board.next(now).is_none());
    world.board.done(&write, outcome, now);
    world.write();
    assert_eq!(world.writes.len(), 2);
    assert_eq!(world.objects["a"].2["observedGeneration"], 3);
}

#[test]
fn a_write_that_is_lost_is_tried_again() {
    let mut world = World::new().ready();
    world.apply("a");
    world.show("a", Verdict::Accepted(7));
    let now = world.now();
    let write = world.board.next(now).unwrap();
    world.board.done(&write, Outcome::Lost, now);
    world.write();
    assert_eq!(world.writes, ["a"]);
}

#[test]
fn objects_that_are_gone_are_forgotten() {
    let mut world = World::new().ready();
    world.apply("a");
    world.show("a", Verdict::Accepted(7));
    let now = world.now();
    world
        .board
        .observe(Observation::Removed(World::path("a")), now);
    assert_eq!((world.board.waiting(), world.board.list().count()), (0, 0));
}

#[test]
fn findings_are_written_and_taken_back() {
    let mut world = World::new().ready();
    world.apply("a");
    world.show("a", Verdict::Accepted(7));
    world.write();
    let findings = Findings::from([(key("a"), findings())]);
    let now = world.now();
    world.board.analyzed(Arc::new(findings), now);
    world.write();
    let codes =
        |world: &World| world.objects["a"].2["validationMessages"][0]["type"]["code"].clone();
    assert_eq!(codes(&world), "IST0133");
    world.board.analyzed(Arc::default(), now);
    world.write();
    assert_eq!(codes(&world), Value::Null);
    assert_eq!(world.writes.len(), 3);
}

#[test]
fn the_file_that_counts_shadows_the_others() {
    let mut world = World::new().ready();
    let file = |name: &str| -> Arc<Path> { Path::new(name).into() };
    let now = world.now();
    for name in ["b.yaml", "a.yaml"] {
        let observation = Observation::Read {
            path: file(name),
            objects: vec![(key("x"), Verdict::Accepted(7))],
            obscured: None,
            live: None,
        };
        world.board.observe(observation, now);
    }
    let reasons = |board: &Board| -> Vec<String> {
        let reason = |one: Listed<'_>| one.status["conditions"][0]["reason"].to_string();
        board.list().map(reason).collect()
    };
    assert_eq!(reasons(&world.board), ["\"Valid\"", "\"Shadowed\""]);
    let since = |board: &Board| {
        let since =
            board.list().last().unwrap().status["conditions"][0]["lastTransitionTime"].clone();
        since.as_str().unwrap().to_owned()
    };
    assert_eq!(since(&world.board), "1970-01-01T00:00:00Z");
    // Objects of files are never written.
    assert_eq!(world.board.waiting(), 0);
    world.seconds = 5;
    let removed = Observation::Removed(file("a.yaml"));
    world.board.observe(removed, world.now());
    assert_eq!(reasons(&world.board), ["\"Valid\""]);
    assert_eq!(since(&world.board), "1970-01-01T00:00:05Z");
}

#[derive(Debug, Clone)]
enum Step {
    Change(u8, bool),
    /// A report of a pilot: object, proxies that hold it, whether of its present version.
    Report(u64, u8, u32, bool),
    End(u64),
    Analyze(u8, bool),
    Wait(u64),
    Write,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4u8, any::<bool>()).prop_map(|(name, good)| Step::Change(name, good)),
        (0..4u8, any::<bool>()).prop_map(|(name, found)| Step::Analyze(name, found)),
        (0..3u64, 0..4u8, 0..4u32, any::<bool>())
            .prop_map(|(pilot, name, held, now)| Step::Report(pilot, name, held, now)),
        (0..3u64).prop_map(Step::End),
        (1..40u64).prop_map(Step::Wait),
        Just(Step::Write),
    ]
}

proptest! {
    /// After any sequence of events every status is right in the end, each object is queued at most
    /// once, and no status is written that is already right.
    #[test]
    fn statuses_become_right(steps in proptest::collection::vec(step(), 0..60)) {
        let mut world = World::new().ready();
        let mut streams = [0, 1, 2];
        for step in steps {
            match step {
                Step::Report(pilot, name, held, now) => {
                    let version = if now { 7 } else { 6 };
                    let stream = streams[usize::try_from(pilot).unwrap()];
                    world.report(stream, &name.to_string(), Some((version, held, 3)));
                }
                Step::End(pilot) => {
                    let stream = &mut streams[usize::try_from(pilot).unwrap()];
                    world.end(*stream);
                    *stream += 10;
                }
                Step::Change(name, good) => {
                    let name = name.to_string();
                    world.apply(&name);
                    let verdict = if good {
                        Verdict::Accepted(7)
                    } else {
                        Verdict::Refused("wrong".into())
                    };
                    world.show(&name, verdict);
                }
                Step::Analyze(name, found) => {
                    let findings = found.then(|| (key(&name.to_string()), findings()));
                    let now = world.now();
                    world.board.analyzed(Arc::new(findings.into_iter().collect()), now);
                }
                Step::Wait(seconds) => world.seconds += seconds,
                Step::Write => world.write(),
            }
            prop_assert!(world.board.waiting() <= world.objects.len());
        }
        // The longest time that anything waits.
        world.seconds += 3600;
        world.write();
        world.seconds += 3600;
        world.write();
        prop_assert_eq!(world.board.waiting(), 0);
        let wanted: Vec<Value> = world.board.list().map(|one| one.status).collect();
        let are = world.objects.values().map(|(_, _, status)| {
            let mut status = status.clone();
            // A merge patch removes these.
            status.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            status
        });
        prop_assert_eq!(wanted, are.collect::<Vec<_>>());
        let writes = world.writes.len();
        for name in world.objects.keys().cloned().collect::<Vec<_>>() {
            let verdict = world.board.rows[&(key(&name), World::path(&name))].verdict().clone();
            world.show(&name, verdict);
        }
        world.write();
        prop_assert_eq!(world.writes.len(), writes);
    }
}
