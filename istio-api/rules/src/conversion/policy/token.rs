//! Tokens: RequestAuthentication, and the AuthorizationPolicy that refuses requests without one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::peers::place;
use super::ruling::Ruling;
use super::{DEFAULT, Policies, Targeting};
use crate::conversion::service::reaches_everywhere;
use crate::conversion::{Converted, Mesh, Service, Source, made};
use istio_api::authentication::v1alpha1::jwt::TriggerRule;
use istio_api::authentication::v1alpha1::peer_authentication_method::Params;
use istio_api::authentication::v1alpha1::string_match::MatchType;
use istio_api::authentication::v1alpha1::{Jwt, Policy, StringMatch};
use istio_api::security::v1beta1::authorization_policy::Action;
use istio_api::security::v1beta1::rule::{From, To};
use istio_api::security::v1beta1::{
    AuthorizationPolicy, JwtHeader, JwtRule, Operation, RequestAuthentication, Rule,
    Source as Caller,
};
use istio_api::type_::v1beta1::WorkloadSelector;

/// Where the objects go.
struct Place {
    namespace: String,
    name: String,
    selector: Option<WorkloadSelector>,
    /// Ports of the workloads; empty = all.
    ports: BTreeSet<u32>,
}

/// Tokens of a policy without targets.
pub(super) fn of_scope(
    policy: &Source<Policy>,
    policies: &Policies,
    services: &[Service],
    mesh: &Mesh<'_>,
) -> Converted {
    let (namespace, name) = place(policy, mesh);
    let place = Place {
        namespace: namespace.to_owned(),
        name,
        selector: None,
        ports: BTreeSet::new(),
    };
    let mut converted = convert(policy, &place);
    if converted.objects.is_empty() {
        return converted;
    }
    let is_mesh = policy.kind == "MeshPolicy";
    let own = &policy.meta.namespace;
    let is_inside = |namespace: &str| is_mesh || namespace == own;
    let narrower = policies
        .scoped
        .iter()
        .filter(|one| is_mesh && one.kind == "Policy" && one.meta.name == DEFAULT)
        .chain(policies.targeted.values().flatten().map(|one| one.source()))
        .filter(|one| is_inside(&one.meta.namespace))
        .map(|one| one.origin())
        .min();
    if let Some(narrower) = narrower {
        converted.complaints.push(policy.complaint(
            "spec",
            format!(
                "{} replaced it in 1.1, but today the tokens of both are checked: want the tokens in one of the two",
                narrower.title()
            ),
        ));
    }
    let refuses = converted
        .objects
        .iter()
        .any(|object| object.collection.kind == "AuthorizationPolicy");
    let raw = services
        .iter()
        .filter(|service| is_inside(&service.namespace))
        .find(|service| service.ports.iter().any(|port| !port.http));
    if let Some(service) = raw.filter(|_| refuses) {
        converted.complaints.push(policy.complaint(
            "spec",
            format!(
                "refusing requests without a token also refuses what is not HTTP, such as ports of {}: want targets",
                service.host
            ),
        ));
    }
    converted
}

/// Tokens of the policies that target `service`, the oldest first.
pub(super) fn of_service(
    service: &Service,
    policies: &[Arc<Targeting>],
    mesh: &Mesh<'_>,
) -> Converted {
    let mut converted = Converted::default();
    if service.selector.is_empty() {
        // Reported where mutual TLS is decided.
        return converted;
    }
    let ruling = Ruling::of(service, policies);
    for policy in policies.iter().map(|one| one.source()) {
        let own = || {
            let ruled = ruling.ports.iter();
            ruled.filter(|ruled| std::ptr::eq(ruled.policy, policy))
        };
        if let Some(ruled) = own().next()
            && service.namespace == mesh.root_namespace
            && !tokens(&policy.spec).is_empty()
        {
            let message = reaches_everywhere(service);
            let complaint = policy.complaint(ruled.path.as_str(), message);
            converted.complaints.push(complaint);
            continue;
        }
        let ports: BTreeSet<u32> = own()
            .filter(|ruled| ruled.port.http)
            .flat_map(|ruled| ruled.port.targets.iter().copied())
            .collect();
        if ports.is_empty() {
            let raw = own().find(|ruled| !ruled.port.http);
            if let Some(ruled) = raw.filter(|_| !tokens(&policy.spec).is_empty()) {
                let message = format!(
                    "only HTTP has tokens, and these ports of {} are not declared as HTTP: want a port name such as http-web",
                    service.host
                );
                converted
                    .complaints
                    .push(policy.complaint(ruled.path.as_str(), message));
            }
            continue;
        }
        let place = Place {
            namespace: service.namespace.clone(),
            name: format!("policy~{}~{}", policy.meta.name, service.name),
            selector: Some(WorkloadSelector {
                match_labels: service.selector.clone(),
            }),
            ports,
        };
        converted.add(convert(policy, &place));
    }
    converted
}

/// Every token with its path: those of peers, then those of origins.
fn tokens(policy: &Policy) -> Vec<(String, &Jwt)> {
    let peers = policy.peers.iter().enumerate();
    let peers = peers.filter_map(|(i, peer)| match &peer.params {
        Some(Params::Jwt(jwt)) => Some((format!("spec.peers[{i}].jwt"), jwt)),
        _ => None,
    });
    let origins = policy.origins.iter().enumerate();
    let origins = origins.filter_map(|(i, origin)| {
        let jwt = origin.jwt.as_ref()?;
        Some((format!("spec.origins[{i}].jwt"), jwt))
    });
    peers.chain(origins).collect()
}

