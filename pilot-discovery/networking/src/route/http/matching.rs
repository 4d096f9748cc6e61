//! Converts HTTPMatchRequest to RouteMatch.

use std::collections::BTreeMap;

use istio_api::{
    envoy::{
        config::route::v3::{
            HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
            query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
        },
        r#type::matcher::v3::{
            ListMatcher, MetadataMatcher, OrMatcher, StringMatcher, ValueMatcher, list_matcher,
            metadata_matcher::{PathSegment, path_segment::Segment},
            string_matcher::MatchPattern,
            value_matcher,
        },
    },
    networking::v1alpha3::{self as api, string_match::MatchType},
};

use super::{regex, string_matcher};

/// Header name that refers to a claim of the request's token.
const CLAIMS: &str = "@request.auth.claims";
const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";

/// `elements`: a prefix must end at a path segment.
pub(super) fn route_match(matched: Option<&api::HttpMatchRequest>, elements: bool) -> RouteMatch {
    let Some(matched) = matched else {
        return RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..Default::default()
        };
    };
    let (headers, dynamic_metadata) = headers(&matched.headers, &matched.without_headers);
    let mut route = RouteMatch {
        path_specifier: Some(path(matched.uri.as_ref(), elements)),
        case_sensitive: Some(!matched.ignore_uri_case),
        headers,
        dynamic_metadata,
        query_parameters: matched
            .query_params
            .iter()
            .map(|(name, value)| QueryParameterMatcher {
                name: name.clone(),
                query_parameter_match_specifier: Some(pattern(value).map_or(
                    QueryParameterMatchSpecifier::PresentMatch(true),
                    QueryParameterMatchSpecifier::StringMatch,
                )),
            })
            .collect(),
        ..Default::default()
    };
    let pseudo = [
        (":method", &matched.method),
        (":authority", &matched.authority),
        (":scheme", &matched.scheme),
    ];
    for (name, value) in pseudo {
        if let Some(value) = value {
            route.headers.push(header(name, value));
        }
    }
    route
}

fn path(uri: Option<&api::StringMatch>, elements: bool) -> PathSpecifier {
    match uri.and_then(|uri| uri.match_type.as_ref()) {
        Some(MatchType::Exact(path)) => PathSpecifier::Path(path.clone()),
        Some(MatchType::Prefix(prefix)) if !prefix.is_empty() => {
            let bare = prefix.trim_end_matches('/');
            if elements && !bare.is_empty() {
                PathSpecifier::PathSeparatedPrefix(bare.to_owned())
            } else {
                PathSpecifier::Prefix(prefix.clone())
            }
        }
        Some(MatchType::Regex(pattern)) if !pattern.is_empty() => {
            PathSpecifier::SafeRegex(regex(pattern))
        }
        _ => PathSpecifier::Prefix("/".to_owned()),
    }
}

/// `None` if any value matches, as long as the header is present.
fn pattern(matched: &api::StringMatch) -> Option<StringMatcher> {
    Some(string_matcher(match matched.match_type.as_ref()? {
        MatchType::Exact(text) => MatchPattern::Exact(text.clone()),
        MatchType::Prefix(text) if text.is_empty() => return None,
        MatchType::Prefix(text) => MatchPattern::Prefix(text.clone()),
        MatchType::Regex(text) if text.is_empty() || text == "*" => return None,
        MatchType::Regex(text) => MatchPattern::SafeRegex(regex(text)),
    }))
}

fn header(name: &str, value: &api::StringMatch) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(pattern(value).map_or(
            HeaderMatchSpecifier::PresentMatch(true),
            HeaderMatchSpecifier::StringMatch,
        )),
        ..Default::default()
    }
}

/// Regular headers sorted by name, and claims as conditions on the token.
fn headers(
    with: &BTreeMap<String, api::StringMatch>,
    without: &BTreeMap<String, api::StringMatch>,
) -> (Vec<HeaderMatcher>, Vec<MetadataMatcher>) {
    let mut headers = Vec::new();
    let mut claims = Vec::new();
    let both = with
        .iter()
        .map(|pair| (pair, false))
        .chain(without.iter().map(|pair| (pair, true)));
    for ((name, value), invert) in both {
        if let Some(path) = claim_path(name) {
            claims.push(claim(path, value, invert));
            continue;
        }
        let mut matcher = header(name, value);
        matcher.invert_match = invert;
        matcher.treat_missing_header_as_empty = invert
            && !matches!(
                matcher.header_match_specifier,
                Some(HeaderMatchSpecifier::PresentMatch(_))
            );
        headers.push(matcher);
    }
    headers.sort_by(|a, b| a.name.cmp(&b.name));
    (headers, claims)
}

/// The path of nested claims: `@request.auth.claims.a.b` or `…claims[a][b]`.
fn claim_path(name: &str) -> Option<Vec<String>> {
    let lower = name.get(..CLAIMS.len())?;
    if !lower.eq_ignore_ascii_case(CLAIMS) {
        return None;
    }
    let rest = name.get(CLAIMS.len()..)?;
    let parts: Vec<String> = if let Some(dotted) = rest.strip_prefix('.') {
        dotted.split('.').map(str::to_owned).collect()
    } else {
        rest.strip_prefix('[')?
            .strip_suffix(']')?
            .split("][")
            .map(str::to_owned)
            .collect()
    };
    parts.iter().all(|part| !part.is_empty()).then_some(parts)
}

/// Matches if the claim is the value, or a list that contains it.
fn claim(path: Vec<String>, value: &api::StringMatch, invert: bool) -> MetadataMatcher {
    let single = pattern(value).map_or(
        value_matcher::MatchPattern::PresentMatch(true),
        value_matcher::MatchPattern::StringMatch,
    );
    let single = ValueMatcher {
        match_pattern: Some(single),
    };
    let listed = ValueMatcher {
        match_pattern: Some(value_matcher::MatchPattern::ListMatch(Box::new(
            ListMatcher {
                match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(single.clone()))),
            },
        ))),
    };
    MetadataMatcher {
        filter: JWT_FILTER.to_owned(),
        path: std::iter::once("payload".to_owned())
            .chain(path)
            .map(|key| PathSegment {
                segment: Some(Segment::Key(key)),
            })
            .collect(),
        value: Some(ValueMatcher {
            match_pattern: Some(value_matcher::MatchPattern::OrMatch(OrMatcher {
                value_matchers: vec![listed, single],
            })),
        }),
        invert,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_at_elements_of_the_path_where_they_must() {
        let prefix = |text: &str, elements| {
            let uri = api::StringMatch {
                match_type: Some(MatchType::Prefix(text.to_owned())),
            };
            path(Some(&uri), elements)
        };
        let separated = |text: &str| PathSpecifier::PathSeparatedPrefix(text.to_owned());
        assert_eq!(prefix("/foo", true), separated("/foo"));
        assert_eq!(prefix("/foo/", true), separated("/foo"));
        let plain = |text: &str| PathSpecifier::Prefix(text.to_owned());
        assert_eq!(prefix("/", true), plain("/"));
        assert_eq!(prefix("/foo/", false), plain("/foo/"));
    }

    #[test]
    fn claims_are_written_with_dots_or_brackets() {
        let path = |name| claim_path(name).map(|path| path.join("/"));
        assert_eq!(path("@request.auth.claims.a.b"), Some("a/b".to_owned()));
        assert_eq!(
            path("@request.auth.claims[a.b][c]"),
            Some("a.b/c".to_owned())
        );
        assert_eq!(path("@request.auth.claims"), None);
        assert_eq!(path("@request.auth.claims."), None);
        assert_eq!(path("x-user"), None);
    }
}
