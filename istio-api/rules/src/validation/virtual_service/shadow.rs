//! Rules and matches that earlier ones shadow; all of these are warnings.

use std::collections::{BTreeMap, HashMap};

use prost::Message;

use crate::validation::report::{At, Check, quote, shorten};
use crate::validation::{SPEC, Shadow};
use istio_api::networking::v1alpha3::string_match::MatchType;
use istio_api::networking::v1alpha3::{
    HttpMatchRequest, HttpRoute, StringMatch, TcpRoute, TlsRoute,
};

/// Limit of comparisons of prefixes: with thousands of equal prefixes, the time would grow with
/// the square of their number.
const MAX_COMPARISONS: usize = 100_000;

/// For a longer prefix, only shorter ones of up to this many characters are considered.
const MAX_PREFIX: usize = 1024;

struct Rule {
    name: String,
    matches: Vec<Condition>,
}

struct Condition {
    name: String,
    /// All of the match but its name.
    content: Vec<u8>,
}

fn unreachable(rule: &Rule, reason: &'static str) -> Shadow {
    Shadow::Unreachable {
        rule: rule.name.clone(),
        reason,
    }
}

fn name(name: &str, index: usize) -> String {
    if name.is_empty() {
        format!("#{index}")
    } else {
        quote(name)
    }
}

pub(super) fn http(check: &mut Check<'_>, routes: &[HttpRoute]) {
    let rule = |(i, route): (usize, &HttpRoute)| Rule {
        name: name(&route.name, i),
        matches: route
            .r#match
            .iter()
            .enumerate()
            .map(|(j, one)| Condition {
                name: name(&one.name, j),
                content: HttpMatchRequest {
                    name: String::new(),
                    ..one.clone()
                }
                .encode_to_vec(),
            })
            .collect(),
    };
    let rules: Vec<Rule> = routes.iter().enumerate().map(rule).collect();
    let repeated = repeated(check, "http", &rules);
    covered(check, routes, &rules, &repeated);
}

