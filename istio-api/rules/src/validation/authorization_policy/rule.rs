//! Who may do what.

use super::condition;
use crate::validation::primitives::access::{self, Values};
use crate::validation::report::{At, Check};
use istio_api::security::v1beta1::authorization_policy::Action;
use istio_api::security::v1beta1::{Operation, Rule, Source};

pub(super) fn validate(check: &mut Check<'_>, at: &At<'_>, rule: &Rule, action: Action) {
    for (i, from) in rule.from.iter().enumerate() {
        let at = at.item("from", i);
        match &from.source {
            Some(one) => source(check, &at.field("source"), one, action),
            None => missing(check, &at.field("source")),
        }
    }
    for (i, to) in rule.to.iter().enumerate() {
        let at = at.item("to", i);
        match &to.operation {
            Some(one) => operation(check, &at.field("operation"), one),
            None => missing(check, &at.field("operation")),
        }
    }
    for (i, when) in rule.when.iter().enumerate() {
        condition::validate(check, &at.item("when", i), when, action);
    }
    if action == Action::Deny && denies_all_tcp(rule) {
        check.warn(
            "AP-26",
            at,
            "nothing here applies to TCP, so the rule denies all TCP traffic: want operation.ports as well",
        );
    }
}

fn missing(check: &mut Check<'_>, at: &At<'_>) {
    check.error(
        "AP-15",
        at,
        "it is empty: want at least one list of values in it, or leave the element out",
    );
}

/// Whether nothing of the rule can be matched on TCP, where conditions on HTTP are dropped.
fn denies_all_tcp(rule: &Rule) -> bool {
    let mut sources = rule
        .from
        .iter()
        .filter_map(|from| from.source.as_ref())
        .peekable();
    let mut operations = rule
        .to
        .iter()
        .filter_map(|to| to.operation.as_ref())
        .peekable();
    if operations.peek().is_some() {
        return operations.all(|to| to.ports.is_empty() && to.not_ports.is_empty());
    }
    sources.peek().is_some()
        && sources.all(|from| {
            [
                &from.principals,
                &from.not_principals,
                &from.namespaces,
                &from.not_namespaces,
                &from.ip_blocks,
                &from.not_ip_blocks,
                &from.remote_ip_blocks,
                &from.not_remote_ip_blocks,
                &from.service_accounts,
                &from.not_service_accounts,
            ]
            .into_iter()
            .all(Vec::is_empty)
        })
}

fn source(check: &mut Check<'_>, at: &At<'_>, source: &Source, action: Action) {
    use Values::{Addresses, ServiceAccounts, Text, TrustDomains};
    let lists = [
        ("principals", &source.principals, Text),
        ("notPrincipals", &source.not_principals, Text),
        ("requestPrincipals", &source.request_principals, Text),
        ("notRequestPrincipals", &source.not_request_principals, Text),
        ("namespaces", &source.namespaces, Text),
        ("notNamespaces", &source.not_namespaces, Text),
        ("serviceAccounts", &source.service_accounts, ServiceAccounts),
        (
            "notServiceAccounts",
            &source.not_service_accounts,
            ServiceAccounts,
        ),
        ("trustDomains", &source.trust_domains, TrustDomains),
        ("notTrustDomains", &source.not_trust_domains, TrustDomains),
        ("ipBlocks", &source.ip_blocks, Addresses),
        ("notIpBlocks", &source.not_ip_blocks, Addresses),
        ("remoteIpBlocks", &source.remote_ip_blocks, Addresses),
        ("notRemoteIpBlocks", &source.not_remote_ip_blocks, Addresses),
    ];
    check.refuse(
        lists.iter().all(|(_, list, _)| list.is_empty()),
        "AP-16",
        at,
        "the source is empty: want at least one list of values, such as namespaces",
    );
    for (field, list, kind) in lists {
        let rules = match kind {
            ServiceAccounts => ("AP-21", "AP-21"),
            TrustDomains => ("AP-22", "AP-22"),
            _ => ("AP-20", "AP-19"),
        };
        access::list(check, rules, at, field, list, kind);
        check.refuse(
            action == Action::Custom && kind != Addresses && !list.is_empty(),
            "AP-06",
            &at.field(field),
            "with action CUSTOM the provider decides about the caller: want ipBlocks or remoteIpBlocks, or leave it out",
        );
    }
    let accounts = !source.service_accounts.is_empty() || !source.not_service_accounts.is_empty();
    let others = [
        &source.principals,
        &source.not_principals,
        &source.namespaces,
        &source.not_namespaces,
    ];
    check.refuse(
        accounts && others.into_iter().any(|list| !list.is_empty()),
        "AP-18",
        at,
        "service accounts cannot be combined with principals or namespaces: want one of the two",
    );
}

fn operation(check: &mut Check<'_>, at: &At<'_>, operation: &Operation) {
    use Values::{Paths, Ports, Text};
    let lists = [
        ("ports", &operation.ports, Ports),
        ("notPorts", &operation.not_ports, Ports),
        ("methods", &operation.methods, Text),
        ("notMethods", &operation.not_methods, Text),
        ("hosts", &operation.hosts, Text),
        ("notHosts", &operation.not_hosts, Text),
        ("paths", &operation.paths, Paths),
        ("notPaths", &operation.not_paths, Paths),
    ];
    check.refuse(
        lists.iter().all(|(_, list, _)| list.is_empty()),
        "AP-17",
        at,
        "the operation is empty: want at least one list of values, such as methods",
    );
    for (field, list, kind) in lists {
        let rules = match kind {
            Ports => ("AP-23", "AP-23"),
            _ => ("AP-24", "AP-25"),
        };
        access::list(check, rules, at, field, list, kind);
    }
}
