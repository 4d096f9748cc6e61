//! Subjects of a binding: who is allowed.

use super::constraint::in_brackets;
use istio_api::rbac::v1alpha1::Subject;
use istio_api::security::v1beta1::{Condition, Source};

const GROUPS: &str = "request.auth.claims[groups]";

/// A caller, as a source and conditions beside it.
#[derive(Debug, Default)]
pub(super) struct Caller {
    pub(super) source: Source,
    pub(super) when: Vec<Condition>,
}

impl Caller {
    /// Adds a requirement: to the list of the source, or as a condition if the list has one
    /// already.
    fn require(
        &mut self,
        list: fn(&mut Source) -> &mut Vec<String>,
        key: &str,
        values: Vec<String>,
    ) {
        let list = list(&mut self.source);
        if list.is_empty() {
            *list = values;
        } else {
            self.when.push(condition(key, values));
        }
    }
}

fn condition(key: &str, values: Vec<String>) -> Condition {
    Condition {
        key: key.to_owned(),
        values,
        not_values: Vec::new(),
    }
}

/// Reads a subject; with `of_origin` principals are those of tokens. `None` if it names no caller.
///
/// # Errors
/// The field that cannot be converted, and why.
pub(super) fn read(subject: &Subject, of_origin: bool) -> Result<Option<Caller>, (String, String)> {
    if *subject == Subject::default() {
        return Ok(None);
    }
    let mut caller = Caller::default();
    let (principals, not_principals, principal): (fn(&mut Source) -> &mut Vec<String>, _, _) =
        if of_origin {
            (
                |source| &mut source.request_principals,
                (|source| &mut source.not_request_principals)
                    as fn(&mut Source) -> &mut Vec<String>,
                "request.auth.principal",
            )
        } else {
            (
                |source| &mut source.principals,
                |source| &mut source.not_principals,
                "source.principal",
            )
        };
    if !subject.user.is_empty() && subject.user != "*" {
        caller.require(principals, principal, vec![subject.user.clone()]);
    }
    if !subject.names.is_empty() {
        caller.require(principals, principal, subject.names.clone());
    }
    not_principals(&mut caller.source).clone_from(&subject.not_names);
    if !subject.group.is_empty() {
        caller
            .when
            .push(condition(GROUPS, vec![subject.group.clone()]));
    }
    if !subject.groups.is_empty() {
        caller.when.push(condition(GROUPS, subject.groups.clone()));
    }
    if !subject.not_groups.is_empty() {
        caller.when.push(Condition {
            key: GROUPS.to_owned(),
            values: Vec::new(),
            not_values: subject.not_groups.clone(),
        });
    }
    caller.source.namespaces.clone_from(&subject.namespaces);
    caller
        .source
        .not_namespaces
        .clone_from(&subject.not_namespaces);
    caller.source.ip_blocks.clone_from(&subject.ips);
    caller.source.not_ip_blocks.clone_from(&subject.not_ips);
    for (key, value) in &subject.properties {
        let values = vec![value.clone()];
        match key.as_str() {
            "source.principal" | "source.user" => caller.require(principals, principal, values),
            "source.namespace" => caller.require(|source| &mut source.namespaces, key, values),
            "source.ip" => caller.require(|source| &mut source.ip_blocks, key, values),
            "request.auth.principal" => {
                caller.require(|source| &mut source.request_principals, key, values)
            }
            _ if is_condition(key) => caller.when.push(condition(key, values)),
            _ => {
                let message = "this property has no counterpart: want one such as \"source.namespace\" or \"request.auth.claims[iss]\"";
                return Err((format!("properties[{key}]"), message.to_owned()));
            }
        }
    }
    Ok(Some(caller))
}

fn is_condition(key: &str) -> bool {
    ["request.auth.audiences", "request.auth.presenter"].contains(&key)
        || key.starts_with("experimental.envoy.filters.")
        || ["request.auth.claims", "request.headers"]
            .iter()
            .any(|prefix| in_brackets(key, prefix).is_some())
}

/// Whether it can be checked only for requests, not for connections.
pub(super) fn needs_requests(subject: &Subject) -> bool {
    const OF_CONNECTIONS: [&str; 3] = ["source.ip", "source.namespace", "source.principal"];
    let mut keys = subject.properties.keys();
    !subject.group.is_empty()
        || !subject.groups.is_empty()
        || !subject.not_groups.is_empty()
        || keys.any(|key| !OF_CONNECTIONS.contains(&key.as_str()))
}
