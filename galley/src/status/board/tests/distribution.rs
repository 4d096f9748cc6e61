//! The condition `Distributed` over time.

use super::*;

#[test]
fn who_holds_it_is_added_up_over_pilots_and_versions() {
    let mut world = World::new().ready().heard();
    world.apply("a");
    world.show("a", Verdict::Accepted(7));
    world.write();
    assert_eq!(
        world.distributed("a"),
        "Unknown no pilot reports which proxies hold the object"
    );
    world.report(1, "a", Some((7, 5, 5)));
    // The other pilot does not have the change yet.
    world.report(2, "a", Some((6, 2, 2)));
    world.wait(5);
    assert_eq!(
        world.distributed("a"),
        "False held by 5 of 7 proxies; 1 of 2 pilots do not have it"
    );
    world.report(2, "a", Some((7, 2, 2)));
    world.write();
    let at = |second: u32| format!("1970-01-01T00:00:{second:02}Z");
    let held = pair("True held by 7 of 7 proxies", &at(15));
    assert_eq!(world.condition("a", "Distributed"), held);
    // From now on proxies may connect and disconnect; the page has their numbers.
    let writes = world.writes.len();
    for said in [Some((7, 5, 6)), None, Some((7, 0, 0)), Some((7, 9, 9))] {
        world.report(1, "a", said);
        world.wait(100);
    }
    assert_eq!(world.writes.len(), writes);
    assert_eq!(world.condition("a", "Distributed"), held);
    let standing = world.board.list().next().unwrap().standing;
    let sum = crate::status::distribution::Sum {
        held: 11,
        reached: 11,
        behind: 0,
        pilots: 2,
    };
    assert_eq!(standing, Some(Standing::Reported(sum)));
    // The next generation.
    world.apply("a");
    world.show("a", Verdict::Accepted(8));
    world.write();
    assert_eq!(
        world.distributed("a"),
        "False held by 0 of 11 proxies; 2 of 2 pilots do not have it"
    );
}

#[test]
fn an_object_that_a_pilot_does_not_speak_of_is_not_held_by_all() {
    let mut world = World::new().ready().heard();
    world.apply("a");
    world.show("a", Verdict::Accepted(7));
    world.report(1, "a", Some((7, 5, 5)));
    world.write();
    assert_eq!(
        world.distributed("a"),
        "False held by 5 of 5 proxies; 1 of 2 pilots do not have it"
    );
    // Its stream ends, and its grace period is over.
    world.end(2);
    world.wait(9);
    assert!(world.distributed("a").starts_with("False"));
    world.wait(1);
    assert_eq!(world.distributed("a"), "True held by 5 of 5 proxies");
}

#[test]
fn numbers_on_the_way_are_written_ever_more_rarely() {
    let mut world = World::new().ready().heard();
    world.apply("a");
    world.show("a", Verdict::Accepted(7));
    world.report(2, "a", Some((7, 0, 0)));
    world.report(1, "a", Some((7, 1, 9)));
    world.write();
    let first = world.writes.len();
    let mut times = Vec::new();
    for second in 1..=200 {
        // A proxy connects or disconnects each second, and one never holds the object.
        world.report(1, "a", Some((7, second % 7, 9)));
        let before = world.writes.len();
        world.wait(1);
        times.extend((world.writes.len() > before).then_some(second));
    }
    assert_eq!(times, [5, 15, 35, 75, 155]);
    assert_eq!(world.writes.len(), first + times.len());
    // The last proxy holds it.
    world.report(1, "a", Some((7, 9, 9)));
    world.wait(1);
    assert_eq!(world.distributed("a"), "True held by 9 of 9 proxies");
    // Another generation starts again.
    world.apply("a");
    world.show("a", Verdict::Accepted(8));
    world.report(1, "a", Some((8, 1, 9)));
    world.wait(1);
    let before = world.writes.len();
    world.report(1, "a", Some((8, 2, 9)));
    world.wait(5);
    assert_eq!(world.writes.len(), before + 1);
}

#[test]
fn a_pilot_that_comes_back_does_not_count_twice() {
    let mut world = World::new().ready().heard();
    world.apply("a");
    world.show("a", Verdict::Accepted(7));
    world.report(2, "a", Some((7, 0, 0)));
    world.report(1, "a", Some((7, 2, 5)));
    world.end(1);
    world.wait(1);
    assert_eq!(world.distributed("a"), "False held by 2 of 5 proxies");
    // Its next stream; the reports of the former one, and its grace period, are over.
    world.report(11, "b", Some((7, 1, 1)));
    world.wait(20);
    assert_eq!(
        world.distributed("a"),
        "False held by 0 of 0 proxies; 1 of 2 pilots do not have it"
    );
    world.report(11, "a", Some((7, 5, 5)));
    world.wait(1);
    assert_eq!(world.distributed("a"), "True held by 5 of 5 proxies");
}

#[test]
fn silence_is_told_after_a_while_and_only_of_what_is_on_its_way() {
    let mut world = World::new().ready().heard();
    for name in ["done", "new"] {
        world.apply(name);
        world.show(name, Verdict::Accepted(7));
        world.report(2, name, Some((7, 1, 1)));
    }
    world.report(1, "done", Some((7, 1, 1)));
    world.report(1, "new", Some((7, 0, 1)));
    world.write();
    world.end(1);
    world.end(2);
    let Timing { grace, silence, .. } = Timing::default();
    world.wait(grace.as_secs() + silence.as_secs() - 1);
    let on_its_way = "False held by 1 of 2 proxies";
    assert_eq!(world.distributed("new"), on_its_way);
    world.wait(1);
    assert_eq!(
        world.distributed("new"),
        "Unknown no pilot reports which proxies hold the object"
    );
    assert_eq!(world.distributed("done"), "True held by 2 of 2 proxies");
    // A pilot is back. Its reports count after the others had time to connect, too.
    world.report(3, "new", Some((7, 1, 1)));
    world.wait(9);
    assert!(world.distributed("new").starts_with("Unknown"));
    world.wait(1);
    assert_eq!(world.distributed("new"), "True held by 1 of 1 proxies");
}

#[test]
fn a_galley_that_takes_over_writes_nothing_that_is_said_already() {
    let mut world = World::new().ready().heard();
    for name in ["done", "new"] {
        world.apply(name);
        world.show(name, Verdict::Accepted(7));
        for pilot in [1, 2] {
            world.report(pilot, name, Some((7, u32::from(name == "done"), 1)));
        }
    }
    world.write();
    let mut next = World::new();
    next.objects = std::mem::take(&mut world.objects);
    for name in ["done", "new"] {
        next.show(name, Verdict::Accepted(7));
    }
    let mut next = next.ready();
    next.wait(30);
    for name in ["new", "done"] {
        next.report(1, name, Some((7, 0, 2)));
    }
    next.wait(30);
    assert_eq!(next.writes.len(), 0);
    assert_eq!(next.distributed("new"), "False held by 0 of 2 proxies");
    assert_eq!(next.distributed("done"), "True held by 2 of 2 proxies");
}

#[test]
fn what_pilots_say_of_unknown_objects_is_bounded() {
    let mut world = World::new().ready().heard();
    let shares = (0..UNKNOWN_OBJECTS + 5).map(|i| {
        let share = Share {
            version: 7,
            reached: 1,
            held: 1,
        };
        (key(&format!("x{i}")), Some(share))
    });
    let report = Report::Changed {
        stream: 1,
        pilot: "pilot-1".into(),
        shares: shares.collect(),
    };
    let now = world.now();
    world.board.reported(report, now);
    assert_eq!(world.board.left_out(), 5);
}
