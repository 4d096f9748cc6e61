//! Delegates: VirtualServices that supply HTTP routes of another one.
//!
//! An entry of the root names a delegate and is replaced by the entries of the delegate, each
//! narrowed to what both match. Delegates have no hosts and cannot delegate further.

use crate::hashed::Hashed;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use istio_api::networking::v1alpha3::{
    self as api, HttpMatchRequest, HttpRoute, StringMatch, string_match::MatchType,
};

use super::VirtualService;
use crate::{config::Labels, key::ObjectKey};

/// The objects to which `root` delegates routes.
pub fn named(root: &VirtualService) -> BTreeSet<ObjectKey> {
    let routes = root.config.spec.http.iter();
    let delegates = routes.filter_map(|http| http.delegate.as_ref());
    delegates.map(|delegate| key_of(root, delegate)).collect()
}

fn key_of(root: &VirtualService, delegate: &api::Delegate) -> ObjectKey {
    let namespace = match delegate.namespace.as_str() {
        "" => root.namespace(),
        other => other,
    };
    ObjectKey::new(namespace, &delegate.name)
}

/// `root` with the references to delegates replaced by their routes.
///
/// A reference to a missing object, to one with hosts of its own or to one that is not exported
/// to the namespace of the root results in no route.
pub fn merge(
    root: &Arc<Hashed<VirtualService>>,
    lookup: impl Fn(&ObjectKey) -> Option<Arc<Hashed<VirtualService>>>,
) -> Arc<Hashed<VirtualService>> {
    if root
        .config
        .spec
        .http
        .iter()
        .all(|http| http.delegate.is_none())
    {
        return root.clone();
    }
    let mut merged = VirtualService::clone(root);
    merged.config.spec.http.clear();
    for http in &root.config.spec.http {
        let Some(reference) = &http.delegate else {
            merged.config.spec.http.push(http.clone());
            continue;
        };
        let key = key_of(root, reference);
        let delegate = match lookup(&key) {
            None => Err("it does not exist"),
            Some(delegate) if !delegate.hosts.is_empty() => Err("it has hosts of its own"),
            Some(delegate) if !delegate.export_to.includes(root.namespace()) => {
                Err("it is not exported to this namespace")
            }
            Some(delegate) => Ok(delegate),
        };
        let delegate = match delegate {
            Ok(delegate) => delegate,
            Err(reason) => {
                merged.unresolved.push((key, reason));
                continue;
            }
        };
        let entries = delegate
            .config
            .spec
            .http
            .iter()
            .filter(|entry| entry.delegate.is_none());
        merged
            .config
            .spec
            .http
            .extend(entries.filter_map(|entry| merge_entry(http, entry)));
        if !merged.delegates.contains(&delegate.config.reference) {
            merged.delegates.push(delegate.config.reference.clone());
        }
    }
    Arc::new(Hashed::new(merged))
}

/// One entry of the delegate, narrowed by the entry that names it; `None` if they never match the
/// same request.
fn merge_entry(root: &HttpRoute, delegate: &HttpRoute) -> Option<HttpRoute> {
    let mut merged = delegate.clone();
    merged.name = join(&root.name, &delegate.name);
    merged.r#match = merge_matches(&root.r#match, &delegate.r#match)?;
    let or = HttpRoute::clone(root);
    merged.rewrite = merged.rewrite.or(or.rewrite);
    merged.direct_response = merged.direct_response.or(or.direct_response);
    merged.timeout = merged.timeout.or(or.timeout);
    merged.retries = merged.retries.or(or.retries);
    merged.fault = merged.fault.or(or.fault);
    merged.cors_policy = merged.cors_policy.or(or.cors_policy);
    merged.headers = merged.headers.or(or.headers);
    if merged.mirror.is_none() {
        merged.mirror = or.mirror;
        merged.mirror_percent = merged.mirror_percent.or(or.mirror_percent);
        merged.mirror_percentage = merged.mirror_percentage.or(or.mirror_percentage);
    }
    if merged.mirrors.is_empty() {
        merged.mirrors = or.mirrors;
    }
    Some(merged)
}

