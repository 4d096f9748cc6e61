//! Rules for Policy and MeshPolicy.

use std::collections::BTreeSet;

use crate::validation::SPEC;
use crate::validation::metadata::METADATA;
use crate::validation::primitives::{host, number, url};
use crate::validation::report::{At, Check, quote};
use istio_api::authentication::v1alpha1::peer_authentication_method::Params;
use istio_api::authentication::v1alpha1::port_selector::Port;
use istio_api::authentication::v1alpha1::{Jwt, Policy, TargetSelector};

const DEFAULT: &str = "default";

pub(in crate::validation) fn validate(check: &mut Check<'_>, spec: &Policy) {
    let is_default = check.meta.name == DEFAULT;
    let name = METADATA.field("name");
    if spec.targets.is_empty() {
        check.refuse(
            !is_default,
            "PO-01",
            &name,
            "a policy without targets applies to the whole namespace: want the name \"default\", or targets",
        );
    } else {
        check.refuse(
            is_default,
            "PO-02",
            &name,
            "the name \"default\" is reserved for the policy of the whole namespace: want another name, or no targets",
        );
    }
    for (i, one) in spec.targets.iter().enumerate() {
        target(check, &SPEC.item("targets", i), one);
    }
    methods(check, spec);
}

pub(in crate::validation) fn validate_mesh(check: &mut Check<'_>, spec: &Policy) {
    let is_default = check.meta.name == DEFAULT;
    check.refuse(
        !is_default,
        "PO-03",
        &METADATA.field("name"),
        "the mesh has only one policy: want the name \"default\"",
    );
    check.refuse(
        !spec.targets.is_empty(),
        "PO-04",
        &SPEC.field("targets"),
        "the policy of the mesh applies to all services: want a Policy for some, or no targets",
    );
    methods(check, spec);
}

fn target(check: &mut Check<'_>, at: &At<'_>, target: &TargetSelector) {
    check.test("PO-05", &at.field("name"), host::label(&target.name));
    for (i, port) in target.ports.iter().enumerate() {
        let at = at.item("ports", i);
        match &port.port {
            None => check.error("PO-06", &at, "there is no port: want number or name"),
            Some(Port::Number(number)) => {
                check.test("PO-07", &at.field("number"), number::port(*number))
            }
            Some(Port::Name(name)) => check.test("PO-08", &at.field("name"), host::label(name)),
        }
    }
}

fn methods(check: &mut Check<'_>, spec: &Policy) {
    let mut issuers = BTreeSet::new();
    for (i, peer) in spec.peers.iter().enumerate() {
        if let Some(Params::Jwt(one)) = &peer.params {
            let at = SPEC.item("peers", i);
            token(check, &at.field("jwt"), one, &mut issuers);
        }
    }
    for (i, origin) in spec.origins.iter().enumerate() {
        let at = SPEC.item("origins", i);
        match &origin.jwt {
            Some(one) => token(check, &at.field("jwt"), one, &mut issuers),
            None => check.error(
                "PO-14",
                &at.field("jwt"),
                "there is no jwt: want one with issuer",
            ),
        }
    }
}

fn token<'a>(check: &mut Check<'_>, at: &At<'_>, jwt: &'a Jwt, issuers: &mut BTreeSet<&'a str>) {
    let issuer = at.field("issuer");
    if jwt.issuer.is_empty() {
        check.error(
            "PO-10",
            &issuer,
            "there is no issuer: want the one that the tokens name",
        );
    } else if !issuers.insert(&jwt.issuer) {
        check.error(
            "PO-09",
            &issuer,
            format!(
                "{} is the issuer of an earlier element: want each once",
                quote(&jwt.issuer)
            ),
        );
    }
    if !jwt.jwks_uri.is_empty() {
        check.test("PO-12", &at.field("jwksUri"), url::key_set(&jwt.jwks_uri));
    }
    let texts = [
        ("PO-11", "audiences", &jwt.audiences),
        ("PO-13", "jwtHeaders", &jwt.jwt_headers),
        ("PO-13", "jwtParams", &jwt.jwt_params),
    ];
    for (rule, field, texts) in texts {
        for (i, _) in texts.iter().enumerate().filter(|(_, text)| text.is_empty()) {
            check.error(
                rule,
                &at.item(field, i),
                "the element is empty: want a name, or leave it out",
            );
        }
    }
}
