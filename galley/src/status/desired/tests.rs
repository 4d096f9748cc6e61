//! What statuses say.

use istio_rules::analysis::catalogue;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::status::patch;
use crate::status::shown::Shown;

const ACCEPT: Verdict = Verdict::Accepted(7);

fn facts(verdict: &Verdict) -> Facts<'_> {
    Facts {
        generation: Some(3),
        verdict,
        shadowed_by: None,
        findings: &[],
        in_force: Some(InForce {
            version: 7,
            generation: Some(3),
        }),
        standing: None,
        shown: None,
    }
}

fn said(condition: Option<&Condition>) -> (State, &str, &str) {
    let condition = condition.unwrap();
    (condition.state, &condition.reason, &condition.message)
}

#[test]
fn an_object_is_accepted_refused_or_shadowed() {
    let statement = desired(&facts(&ACCEPT));
    assert_eq!(
        said(statement.accepted.as_ref()),
        (State::True, "Valid", "")
    );
    assert_eq!(statement.distributed, None);
    let refused = Verdict::Refused("spec.hosts: wrong".into());
    assert_eq!(
        said(desired(&facts(&refused)).accepted.as_ref()),
        (State::False, "Invalid", "spec.hosts: wrong")
    );
    let shadowed = desired(&Facts {
        shadowed_by: Some("a.yaml".to_owned()),
        ..facts(&ACCEPT)
    });
    let text = "a.yaml defines the same object and takes precedence";
    assert_eq!(
        said(shadowed.accepted.as_ref()),
        (State::False, "Shadowed", text)
    );
}

fn reported(held: u32, reached: u32, behind: u32) -> Standing {
    Standing::Reported(Sum {
        held,
        reached,
        behind,
        pilots: 2,
    })
}

fn held(generation: i64) -> Condition {
    Condition {
        state: State::True,
        reason: "Held".into(),
        message: "held by 2 of 2 proxies".to_owned(),
        generation: Some(generation),
    }
}

#[test]
fn proxies_are_counted() {
    let with = |standing| {
        let facts = Facts {
            standing: Some(standing),
            ..facts(&ACCEPT)
        };
        desired(&facts).distributed
    };
    let half = "held by 5 of 7 proxies; 1 of 2 pilots do not have it";
    let nobody = "no pilot reports which proxies hold the object";
    for (standing, wanted) in [
        (
            reported(12, 14, 0),
            (State::False, "Pending", "held by 12 of 14 proxies"),
        ),
        (
            reported(14, 14, 0),
            (State::True, "Held", "held by 14 of 14 proxies"),
        ),
        (reported(5, 7, 1), (State::False, "Pending", half)),
        (
            reported(0, 0, 1),
            (
                State::False,
                "Pending",
                "held by 0 of 0 proxies; 1 of 2 pilots do not have it",
            ),
        ),
        (
            reported(0, 0, 0),
            (
                State::Unknown,
                "NoProxies",
                "the object reaches no connected proxy",
            ),
        ),
        (
            Standing::NotReported,
            (State::Unknown, "NotReported", nobody),
        ),
    ] {
        let condition = with(standing);
        assert_eq!(said(condition.as_ref()), wanted);
        assert_eq!(condition.unwrap().generation, Some(3));
    }
}

#[test]
fn what_is_shown_of_proxies_stays_while_nobody_reports() {
    let shown = held(2);
    let statement = desired(&Facts {
        shown: Some(&shown),
        ..facts(&ACCEPT)
    });
    assert_eq!(statement.distributed, Some(shown));
}

#[test]
fn a_generation_that_all_held_stays_held_and_the_next_one_begins_anew() {
    let (this, former) = (held(3), held(2));
    let of = |shown, standing| {
        let facts = Facts {
            standing: Some(standing),
            shown: Some(shown),
            ..facts(&ACCEPT)
        };
        desired(&facts).distributed
    };
    for standing in [reported(2, 3, 0), reported(0, 0, 0), Standing::NotReported] {
        assert_eq!(of(&this, standing), Some(this.clone()));
    }
    let next = of(&former, reported(0, 2, 0)).unwrap();
    assert_eq!((next.state, next.generation), (State::False, Some(3)));
}

#[test]
fn it_is_said_of_the_generation_in_force() {
    let refused = Verdict::Refused("wrong".into());
    let before = InForce {
        version: 6,
        generation: Some(2),
    };
    let statement = desired(&Facts {
        in_force: Some(before),
        standing: Some(reported(2, 2, 0)),
        ..facts(&refused)
    });
    assert_eq!(statement.generation, Some(3));
    let distributed = statement.distributed.unwrap();
    assert_eq!(distributed.generation, Some(2));
    assert_eq!(distributed.state, State::True);

    // No state is in force, or that of another file.
    let shown = held(3);
    let nothing = Facts {
        in_force: None,
        shown: Some(&shown),
        standing: Some(reported(2, 2, 0)),
        ..facts(&refused)
    };
    let shadowed = Facts {
        shadowed_by: Some("a.yaml".to_owned()),
        standing: Some(reported(2, 2, 0)),
        ..facts(&ACCEPT)
    };
    for facts in [nothing, shadowed] {
        let statement = desired(&facts);
        assert_eq!(
            said(statement.distributed.as_ref()),
            (
                State::False,
                "NotAccepted",
                "no state of the object is in force"
            )
        );
    }
}

