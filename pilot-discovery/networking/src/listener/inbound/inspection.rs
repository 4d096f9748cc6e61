//! On which ports the first bytes of a connection are inspected.
//!
//! If the server speaks first, an inspector may wait forever, so each inspector is disabled where
//! nothing needs its result.

use std::collections::BTreeMap;

use istio_api::envoy::{
    config::listener::v3::{
        ListenerFilter, ListenerFilterChainMatchPredicate,
        listener_filter_chain_match_predicate::{MatchSet, Rule},
    },
    r#type::v3::Int32Range,
};

use crate::listener::filter;

/// What has to be detected for connections to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// `None` = all ports that are not listed.
    pub(super) port: Option<u32>,
    /// Whether they begin with TLS, and its ALPN and server name.
    pub(super) tls: bool,
    /// Whether they begin with HTTP.
    pub(super) http: bool,
}

/// The TLS inspector, then the HTTP inspector, each if some port needs it.
pub(super) fn inspectors(needs: &[Needs]) -> Vec<ListenerFilter> {
    // 0 stands for all ports that are not listed.
    let ports: BTreeMap<u32, Needs> = needs
        .iter()
        .map(|needs| (needs.port.unwrap_or(0), *needs))
        .collect();
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

/// Matches connections to one of `ports`; `None` if there are none.
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
    use super::*;

    fn needs(port: Option<u32>, tls: bool, http: bool) -> Needs {
        Needs { port, tls, http }
    }

    #[test]
    fn plain_listeners_need_no_inspector() {
        assert!(inspectors(&[needs(Some(80), false, false)]).is_empty());
    }

    #[test]
    fn inspectors_are_off_where_their_result_is_not_used() {
        let filters = inspectors(&[needs(None, false, true), needs(Some(80), true, false)]);
        assert_eq!(filters.len(), 2);
        // Only port 80 needs the TLS inspector.
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
