//! Conditions of a rule, by their key.

use crate::validation::primitives::access::{self, Values};
use crate::validation::report::{At, Check, quote};
use istio_api::security::v1beta1::Condition;
use istio_api::security::v1beta1::authorization_policy::Action;

pub(super) fn validate(check: &mut Check<'_>, at: &At<'_>, condition: &Condition, action: Action) {
    let key = condition.key.as_str();
    let at_key = at.field("key");
    if action == Action::Custom && is_about_caller(key) {
        check.error("AP-07", &at_key, format!(
            "with action CUSTOM the provider decides about the caller, so {} cannot be used: want another key",
            quote(key)
        ));
    }
    check.refuse(
        condition.values.is_empty() && condition.not_values.is_empty(),
        "AP-28",
        at,
        "there is nothing to compare with: want values or notValues",
    );
    if key.is_empty() {
        check.error(
            "AP-27",
            &at_key,
            "there is no key: want one such as \"source.ip\"",
        );
        return;
    }
    match values(key) {
        Ok(kind) => {
            let rules = ("AP-29", "AP-29");
            access::list(check, rules, at, "values", &condition.values, kind);
            access::list(check, rules, at, "notValues", &condition.not_values, kind);
        }
        Err(message) => check.error("AP-29", &at_key, message),
    }
}

fn is_about_caller(key: &str) -> bool {
    let keys = [
        "source.namespace",
        "source.serviceAccount",
        "source.trustDomain",
        "source.principal",
    ];
    keys.contains(&key) || key.starts_with("request.auth.")
}

/// The kind of values that a key is compared with.
fn values(key: &str) -> Result<Values, String> {
    let maps = [
        "request.headers",
        "request.auth.claims",
        "experimental.envoy.filters.",
    ];
    if maps.iter().any(|prefix| key.starts_with(prefix)) {
        return in_brackets(key);
    }
    Ok(match key {
        "source.ip" | "remote.ip" | "destination.ip" => Values::Addresses,
        "destination.port" => Values::Ports,
        "source.serviceAccount" => Values::ServiceAccounts,
        "source.trustDomain" => Values::Wildcards,
        "source.namespace"
        | "source.principal"
        | "request.auth.principal"
        | "request.auth.audiences"
        | "request.auth.presenter"
        | "connection.sni" => Values::Text,
        "destination.namespace" => {
            return Err(
                "destination.namespace is not a valid key: want a policy in that namespace"
                    .to_owned(),
            );
        }
        key if key.starts_with("destination.labels") => {
            return Err(
                "destination.labels is not a valid key: want the labels in the selector".to_owned(),
            );
        }
        _ => {
            return Err(format!(
                "{} is not a valid key: want one such as \"source.ip\", \"request.headers[x-user]\" or \"request.auth.claims[iss]\"",
                quote(key)
            ));
        }
    })
}

fn in_brackets(key: &str) -> Result<Values, String> {
    let right = key.ends_with(']')
        && key
            .find('[')
            .is_some_and(|open| open > 0 && open + 2 < key.len());
    if right {
        Ok(Values::Text)
    } else {
        Err(format!(
            "{} names no member: want one in brackets, such as \"request.headers[x-user]\"",
            quote(key)
        ))
    }
}
