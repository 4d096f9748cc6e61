//! Lists of values that access policies compare with.

use super::super::report::{At, Check, quote};
use super::host;
use super::{Outcome, ensure};

/// What the values of a list are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Values {
    /// Any text.
    Text,
    /// Addresses and prefixes.
    Addresses,
    /// Port numbers.
    Ports,
    /// Service accounts, with or without namespace.
    ServiceAccounts,
    /// Text with at most one `*`, first or last.
    Wildcards,
    /// Trust domains.
    TrustDomains,
    /// Paths, with or without templates.
    Paths,
}

const MAX_ACCOUNTS: usize = 16;
const MAX_ACCOUNT: usize = 320;

/// Checks a list by two rules: one for empty values, one for their form.
pub(in super::super) fn list(
    check: &mut Check<'_>,
    (empty, rule): (&'static str, &'static str),
    parent: &At<'_>,
    field: &'static str,
    values: &[String],
    kind: Values,
) {
    if kind == Values::ServiceAccounts && values.len() > MAX_ACCOUNTS {
        check.error(
            rule,
            &parent.field(field),
            format!(
                "{} service accounts are listed: want at most {MAX_ACCOUNTS}",
                values.len()
            ),
        );
    }
    for (i, value) in values.iter().enumerate() {
        let at = parent.item(field, i);
        if value.is_empty() {
            check.error(
                empty,
                &at,
                "the value is empty: want a value, or \"*\" for any that is present",
            );
        } else {
            check.test(rule, &at, kind.check(value));
        }
    }
}

impl Values {
    fn check(self, value: &str) -> Outcome {
        match self {
            Self::Text => Ok(()),
            Self::Addresses => host::ip_or_prefix(value),
            Self::Ports => {
                // A sign and leading zeros are accepted, too.
                let right = value
                    .parse::<i64>()
                    .is_ok_and(|port| (0..=65_535).contains(&port));
                ensure(right, || {
                    format!(
                        "{} is not a valid port: want a number from 0 to 65535",
                        quote(value)
                    )
                })
            }
            Self::ServiceAccounts => service_account(value),
            Self::Wildcards => one_wildcard(value),
            Self::TrustDomains => {
                one_wildcard(value)?;
                ensure(!value.contains('/'), || {
                    format!(
                        "{} has a slash: want the trust domain alone, such as \"cluster.local\"",
                        quote(value)
                    )
                })
            }
            Self::Paths => path(value),
        }
    }
}

fn service_account(value: &str) -> Outcome {
    let mut parts = value.splitn(3, '/');
    let (first, second, third) = (parts.next(), parts.next(), parts.next());
    let right = value.len() <= MAX_ACCOUNT
        && !value.contains('*')
        && first != Some("")
        && second != Some("")
        && third.is_none();
    ensure(right, || {
        format!(
            "{} is not a valid service account: want its name, or namespace/name, of at most {MAX_ACCOUNT} characters and without \"*\"",
            quote(value)
        )
    })
}

fn one_wildcard(value: &str) -> Outcome {
    let right = match value.matches('*').count() {
        0 => true,
        1 => value.starts_with('*') || value.ends_with('*'),
        _ => false,
    };
    ensure(right, || {
        format!(
            "{} has a misplaced \"*\": want at most one, first or last",
            quote(value)
        )
    })
}

fn is_template(segment: &str) -> bool {
    segment == "{*}" || segment == "{**}"
}

/// A path, whose segments may be `{*}` and `{**}`.
pub(in super::super) fn path(path: &str) -> Outcome {
    if !path.contains(['{', '}']) {
        return Ok(());
    }
    let mut rest = false;
    for segment in path.trim_matches('/').split('/') {
        if is_template(segment) {
            if rest {
                return Err(format!(
                    "{} has a template after {{**}}: want {{**}} as the last one",
                    quote(path)
                ));
            }
            rest = segment == "{**}";
        } else {
            let literal = !segment.is_empty()
                && segment.bytes().all(|byte| {
                    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte)
                });
            if !literal {
                return Err(format!(
                    "the segment {} of {} cannot be combined with a template: want {{*}} or {{**}} for a whole segment, or letters, digits and punctuation without \"*\" and braces",
                    quote(segment),
                    quote(path)
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for good in [
            "/a/{*}",
            "/a/{**}",
            "/a*",
            "/{*}/a/{*}",
            "/{**}/a",
            "{*}",
            "/{*}/",
            "*",
        ] {
            assert_eq!(path(good), Ok(()), "{good}");
        }
        for bad in [
            "/a/{b}",
            "/{**}/{*}",
            "/{*}/a*",
            "/a{*}",
            "/{",
            "/{*}//a",
            "/{**}/{**}",
        ] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn service_accounts() {
        for good in ["sa", "ns/sa"] {
            assert_eq!(service_account(good), Ok(()));
        }
        for bad in ["ns/*", "a/b/c", "/a", "a/", &"a".repeat(321)] {
            assert!(service_account(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn wildcards() {
        for good in ["a", "*", "*a", "a*"] {
            assert_eq!(one_wildcard(good), Ok(()));
        }
        assert!(one_wildcard("a*b").is_err() && one_wildcard("*a*").is_err());
    }

    #[test]
    fn ports() {
        for good in ["0", "80", "65535"] {
            assert_eq!(Values::Ports.check(good), Ok(()));
        }
        for bad in ["http", "65536", "-1"] {
            assert!(Values::Ports.check(bad).is_err());
        }
    }
}