fn convert(policy: &Source<Policy>, place: &Place) -> Converted {
    let mut converted = Converted::default();
    let tokens = tokens(&policy.spec);
    if tokens.is_empty() {
        return converted;
    }
    let mut paths: BTreeMap<&str, Vec<Operation>> = BTreeMap::new();
    for (at, jwt) in &tokens {
        for (i, rule) in jwt.trigger_rules.iter().enumerate() {
            match operation(rule) {
                Ok(operation) => paths.entry(at).or_default().push(operation),
                Err((field, message)) => {
                    let path = format!("{at}.triggerRules[{i}].{field}");
                    converted.complaints.push(policy.complaint(path, message));
                }
            }
        }
    }
    if !converted.complaints.is_empty() {
        // Asking for tokens on other paths than the policy says would help no one.
        return converted;
    }
    let meta = || made::meta(&place.namespace, place.name.clone(), [&policy.origin()]);
    let request = RequestAuthentication {
        selector: place.selector.clone(),
        jwt_rules: tokens.iter().map(|(_, jwt)| rule(jwt)).collect(),
        ..Default::default()
    };
    let mut made = vec![made::security("RequestAuthentication", meta(), &request)];
    let mut rules: Vec<Rule> = Vec::new();
    for part in ["spec.origins", "spec.peers"] {
        let asked = match part {
            "spec.origins" => !policy.spec.origin_is_optional,
            // One of the peers is enough, and mutual TLS is checked by the listener.
            _ => !policy.spec.peer_is_optional && only_tokens(&policy.spec),
        };
        let of_part = || tokens.iter().filter(|(at, _)| at.starts_with(part));
        if !asked || of_part().next().is_none() {
            continue;
        }
        let everywhere = of_part().any(|(at, _)| !paths.contains_key(at.as_str()));
        let operations = of_part().filter_map(|(at, _)| paths.get(at.as_str()));
        let operations = operations.flatten().cloned().collect();
        let rule = refusal(
            if everywhere { Vec::new() } else { operations },
            &place.ports,
        );
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    if !rules.is_empty() {
        let spec = AuthorizationPolicy {
            selector: place.selector.clone(),
            action: Action::Deny.into(),
            rules,
            ..Default::default()
        };
        made.push(made::security("AuthorizationPolicy", meta(), &spec));
    }
    for object in made {
        match object {
            Ok(object) => converted.objects.push(object),
            Err(message) => converted.complaints.push(policy.complaint("spec", message)),
        }
    }
    if !converted.complaints.is_empty() {
        converted.objects.clear();
    }
    converted
}

fn only_tokens(policy: &Policy) -> bool {
    let mut peers = policy.peers.iter();
    peers.all(|peer| matches!(peer.params, Some(Params::Jwt(_))))
}

fn rule(jwt: &Jwt) -> JwtRule {
    let headers = jwt.jwt_headers.iter();
    JwtRule {
        issuer: jwt.issuer.clone(),
        audiences: jwt.audiences.clone(),
        jwks_uri: jwt.jwks_uri.clone(),
        from_headers: headers
            .map(|name| JwtHeader {
                name: name.clone(),
                prefix: String::new(),
            })
            .collect(),
        from_params: jwt.jwt_params.clone(),
        forward_original_token: true,
        ..Default::default()
    }
}

/// Refuses requests without a token to any of `operations`; to all when there is none.
fn refusal(mut operations: Vec<Operation>, ports: &BTreeSet<u32>) -> Rule {
    let is_any = |one: &Operation| one.paths.is_empty() && one.not_paths.is_empty();
    if operations.iter().any(is_any) {
        operations.clear();
    }
    if operations.is_empty() && !ports.is_empty() {
        operations.push(Operation::default());
    }
    Rule {
        from: vec![From {
            source: Some(Caller {
                not_request_principals: vec!["*".to_owned()],
                ..Default::default()
            }),
        }],
        to: operations
            .into_iter()
            .map(|operation| To {
                operation: Some(Operation {
                    ports: ports.iter().map(ToString::to_string).collect(),
                    ..operation
                }),
            })
            .collect(),
        when: Vec::new(),
    }
}

/// The paths of a trigger rule, or the field that cannot be converted, and why.
fn operation(rule: &TriggerRule) -> Result<Operation, (String, String)> {
    let patterns = |field: &str, list: &[StringMatch]| {
        let patterns = list.iter().enumerate();
        let patterns = patterns.map(|(i, one)| {
            pattern(one).map_err(|message| (format!("{field}[{i}]"), message.to_owned()))
        });
        patterns.collect::<Result<Vec<String>, _>>()
    };
    Ok(Operation {
        paths: patterns("includedPaths", &rule.included_paths)?,
        not_paths: patterns("excludedPaths", &rule.excluded_paths)?,
        ..Default::default()
    })
}

fn pattern(one: &StringMatch) -> Result<String, &'static str> {
    let (literal, pattern) = match &one.match_type {
        Some(MatchType::Exact(text)) => (text, text.clone()),
        Some(MatchType::Prefix(text)) => (text, format!("{text}*")),
        Some(MatchType::Suffix(text)) => (text, format!("*{text}")),
        Some(MatchType::Regex(_)) => {
            return Err(
                "regular expressions of paths have no counterpart: want exact, prefix or suffix",
            );
        }
        None => return Err("there is nothing to compare with: want exact, prefix or suffix"),
    };
    if literal.contains(['*', '{', '}']) {
        return Err(
            "`*`, `{` and `}` have a special meaning in paths today: want text without them",
        );
    }
    if literal.is_empty() {
        return Err("the element is empty: want a path, or leave it out");
    }
    Ok(pattern)
}
