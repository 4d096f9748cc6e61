//! The rules of the service of 1.0.

use super::*;

fn request(version: &str, message: RequestResources) -> Request {
    Request {
        message,
        version: Some(version.to_owned()).filter(|version| !version.is_empty()),
    }
}

fn legacy(version: &str, resources: &[(&str, &str)]) -> Table {
    Table::speaking(Dialect::Aggregated, Some(snapshot(version, resources)))
}

#[test]
fn a_subscription_is_answered_and_then_every_change() {
    let mut table = legacy("1", &[("a", "1")]);
    assert_eq!(table.ask(request("", subscribe())), Verdict::Subscribe);
    let first = table.next().unwrap();
    assert_eq!((names(&first), first.nonce.as_str()), (vec!["a"], "1"));
    assert!(matches!(
        table.ask(request("1", ack("1"))),
        Verdict::Ack { .. }
    ));
    assert_eq!(table.next(), None);
    table.set(snapshot("2", &[("a", "2")]));
    assert_eq!(table.next().unwrap().nonce, "2");
}

#[test]
fn a_version_that_is_held_is_not_sent() {
    let mut table = legacy("7", &[("a", "1")]);
    assert_eq!(table.ask(request("7", subscribe())), Verdict::Subscribe);
    assert_eq!(table.next(), None);
    table.set(snapshot("8", &[("a", "2")]));
    assert_eq!(table.next().unwrap().system_version_info, "8");
}

#[test]
fn a_refusal_that_names_the_version_of_before_is_not_answered_with_the_bad_one() {
    let mut table = legacy("1", &[("a", "1")]);
    table.ask(request("", subscribe()));
    table.next().unwrap();
    table.ask(request("1", ack("1")));
    table.set(snapshot("2", &[("a", "bad")]));
    table.next().unwrap();
    for _ in 0..3 {
        table.ask(request("1", nack("2")));
        assert_eq!(table.next(), None, "the same version again");
    }
    table.set(snapshot("3", &[("a", "3")]));
    assert_eq!(table.next().unwrap().system_version_info, "3");
}

#[test]
fn an_acceptance_of_another_version_than_was_sent_is_not_answered() {
    let mut table = legacy("1", &[("a", "1")]);
    table.ask(request("", subscribe()));
    table.next().unwrap();
    table.ask(request("forged", ack("1")));
    assert_eq!(table.next(), None);
    assert_eq!(
        table.ask(request("forged", ack("1"))),
        Verdict::Stale { nack: None }
    );
    assert_eq!(table.next(), None);
}

#[test]
fn only_the_nonce_of_the_last_response_counts_once_there_was_one() {
    let mut table = legacy("1", &[("a", "1")]);
    // Before the first response any nonce counts: a sink may still hold one of another stream.
    assert_eq!(table.ask(request("", ack("99"))), Verdict::Subscribe);
    table.next().unwrap();
    for stale in [subscribe(), ack("99")] {
        assert_eq!(table.ask(request("", stale)), Verdict::Stale { nack: None });
        assert_eq!(table.next(), None);
    }
    assert!(matches!(
        table.ask(request("1", ack("1"))),
        Verdict::Ack { .. }
    ));
}

#[test]
fn there_are_no_deltas() {
    let mut table = legacy("1", &[("a", "1"), ("b", "1")]);
    table.ask(request("", subscribe()));
    table.next().unwrap();
    table.ask(request("1", ack("1")));
    table.set(snapshot("2", &[("a", "1")]));
    let second = table.next().unwrap();
    assert_eq!(names(&second), ["a"]);
    assert!(!second.incremental && second.removed_resources.is_empty());
}
