//! Rules for PeerAuthentication and RequestAuthentication.

mod jwks;

use super::SPEC;
use super::primitives::label::{self, TargetRules, target};
use super::primitives::{header, number, url};
use super::report::{At, Check};
use istio_api::security::v1beta1::{JwtRule, PeerAuthentication, RequestAuthentication};

pub(super) fn validate_peer(check: &mut Check<'_>, spec: &PeerAuthentication) {
    let selects = spec
        .selector
        .as_ref()
        .is_some_and(|selector| !selector.match_labels.is_empty());
    check.refuse(
        !spec.port_level_mtls.is_empty() && !selects,
        "PA-01",
        &SPEC.field("portLevelMtls"),
        "portLevelMtls is for the ports of selected workloads: want selector.matchLabels beside it",
    );
    for port in spec.port_level_mtls.keys() {
        let key = port.to_string();
        check.test(
            "PA-03",
            &SPEC.entry("portLevelMtls", &key),
            number::port(*port),
        );
    }
    if let Some(selector) = &spec.selector {
        let at = SPEC.field("selector");
        label::selector(check, "PA-04", &at, "matchLabels", &selector.match_labels);
    }
}

pub(super) fn validate_request(check: &mut Check<'_>, spec: &RequestAuthentication) {
    target(
        check,
        TargetRules::all("RA-01"),
        &SPEC,
        spec.selector.as_ref(),
        spec.target_ref.as_ref(),
        &spec.target_refs,
    );
    for (i, rule) in spec.jwt_rules.iter().enumerate() {
        token(check, &SPEC.item("jwtRules", i), rule);
    }
}

fn token(check: &mut Check<'_>, at: &At<'_>, rule: &JwtRule) {
    check.refuse(
        rule.issuer.is_empty() && rule.jwks_uri.is_empty(),
        "RA-02",
        at,
        "neither issuer nor jwksUri is set: want at least one of them",
    );
    if !rule.jwks_uri.is_empty() {
        check.test("RA-04", &at.field("jwksUri"), url::key_set(&rule.jwks_uri));
    }
    if !rule.jwks.is_empty() {
        jwks::validate(check, &at.field("jwks"), &rule.jwks);
    }
    let texts = [
        ("RA-03", "audiences", &rule.audiences),
        ("RA-09", "fromParams", &rule.from_params),
        ("RA-10", "fromCookies", &rule.from_cookies),
    ];
    for (id, field, texts) in texts {
        for (i, _) in texts.iter().enumerate().filter(|(_, text)| text.is_empty()) {
            check.error(
                id,
                &at.item(field, i),
                "the element is empty: want a name, or leave it out",
            );
        }
    }
    for (i, one) in rule.from_headers.iter().enumerate() {
        let at = at.item("fromHeaders", i);
        check.refuse(
            one.name.is_empty(),
            "RA-08",
            &at.field("name"),
            "the header has no name: want one such as \"x-jwt\"",
        );
    }
    for (i, claim) in rule.output_claim_to_headers.iter().enumerate() {
        let at = at.item("outputClaimToHeaders", i);
        check.refuse(
            claim.header.is_empty() || claim.claim.is_empty(),
            "RA-11",
            &at,
            "header or claim is empty: want both of them",
        );
        if !claim.header.is_empty() {
            check.test(
                "RA-12",
                &at.field("header"),
                header::strict_name(&claim.header),
            );
        }
    }
    if let Some(time) = &rule.timeout {
        check.test("RA-13", &at.field("timeout"), number::duration(time));
    }
}
