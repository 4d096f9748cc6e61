//! On which ports the first bytes of a connection are looked at.
//!
//! A server that speaks first would wait for ever behind an inspector, so each is turned off
//! where no filter chain asks for what it finds.

use std::collections::BTreeMap;

use istio_api::envoy::{
    config::listener::v3::{
        FilterChain, ListenerFilter, ListenerFilterChainMatchPredicate,
        listener_filter_chain_match_predicate::{MatchSet, Rule},
    },
    r#type::v3::Int32Range,
};

use crate::listener::filter;

#[derive(Clone, Copy, Debug, Default)]
struct Needs {
    tls: bool,
    http: bool,
}

/// The TLS inspector, then the HTTP inspector, as far as some chain needs them.
pub(super) fn inspectors(chains: &[FilterChain]) -> Vec<ListenerFilter> {
    // 0 stands for every port without chains of its own.
    let mut ports: BTreeMap<u32, Needs> = BTreeMap::new();
    for chain in chains {
        let Some(matched) = &chain.filter_chain_match else {
            continue;
        };
        let needs = ports
            .entry(matched.destination_port.unwrap_or(0))
            .or_default();
        needs.tls |= matched.transport_protocol == "tls";
        needs.http |= matched
            .application_protocols
            .iter()
            .any(|protocol| protocol == "http/1.1" || protocol == "h2c");
    }
    let mut filters = Vec::new();
    if ports.values().any(|needs| needs.tls) {
        let elsewhere = ports.get(&0).is_some_and(|needs| needs.tls);
        let listed = ports.iter().filter(|(_, needs)| needs.tls != elsewhere);
        let predicate = any_of(listed.map(|(port, _)| *port));
        filters.push(ListenerFilter {
            filter_disabled: if elsewhere {
                predicate
            } else {
                predicate.map(not)
            },
            ..filter::tls_inspector()
        });
    }
    if ports.values().any(|needs| needs.http) {
        let idle = ports
            .iter()
            .filter(|(_, needs)| !needs.http)
            .map(|(port, _)| *port);
        filters.push(ListenerFilter {
            filter_disabled: any_of(idle),
            ..filter::http_inspector()
        });
    }
    filters
}

/// Connections to one of `ports`; `None` when there are none.
fn any_of(ports: impl Iterator<Item = u32>) -> Option<ListenerFilterChainMatchPredicate> {
    let mut rules: Vec<ListenerFilterChainMatchPredicate> = ports
        .filter_map(|port| {
            let start = i32::try_from(port).ok()?;
            let range = Int32Range {
                start,
                end: start + 1,
            };
            Some(predicate(Rule::DestinationPortRange(range)))
        })
        .collect();
    match rules.len() {
        0 => None,
        1 => rules.pop(),
        _ => Some(predicate(Rule::OrMatch(MatchSet { rules }))),
    }
}

fn not(inner: ListenerFilterChainMatchPredicate) -> ListenerFilterChainMatchPredicate {
    predicate(Rule::NotMatch(Box::new(inner)))
}

fn predicate(rule: Rule) -> ListenerFilterChainMatchPredicate {
    ListenerFilterChainMatchPredicate { rule: Some(rule) }
}

#[cfg(test)]
mod tests {
    use istio_api::envoy::config::listener::v3::FilterChainMatch;

    use super::*;

    fn chain(port: Option<u32>, transport: &str, alpn: &[&str]) -> FilterChain {
        FilterChain {
            filter_chain_match: Some(FilterChainMatch {
                destination_port: port,
                transport_protocol: transport.to_owned(),
                application_protocols: alpn.iter().map(|&a| a.to_owned()).collect(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn plain_listeners_need_no_inspector() {
        assert!(inspectors(&[chain(Some(80), "raw_buffer", &[])]).is_empty());
    }

    #[test]
    fn inspectors_are_off_where_no_chain_asks() {
        let filters = inspectors(&[
            chain(None, "raw_buffer", &["http/1.1"]),
            chain(Some(80), "tls", &[]),
        ]);
        assert_eq!(filters.len(), 2);
        // Only port 80 wants TLS looked at.
        assert!(matches!(
            filters[0].filter_disabled.as_ref().unwrap().rule,
            Some(Rule::NotMatch(_))
        ));
        assert!(matches!(
            filters[1].filter_disabled.as_ref().unwrap().rule,
            Some(Rule::DestinationPortRange(Int32Range {
                start: 80,
                end: 81
            }))
        ));
    }
}