#[test]
fn equal_messages_are_one() {
    let finding = |code, text: &str| Finding {
        code,
        text: text.to_owned(),
    };
    let findings = [
        finding(&catalogue::SCHEMA_WARNING, "b"),
        finding(&catalogue::REFERENCED_RESOURCE_NOT_FOUND, "a"),
        finding(&catalogue::SCHEMA_WARNING, "c"),
    ];
    let statement = desired(&Facts {
        findings: &findings,
        ..facts(&ACCEPT)
    });
    let status = patch::status(&statement, None, None, None);
    assert_eq!(
        status["validationMessages"],
        json!([
            {
                "type": {"code": "IST0101", "name": "ReferencedResourceNotFound"},
                "level": "ERROR",
                "documentationUrl": "https://istio.io/v1.30/docs/reference/config/analysis/\
                                     ist0101/?ref=istioctl-analyze",
            },
            {
                "type": {"code": "IST0133", "name": "SchemaWarning"},
                "level": "WARNING",
                "documentationUrl": "https://istio.io/v1.30/docs/reference/config/analysis/\
                                     ist0133/?ref=istioctl-analyze",
            },
        ])
    );
}

#[test]
fn times_move_with_states_only() {
    let at = |seconds| Timestamp::from_second(seconds).unwrap();
    let first = since(None, State::True, at(5));
    assert_eq!(since(Some(first), State::True, at(9)), first);
    assert_eq!(
        since(Some(first), State::False, at(9)),
        (State::False, at(9))
    );
    let odd = Timestamp::new(7, 123).unwrap();
    assert_eq!(since(None, State::True, odd), (State::True, at(7)));
}

#[test]
fn foreign_conditions_and_unreadable_ones_are_no_harm() {
    let object = json!({"status": {
        "conditions": [
            {"type": "Programmed", "status": "True", "x": 1},
            {"type": "Accepted", "status": "Maybe"},
            {"type": "Distributed", "status": "True"},
            7,
        ],
        "validationMessages": "none",
        "observedGeneration": "4",
    }});
    let shown = Shown::read(&object);
    assert_eq!((shown.accepted, shown.distributed), (None, None));
    let others: serde_json::Value = serde_json::from_str(shown.others.as_ref().unwrap()).unwrap();
    assert_eq!(
        others,
        json!([{"type": "Programmed", "status": "True", "x": 1}, 7])
    );
    assert_eq!(Shown::read(&json!({})), Shown::read(&json!({"status": 1})));
}

fn condition() -> impl Strategy<Value = Condition> {
    let state = prop_oneof![Just(State::True), Just(State::False), Just(State::Unknown)];
    (state, "[A-Z][a-z]{0,5}", ".{0,10}", any::<Option<i64>>()).prop_map(
        |(state, reason, message, generation)| Condition {
            state,
            reason: reason.into(),
            message,
            generation,
        },
    )
}

proptest! {
    /// A written status is recognized when it is shown, with its times: it is not written twice.
    #[test]
    fn a_status_is_known_again(
        generation: Option<i64>,
        accepted in condition(),
        distributed in proptest::option::of(condition()),
        codes in proptest::collection::vec("IST[0-9]{4}", 0..4),
        seconds in 0i64..4_000_000_000,
        others in proptest::option::of("[a-z]{1,5}"),
    ) {
        let note = |code: String| Note {
            code: code.into(),
            name: "Name".into(),
            level: "INFO".into(),
            url: "https://istio.io".to_owned(),
        };
        let time = Timestamp::from_second(seconds).unwrap();
        let since = |condition: &Condition| (condition.state, time);
        let others = others.map(|name| json!([{"type": name}]).to_string());
        let statement = Statement {
            generation,
            accepted: Some(accepted.clone()),
            distributed: distributed.clone(),
            notes: codes.into_iter().map(note).collect(),
        };
        let status = patch::status(
            &statement,
            Some(since(&accepted)),
            distributed.as_ref().map(since),
            others.as_deref(),
        );
        let shown = Shown::read(&json!({"status": status}));
        prop_assert_eq!(shown.digest, statement.digest());
        prop_assert_eq!(shown.accepted, Some(since(&accepted)));
        prop_assert_eq!(shown.distributed, distributed.as_ref().map(since));
        prop_assert_eq!(shown.condition.map(|condition| *condition), distributed);
        prop_assert_eq!(shown.others.as_deref(), others.as_deref());
    }
}
