//! What statuses say.

use istio_api::analysis::catalogue;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::status::patch;
use crate::status::shown::Shown;

const ACCEPT: Verdict = Verdict::Accepted;

fn facts(verdict: &Verdict) -> Facts<'_> {
    Facts {
        generation: Some(3),
        verdict,
        shadowed_by: None,
        findings: &[],
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
    let refused = Verdict::Refused("spec.hosts: wrong".into());
    assert_eq!(
        said(desired(&facts(&refused)).accepted.as_ref()),
        (State::False, "Invalid", "spec.hosts: wrong")
    );
    let shadowed = desired(&Facts {
        shadowed_by: Some("a.yaml".to_owned()),
        ..facts(&ACCEPT)
    });
    let text = "a.yaml defines it too, and is in force";
    assert_eq!(
        said(shadowed.accepted.as_ref()),
        (State::False, "Shadowed", text)
    );
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
    let status = patch::status(&statement, None, None);
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
            7,
        ],
        "validationMessages": "none",
        "observedGeneration": "4",
    }});
    let shown = Shown::read(&object);
    assert_eq!(shown.accepted, None);
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
    /// What was written is known again from what is shown, with its times: it is not written twice.
    #[test]
    fn a_status_is_known_again(
        generation: Option<i64>,
        accepted in condition(),
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
            notes: codes.into_iter().map(note).collect(),
        };
        let status = patch::status(
            &statement,
            Some(since(&accepted)),
            others.as_deref(),
        );
        let shown = Shown::read(&json!({"status": status}));
        prop_assert_eq!(shown.digest, statement.digest());
        prop_assert_eq!(shown.accepted, Some(since(&accepted)));
        prop_assert_eq!(shown.others.as_deref(), others.as_deref());
    }
}