/// All pairs of matches that can match one request. If some match of the delegate conflicts with
/// all matches of the root, the whole entry is left out.
fn merge_matches(
    root: &[HttpMatchRequest],
    delegate: &[HttpMatchRequest],
) -> Option<Vec<HttpMatchRequest>> {
    if root.is_empty() || delegate.is_empty() {
        return Some(if root.is_empty() { delegate } else { root }.to_vec());
    }
    let mut merged = Vec::with_capacity(root.len() * delegate.len());
    for theirs in delegate {
        let before = merged.len();
        let compatible = root.iter().filter(|ours| !conflict(ours, theirs));
        merged.extend(compatible.map(|ours| merge_match(ours, theirs)));
        if merged.len() == before {
            return None;
        }
    }
    Some(merged)
}

fn merge_match(root: &HttpMatchRequest, delegate: &HttpMatchRequest) -> HttpMatchRequest {
    let text = |delegate: &String, root: &String| {
        if delegate.is_empty() {
            root.clone()
        } else {
            delegate.clone()
        }
    };
    let either = |delegate: &Option<StringMatch>, root: &Option<StringMatch>| {
        delegate.clone().or_else(|| root.clone())
    };
    HttpMatchRequest {
        name: join(&root.name, &delegate.name),
        uri: either(&delegate.uri, &root.uri),
        scheme: either(&delegate.scheme, &root.scheme),
        method: either(&delegate.method, &root.method),
        authority: either(&delegate.authority, &root.authority),
        headers: unite(&root.headers, &delegate.headers),
        without_headers: unite(&root.without_headers, &delegate.without_headers),
        query_params: unite(&root.query_params, &delegate.query_params),
        source_labels: unite(&root.source_labels, &delegate.source_labels),
        port: if delegate.port == 0 {
            root.port
        } else {
            delegate.port
        },
        gateways: if delegate.gateways.is_empty() {
            &root.gateways
        } else {
            &delegate.gateways
        }
        .clone(),
        ignore_uri_case: root.ignore_uri_case || delegate.ignore_uri_case,
        source_namespace: text(&delegate.source_namespace, &root.source_namespace),
        stat_prefix: text(&delegate.stat_prefix, &root.stat_prefix),
    }
}

