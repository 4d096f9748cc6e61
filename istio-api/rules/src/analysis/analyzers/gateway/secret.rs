//! Secrets that Gateways name.

use std::collections::HashMap;

use super::super::super::catalogue::{INVALID_GATEWAY_CREDENTIAL, REFERENCED_RESOURCE_NOT_FOUND};
use super::super::super::report::Report;
use super::super::super::resources::Resources;
use super::super::super::selection::Labels;
use super::no_workload;

pub(in super::super) fn analyze(resources: &Resources, report: &mut Report) {
    let mut known: HashMap<&Labels, Option<&str>> = HashMap::new();
    for gateway in &resources.gateways {
        let selector = &gateway.spec.selector;
        let namespace = *known.entry(selector).or_insert_with(|| {
            let mut workloads = resources.workloads.selected(None, selector);
            Some(workloads.next()?.pod.namespace())
        });
        let Some(namespace) = namespace else {
            no_workload(gateway, report);
            continue;
        };
        for (i, server) in gateway.spec.servers.iter().enumerate() {
            let Some(tls) = &server.tls else {
                continue;
            };
            let one = (!tls.credential_name.is_empty())
                .then(|| ("credentialName".to_owned(), &tls.credential_name));
            let list = tls.credential_names.iter().enumerate();
            let list = list.map(|(j, name)| (format!("credentialNames[{j}]"), name));
            for (member, name) in one.into_iter().chain(list) {
                let Some(key) = place(name, namespace) else {
                    continue;
                };
                let field = format!("spec.servers[{i}].tls.{member}");
                let origin = &gateway.head.origin;
                match resources.secrets.get(&key) {
                    None => report.add(
                        &REFERENCED_RESOURCE_NOT_FOUND,
                        origin,
                        field,
                        ["credentialName".to_owned(), name.clone()],
                    ),
                    Some(secret) if !secret.has_certificate => report.add(
                        &INVALID_GATEWAY_CREDENTIAL,
                        origin,
                        field,
                        [gateway.name().to_owned(), gateway.namespace().to_owned()],
                    ),
                    Some(_) => {}
                }
            }
        }
    }
}

/// Namespace and name of the Secret; `None` for credentials that are not Secrets.
fn place(name: &str, namespace: &str) -> Option<(String, String)> {
    let name = match name.split_once("://") {
        Some(("kubernetes" | "kubernetes-gateway", name)) => name,
        Some(_) => return None,
        None => name,
    };
    let (namespace, name) = name.split_once('/').unwrap_or((namespace, name));
    Some((namespace.to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn credentials_are_named_in_several_ways() {
        let pair = |namespace: &str, name: &str| Some((namespace.to_owned(), name.to_owned()));
        assert_eq!(place("a", "ns"), pair("ns", "a"));
        assert_eq!(place("b/a", "ns"), pair("b", "a"));
        assert_eq!(place("kubernetes-gateway://b/a", "ns"), pair("b", "a"));
        assert_eq!(place("configmap://b/a", "ns"), None);
    }
}
