//! Rules for AuthorizationPolicy.

mod condition;
mod rule;

use super::SPEC;
use super::metadata::{DRY_RUN, METADATA};
use super::primitives::label::{TargetRules, target};
use super::report::{Check, quote};
use istio_api::security::v1beta1::AuthorizationPolicy;
use istio_api::security::v1beta1::authorization_policy::{Action, ActionDetail};

const TARGET: TargetRules = TargetRules {
    one: "AP-01",
    selector: "AP-02",
    reference: "AP-03",
};

pub(super) fn validate(check: &mut Check<'_>, spec: &AuthorizationPolicy) {
    let action = spec.action();
    dry_run(check, action);
    let references = &spec.target_refs;
    target(
        check,
        TARGET,
        &SPEC,
        spec.selector.as_ref(),
        spec.target_ref.as_ref(),
        references,
    );
    let provider = spec
        .action_detail
        .as_ref()
        .map(|ActionDetail::Provider(provider)| provider);
    check.refuse(
        provider.is_some() && action != Action::Custom,
        "AP-09",
        &SPEC.field("provider"),
        "only action CUSTOM takes a provider: want that action, or leave it out",
    );
    let has_provider = provider.is_some_and(|provider| !provider.name.is_empty());
    complete(check, action, !spec.rules.is_empty(), has_provider);
    for (i, one) in spec.rules.iter().enumerate() {
        rule::validate(check, &SPEC.item("rules", i), one, action);
    }
}

/// Checks that what the action needs is there.
fn complete(check: &mut Check<'_>, action: Action, has_rules: bool, has_provider: bool) {
    let message =
        "without rules the policy never applies: want at least one, or {} for every request";
    match action {
        Action::Custom => {
            check.refuse(!has_rules, "AP-04", &SPEC.field("rules"), message);
            check.refuse(
                has_rules && !has_provider,
                "AP-05",
                &SPEC.field("provider"),
                "action CUSTOM needs a provider: want provider.name, as in the mesh configuration",
            );
        }
        Action::Deny => check.refuse(!has_rules, "AP-10", &SPEC.field("rules"), message),
        Action::Allow | Action::Audit => {}
    }
}

fn dry_run(check: &mut Check<'_>, action: Action) {
    let Some(value) = check.meta.annotations.get(DRY_RUN) else {
        return;
    };
    let at = METADATA.entry("annotations", DRY_RUN);
    if matches!(action, Action::Custom | Action::Audit) {
        check.error(
            "META-03",
            &at,
            "only actions ALLOW and DENY support a dry run: leave the annotation out",
        );
        return;
    }
    let words = [
        "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False",
    ];
    if !words.contains(&value.as_str()) {
        check.error(
            "META-02",
            &at,
            format!(
                "{} is neither true nor false: want one of them",
                quote(value)
            ),
        );
    }
}
