//! Labels, selectors and references that policies are attached by.

use super::super::report::{At, Check, quote};
use super::host;
use istio_api::type_::v1beta1::{PolicyTargetReference, WorkloadSelector};
use std::collections::BTreeMap;

fn is_name(text: &str) -> bool {
    let alnum = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    alnum(bytes.first())
        && alnum(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn is_key(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    name.len() <= 63
        && is_name(name)
        && prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(host::is_label))
}

/// Labels as objects carry them.
pub(in super::super) fn labels(
    check: &mut Check<'_>,
    rule: &'static str,
    parent: &At<'_>,
    field: &'static str,
    labels: &BTreeMap<String, String>,
) {
    for (key, value) in labels {
        let at = parent.entry(field, key);
        if !is_key(key) {
            check.error(rule, &at, format!(
                "{} is not a valid label key: want up to 63 letters, digits, dashes, dots and underscores, after an optional prefix such as example.com/",
                quote(key)
            ));
        }
        if !value.is_empty() && !is_name(value) {
            check.error(rule, &at, format!(
                "{} is not a valid label value: want letters, digits, dashes, dots and underscores, with a letter or digit at both ends",
                quote(value)
            ));
        }
    }
}

/// Labels that select workloads; `field` is where they are in the selector.
pub(in super::super) fn selector(
    check: &mut Check<'_>,
    rule: &'static str,
    at: &At<'_>,
    field: &'static str,
    labels: &BTreeMap<String, String>,
) {
    if labels.is_empty() {
        check.warn(
            rule,
            at,
            "the selector has no labels and so selects all workloads of the namespace: leave it out, or add a label",
        );
    }
    for (key, value) in labels {
        let at = at.entry(field, key);
        if key.is_empty() {
            check.error(
                rule,
                &at,
                "the label key is empty: want one such as \"app\"",
            );
        }
        if key.contains('*') || value.contains('*') {
            check.error(rule, &at, format!(
                "{} has a wildcard, which labels do not support: want the key and value exactly as the workload has them",
                quote(&format!("{key}: {value}"))
            ));
        }
    }
}

/// Rule ids for the ways in which a policy says what it applies to.
#[derive(Clone, Copy)]
pub(in super::super) struct TargetRules {
    /// More than one way is used.
    pub(in super::super) one: &'static str,
    /// The selector.
    pub(in super::super) selector: &'static str,
    /// A reference.
    pub(in super::super) reference: &'static str,
}

impl TargetRules {
    /// One rule for all.
    pub(in super::super) const fn all(rule: &'static str) -> Self {
        Self {
            one: rule,
            selector: rule,
            reference: rule,
        }
    }
}

/// Checks what a policy applies to.
pub(in super::super) fn target(
    check: &mut Check<'_>,
    rules: TargetRules,
    spec: &At<'_>,
    labels: Option<&WorkloadSelector>,
    reference: Option<&PolicyTargetReference>,
    references: &[PolicyTargetReference],
) {
    let ways = [
        labels.is_some(),
        reference.is_some(),
        !references.is_empty(),
    ];
    if ways.iter().filter(|used| **used).count() > 1 {
        check.error(
            rules.one,
            spec,
            "more than one of selector, targetRef and targetRefs is set: want one of them",
        );
    }
    if let Some(labels) = labels {
        let at = spec.field("selector");
        selector(
            check,
            rules.selector,
            &at,
            "matchLabels",
            &labels.match_labels,
        );
    }
    if let Some(one) = reference {
        target_reference(check, rules.reference, &spec.field("targetRef"), one);
    }
    for (i, one) in references.iter().enumerate() {
        target_reference(check, rules.reference, &spec.item("targetRefs", i), one);
    }
}

fn target_reference(
    check: &mut Check<'_>,
    rule: &'static str,
    at: &At<'_>,
    reference: &PolicyTargetReference,
) {
    check.refuse(
        reference.name.is_empty(),
        rule,
        &at.field("name"),
        "the name is empty: want the name of the object in the policy's namespace",
    );
    check.refuse(
        !reference.namespace.is_empty(),
        rule,
        &at.field("namespace"),
        "a reference cannot name a namespace: leave it out, as it is always the policy's own",
    );
    let known = matches!(
        (reference.group.as_str(), reference.kind.as_str()),
        ("" | "core", "Service")
            | ("networking.istio.io", "ServiceEntry")
            | ("gateway.networking.k8s.io", "Gateway" | "GatewayClass")
    );
    if !known {
        check.error(rule, &at.field("kind"), format!(
            "{} of group {} cannot be referred to: want Service, ServiceEntry of networking.istio.io, or Gateway or GatewayClass of gateway.networking.k8s.io",
            quote(&reference.kind),
            quote(&reference.group)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values() {
        let long = "a".repeat(63);
        for good in ["app", "app.k8s.io/name", "a_b.c-d", &long] {
            assert!(is_key(good), "{good}");
        }
        for bad in ["a b", "/x", "", "a/", "a/b/c", "-a", &format!("{long}a")] {
            assert!(!is_key(bad), "{bad}");
        }
        assert!(is_name(&"a".repeat(100)) && !is_name("a b"));
    }
}
