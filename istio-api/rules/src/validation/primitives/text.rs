//! Matches of text.

use super::{Outcome, re2};
use istio_api::networking::v1alpha3::StringMatch;
use istio_api::networking::v1alpha3::string_match::MatchType;

const MAX_REGEX: usize = 1024;

/// A regular expression that Envoy accepts.
pub(in super::super) fn regex(pattern: &str) -> Outcome {
    if pattern.is_empty() {
        return Err("the regular expression is empty: want one in RE2 syntax".to_owned());
    }
    if pattern.len() > MAX_REGEX {
        return Err(format!(
            "the regular expression has {} bytes: want at most {MAX_REGEX}",
            pattern.len()
        ));
    }
    re2::check(pattern)
}

/// A match, of which only `exact` may be empty.
pub(in super::super) fn string_match(value: &StringMatch) -> Outcome {
    match &value.match_type {
        Some(MatchType::Prefix(prefix)) if prefix.is_empty() => Err(
            "the prefix is empty, which matches everything: want a prefix, or no match".to_owned(),
        ),
        Some(MatchType::Regex(pattern)) => regex(pattern),
        _ => Ok(()),
    }
}

/// A match of a path, where an empty prefix is allowed.
pub(in super::super) fn uri_match(value: &StringMatch) -> Outcome {
    match &value.match_type {
        Some(MatchType::Regex(pattern)) => regex(pattern),
        _ => Ok(()),
    }
}

/// A match of a header that must not be there; `*` stands for any value.
pub(in super::super) fn without_match(value: &StringMatch) -> Outcome {
    match &value.match_type {
        Some(MatchType::Regex(pattern)) if pattern == "*" => Ok(()),
        _ => string_match(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_of_expressions() {
        assert_eq!(regex(&"a".repeat(1024)), Ok(()));
        assert!(regex(&"a".repeat(1025)).is_err());
        assert!(regex("").is_err());
    }

    #[test]
    fn look_ahead_is_refused_with_the_name_of_the_syntax() {
        assert!(regex("(?=a)").unwrap_err().contains("RE2"));
    }
}
