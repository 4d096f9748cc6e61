//! The environment of the process, read once and passed on as a value.

use std::{collections::BTreeMap, time::Duration};

use mesh_core::duration;

/// Environment variables as a value; an empty variable counts as unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env(BTreeMap<String, String>);

/// A variable that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid environment variable {name}: {value:?} is not {expected}")]
pub struct Error {
    name: String,
    value: String,
    expected: &'static str,
}

impl Env {
    /// The variables of this process, without those that are not UTF-8.
    #[must_use]
    pub fn from_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
        )
    }

    /// An environment with the given pairs.
    #[must_use]
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// The value of `name`, if it is set and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The value of `name`, else `default`.
    #[must_use]
    pub fn text(&self, name: &str, default: &str) -> String {
        self.get(name).unwrap_or(default).to_owned()
    }

    /// Every variable that starts with `prefix`, without the prefix, in name order.
    pub fn with_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
        self.0
            .range(prefix.to_owned()..)
            .take_while(move |(name, _)| name.starts_with(prefix))
            .filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    /// A boolean in Go's forms: `1 t T true TRUE True` and `0 f F false FALSE False`.
    ///
    /// # Errors
    /// If the value has any other form.
    pub fn bool(&self, name: &str, default: bool) -> Result<bool, Error> {
        self.parse(name, default, "a boolean (true or false)", parse_bool)
    }

    /// An integer within the range of `T`.
    ///
    /// # Errors
    /// If the value is not such a number.
    pub fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T, Error> {
        self.parse(name, default, "a number in the allowed range", |text| {
            text.trim().parse().ok()
        })
    }

    /// A duration in Go's form, `1h30m`.
    ///
    /// # Errors
    /// If the value is not a duration or is negative.
    pub fn duration(&self, name: &str, default: Duration) -> Result<Duration, Error> {
        self.parse(name, default, "a duration such as 1h30m or 500ms", |text| {
            duration::parse(text.trim()).ok()
        })
    }

    fn parse<T>(
        &self,
        name: &str,
        default: T,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Error> {
        match self.get(name) {
            None => Ok(default),
            Some(value) => parse(value).ok_or_else(|| Error {
                name: name.to_owned(),
                value: value.to_owned(),
                expected,
            }),
        }
    }
}

/// Go's `strconv.ParseBool`.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_counts_as_unset_and_bad_text_names_the_variable() {
        let env = Env::from_pairs([
            ("A", ""),
            ("B", "maybe"),
            ("C", "T"),
            ("D", "90s"),
            ("E", "70000"),
        ]);
        assert_eq!(env.bool("A", true), Ok(true));
        assert_eq!(env.bool("C", false), Ok(true));
        assert_eq!(
            env.duration("D", Duration::ZERO),
            Ok(Duration::from_secs(90))
        );
        assert!(env.number::<u16>("E", 1).is_err());
        let error = env.bool("B", false).unwrap_err().to_string();
        assert_eq!(
            error,
            "invalid environment variable B: \"maybe\" is not a boolean (true or false)"
        );
    }

    #[test]
    fn prefix_is_stripped_and_sorted() {
        let env = Env::from_pairs([
            ("ISTIO_META_B", "2"),
            ("ISTIO_META_A", "1"),
            ("ISTIO_METAJSON_X", "3"),
        ]);
        let found: Vec<_> = env.with_prefix("ISTIO_META_").collect();
        assert_eq!(found, [("A", "1"), ("B", "2")]);
    }
}