pub(super) fn tls(check: &mut Check<'_>, routes: &[TlsRoute]) {
    let rules = routes
        .iter()
        .enumerate()
        .map(|(i, route)| unnamed(i, &route.r#match));
    repeated(check, "tls", &rules.collect::<Vec<_>>());
}

pub(super) fn tcp(check: &mut Check<'_>, routes: &[TcpRoute]) {
    let rules = routes
        .iter()
        .enumerate()
        .map(|(i, route)| unnamed(i, &route.r#match));
    repeated(check, "tcp", &rules.collect::<Vec<_>>());
}

fn unnamed(index: usize, matches: &[impl Message]) -> Rule {
    Rule {
        name: name("", index),
        matches: matches
            .iter()
            .enumerate()
            .map(|(j, one)| Condition {
                name: name("", j),
                content: one.encode_to_vec(),
            })
            .collect(),
    }
}

/// Warns of repeated matches; returns the indices of their rule and match.
fn repeated(check: &mut Check<'_>, field: &'static str, rules: &[Rule]) -> Vec<(usize, usize)> {
    let mut seen: HashMap<&[u8], usize> = HashMap::new();
    let mut without_match: Option<usize> = None;
    let mut found = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        let at = SPEC.item(field, i);
        if rule.matches.is_empty() {
            if without_match.is_some() {
                check.shadow("VS-111", &at, format!(
                    "rule {} is never reached, as an earlier one matches everything: want only the last rule without matches",
                    rule.name
                ), || unreachable(rule, "only the last rule may lack matches"));
            }
            without_match = Some(i);
            continue;
        }
        let before = found.len();
        for (j, one) in rule.matches.iter().enumerate() {
            let at = at.item("match", j);
            if let Some(other) = seen.get(one.content.as_slice()) {
                let other = rules.get(*other).map_or("", |rule| rule.name.as_str());
                check.shadow("VS-113", &at, format!(
                    "match {} of rule {} has no effect, as rule {other} has the same: want each match once",
                    one.name, rule.name
                ), || Shadow::Ineffective {
                    rule: rule.name.clone(),
                    matched: one.name.clone(),
                    duplicate: other.to_owned(),
                });
                found.push((i, j));
                continue;
            }
            seen.insert(&one.content, i);
            if without_match.is_some() {
                check.shadow("VS-112", &at, format!(
                    "match {} of rule {} is never reached, as an earlier rule matches everything: want that rule last",
                    one.name, rule.name
                ), || unreachable(rule, "an earlier rule matches everything"));
            }
        }
        if found.len() - before == rule.matches.len() {
            check.shadow("VS-114", &at, format!(
                "rule {} is never reached, as earlier rules have all its matches: leave it out, or change its matches",
                rule.name
            ), || unreachable(rule, "earlier rules have all its matches"));
        }
    }
    found
}

/// Warns of path prefixes that an earlier, shorter prefix covers.
fn covered(check: &mut Check<'_>, routes: &[HttpRoute], rules: &[Rule], skip: &[(usize, usize)]) {
    let mut earlier: HashMap<&str, Vec<(usize, usize, &HttpMatchRequest)>> = HashMap::new();
    let mut comparisons = 0;
    for (i, route) in routes.iter().enumerate() {
        for (j, one) in route.r#match.iter().enumerate() {
            let Some(MatchType::Prefix(prefix)) =
                one.uri.as_ref().and_then(|uri| uri.match_type.as_ref())
            else {
                continue;
            };
            if skip.binary_search(&(i, j)).is_ok() {
                continue;
            }
            let at = SPEC.item("http", i);
            let at = at.item("match", j);
            for (end, _) in prefix.char_indices().take(MAX_PREFIX) {
                let shorter = prefix.get(..end).unwrap_or_default();
                for (first, second, other) in earlier.get(shorter).into_iter().flatten() {
                    comparisons += 1;
                    if comparisons > MAX_COMPARISONS {
                        return;
                    }
                    if covers(other, one) {
                        warn(
                            check,
                            &at,
                            rules,
                            (i, j, prefix),
                            (*first, *second, shorter),
                        );
                    }
                }
            }
            earlier.entry(prefix).or_default().push((i, j, one));
        }
    }
}

type Place<'a> = (usize, usize, &'a str);

fn warn(check: &mut Check<'_>, at: &At<'_>, rules: &[Rule], later: Place<'_>, earlier: Place<'_>) {
    let names = |(rule, one, _): Place<'_>| {
        let rule = rules.get(rule)?;
        Some((rule.name.as_str(), rule.matches.get(one)?.name.as_str()))
    };
    let (rule, one) = names(later).unwrap_or_default();
    let (other_rule, other) = names(earlier).unwrap_or_default();
    check.shadow("VS-115", at, format!(
        "match {one} of prefix {} in rule {rule} has no effect, as match {other} of prefix {} in rule {other_rule} covers it: want the longer prefix first",
        quote(later.2),
        quote(earlier.2)
    ), || Shadow::Ineffective {
        rule: rule.to_owned(),
        matched: format!("{one} of prefix {}", shorten(later.2)),
        duplicate: format!("{other} of prefix {} on {other_rule}", shorten(earlier.2)),
    });
}

fn covers(earlier: &HttpMatchRequest, later: &HttpMatchRequest) -> bool {
    let get = || StringMatch {
        match_type: Some(MatchType::Exact("GET".to_owned())),
    };
    let method = |one: &HttpMatchRequest| form(&one.method.clone().unwrap_or_else(get));
    let authority = |one: &HttpMatchRequest| one.authority.as_ref().map(form).unwrap_or_default();
    earlier.port == later.port
        && method(earlier).starts_with(&method(later))
        && authority(earlier).starts_with(&authority(later))
        && maps_cover(&earlier.headers, &later.headers)
        && maps_cover(&earlier.query_params, &later.query_params)
        && maps_cover(&earlier.without_headers, &later.without_headers)
}

fn maps_cover(
    earlier: &BTreeMap<String, StringMatch>,
    later: &BTreeMap<String, StringMatch>,
) -> bool {
    earlier.len() == later.len()
        && earlier
            .iter()
            .zip(later)
            .all(|((key, value), (other, later))| {
                key == other && form(value).starts_with(&form(later))
            })
}

/// How 1.30 compares conditions: one covers what its text begins with.
fn form(value: &StringMatch) -> String {
    match &value.match_type {
        Some(MatchType::Exact(text)) => format!("exact:{text}"),
        Some(MatchType::Prefix(text)) => format!("prefix:{text}"),
        Some(MatchType::Regex(_)) | None => String::new(),
    }
}