fn unite<T: Clone>(
    root: &BTreeMap<String, T>,
    delegate: &BTreeMap<String, T>,
) -> BTreeMap<String, T> {
    let mut united = root.clone();
    united.extend(
        delegate
            .iter()
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    united
}

fn join(root: &str, delegate: &str) -> String {
    match (root, delegate) {
        ("", name) | (name, "") => name.to_owned(),
        (root, delegate) => format!("{root}-{delegate}"),
    }
}

/// Whether no request can satisfy both. An unset field never conflicts.
fn conflict(root: &HttpMatchRequest, delegate: &HttpMatchRequest) -> bool {
    let cases_differ = root.uri.is_some()
        && delegate.uri.is_some()
        && root.ignore_uri_case != delegate.ignore_uri_case;
    let ports_differ = root.port != 0 && delegate.port != 0 && root.port != delegate.port;
    let namespaces_differ = !root.source_namespace.is_empty()
        && !delegate.source_namespace.is_empty()
        && root.source_namespace != delegate.source_namespace;
    let gateways_differ = !root.gateways.is_empty()
        && delegate
            .gateways
            .iter()
            .any(|gateway| !root.gateways.contains(gateway));
    cases_differ
        || ports_differ
        || namespaces_differ
        || gateways_differ
        || labels_conflict(&root.source_labels, &delegate.source_labels)
        || text_conflict(root.uri.as_ref(), delegate.uri.as_ref())
        || text_conflict(root.scheme.as_ref(), delegate.scheme.as_ref())
        || text_conflict(root.method.as_ref(), delegate.method.as_ref())
        || text_conflict(root.authority.as_ref(), delegate.authority.as_ref())
        || map_conflict(&root.headers, &delegate.headers)
        || map_conflict(&root.without_headers, &delegate.without_headers)
        || map_conflict(&root.query_params, &delegate.query_params)
}

fn labels_conflict(root: &Labels, delegate: &Labels) -> bool {
    root.iter()
        .any(|(key, value)| delegate.get(key).is_some_and(|theirs| theirs != value))
}

fn map_conflict(
    root: &BTreeMap<String, StringMatch>,
    delegate: &BTreeMap<String, StringMatch>,
) -> bool {
    root.iter().any(|(key, ours)| {
        delegate
            .get(key)
            .is_some_and(|theirs| text_conflict(Some(ours), Some(theirs)))
    })
}

fn text_conflict(root: Option<&StringMatch>, delegate: Option<&StringMatch>) -> bool {
    let kind = |text: Option<&StringMatch>| text.and_then(|text| text.match_type.clone());
    let (Some(root), Some(delegate)) = (kind(root), kind(delegate)) else {
        return false;
    };
    match (root, delegate) {
        // Whether two regular expressions can match the same text is not decided here.
        (MatchType::Regex(_), _) | (_, MatchType::Regex(_)) => true,
        (MatchType::Exact(ours), MatchType::Exact(theirs)) => ours != theirs,
        (MatchType::Exact(_), MatchType::Prefix(_)) => true,
        (MatchType::Prefix(ours), MatchType::Prefix(theirs) | MatchType::Exact(theirs)) => {
            !theirs.starts_with(&ours)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Config, ConfigRef, Created},
        mesh::Mesh,
    };

    fn object(name: &str, spec: api::VirtualService) -> Arc<Hashed<VirtualService>> {
        let config = Config {
            reference: ConfigRef {
                kind: "VirtualService",
                namespace: "demo".into(),
                name: name.into(),
                version: "1".into(),
            },
            created: Created::default(),
            labels: Labels::new(),
            annotations: Labels::new(),
            spec: crate::hashed::Spec(spec),
        };
        Arc::new(Hashed::new(VirtualService::new(config, &Mesh::default())))
    }

    fn prefix(text: &str) -> HttpMatchRequest {
        HttpMatchRequest {
            uri: Some(StringMatch {
                match_type: Some(MatchType::Prefix(text.to_owned())),
            }),
            ..Default::default()
        }
    }

    fn root(matches: Vec<HttpMatchRequest>) -> Arc<Hashed<VirtualService>> {
        let delegate = api::Delegate {
            name: "leaf".to_owned(),
            ..Default::default()
        };
        object(
            "root",
            api::VirtualService {
                hosts: vec!["a".to_owned()],
                http: vec![HttpRoute {
                    name: "r".to_owned(),
                    r#match: matches,
                    delegate: Some(delegate),
                    timeout: Some(prost_types::Duration {
                        seconds: 3,
                        nanos: 0,
                    }),
                    ..Default::default()
                }],
                ..Default::default()
            },
        )
    }

    fn leaf(entries: Vec<(&str, Vec<HttpMatchRequest>)>) -> Arc<Hashed<VirtualService>> {
        let http = entries
            .into_iter()
            .map(|(name, r#match)| HttpRoute {
                name: name.to_owned(),
                r#match,
                ..Default::default()
            })
            .collect();
        object(
            "leaf",
            api::VirtualService {
                http,
                ..Default::default()
            },
        )
    }

    #[test]
    fn entries_come_in_the_place_of_the_reference_and_inherit() {
        let root = root(vec![prefix("/api")]);
        let leaf = leaf(vec![
            ("in", vec![prefix("/api/v1")]),
            ("out", vec![prefix("/other")]),
        ]);
        let merged = merge(&root, |key| (&*key.name == "leaf").then(|| leaf.clone()));
        let [entry] = merged.config.spec.http.as_slice() else {
            panic!("want one entry, have {:?}", merged.config.spec.http);
        };
        assert_eq!(entry.name, "r-in");
        assert_eq!(entry.r#match, [prefix("/api/v1")]);
        assert_eq!(entry.timeout.unwrap().seconds, 3);
        assert_eq!(merged.delegates.len(), 1);
        assert_ne!(merged, root);
    }

    #[test]
    fn an_unknown_delegate_leaves_no_route() {
        let merged = merge(&root(Vec::new()), |_| None);
        assert!(merged.config.spec.http.is_empty());
        assert_eq!(
            merged.unresolved,
            [(ObjectKey::new("demo", "leaf"), "it does not exist")]
        );
    }

    #[test]
    fn matches_are_paired_and_expressions_always_conflict() {
        let both = merge_matches(&[prefix("/a"), prefix("/a/b")], &[prefix("/a/b/c")]).unwrap();
        assert_eq!(both.len(), 2);
        let regex = HttpMatchRequest {
            uri: Some(StringMatch {
                match_type: Some(MatchType::Regex(".*".to_owned())),
            }),
            ..Default::default()
        };
        assert_eq!(merge_matches(&[prefix("/a")], &[regex]), None);
    }
}
