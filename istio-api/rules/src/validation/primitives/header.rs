//! Names and values of HTTP headers.

use super::super::report::quote;
use super::{Outcome, ensure};

/// Claims of a request's token are written as if they were headers.
const CLAIMS: &str = "@request.auth.claims";

fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Whether a name stands for a claim: `@request.auth.claims.sub`, `@request.auth.claims[a][b]`.
pub(crate) fn is_claim(name: &str) -> bool {
    let Some(prefix) = name.get(..CLAIMS.len()) else {
        return false;
    };
    if !prefix.eq_ignore_ascii_case(CLAIMS) {
        return false;
    }
    let rest = name.get(CLAIMS.len()..).unwrap_or_default();
    match rest.strip_prefix('.') {
        Some(claim) => !claim.is_empty(),
        None => rest
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|claim| !claim.is_empty()),
    }
}

/// The name of a header that is matched.
pub(in super::super) fn match_name(name: &str) -> Outcome {
    let pseudo = [":method", ":scheme", ":authority", ":path", ":status"];
    ensure(
        is_token(name) || pseudo.contains(&name) || is_claim(name),
        || {
            format!(
                "{} is not a valid header name: want letters, digits and dashes, :method, :scheme, :authority, :path, :status or a claim such as @request.auth.claims.sub",
                quote(name)
            )
        },
    )
}

/// A header name of a CORS policy.
pub(in super::super) fn cors_name(name: &str) -> Outcome {
    ensure(is_token(name), || {
        format!(
            "{} is not a valid header name: want letters, digits and dashes, or \"*\"",
            quote(name)
        )
    })
}

/// A header name of letters, digits, dashes and underscores.
pub(in super::super) fn strict_name(name: &str) -> Outcome {
    let right = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    ensure(right && !name.is_empty(), || {
        format!(
            "{} is not a valid header name here: want letters, digits, dashes and underscores",
            quote(name)
        )
    })
}

/// A header name of a probe.
pub(in super::super) fn probe_name(name: &str) -> Outcome {
    let right = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    ensure(right && !name.is_empty(), || {
        format!(
            "{} is not a valid header name here: want letters, digits and dashes",
            quote(name)
        )
    })
}

/// A header that is added to or set in a request.
pub(in super::super) fn request_name(name: &str) -> Outcome {
    if name.is_empty() {
        return Err("the header name is empty: want one such as \"x-user\"".to_owned());
    }
    ensure(
        !name.starts_with(':') || name.eq_ignore_ascii_case(":authority"),
        || {
            format!(
                "{} cannot be set: of the pseudo-headers only :authority can",
                quote(name)
            )
        },
    )
}

/// A header that is removed, or that a response has.
pub(in super::super) fn plain_name(name: &str) -> Outcome {
    if name.is_empty() {
        return Err("the header name is empty: want one such as \"x-user\"".to_owned());
    }
    ensure(
        !name.starts_with(':') && !name.eq_ignore_ascii_case("host"),
        || {
            format!(
                "{} cannot be changed here: want neither \"host\" nor a pseudo-header",
                quote(name)
            )
        },
    )
}

#[derive(Clone, Copy)]
enum State {
    Literal,
    Variable,
    Array,
    ExpectText,
    Text,
    Delimiter,
    ArgumentsEnd,
    ExpectClose,
}

/// A header value: no control characters, and `%` only in pairs or around an Envoy variable.
pub(in super::super) fn value(text: &str) -> Outcome {
    let control = |byte: u8| (byte < 0x20 && byte != b'\t') || byte == 0x7f;
    if text.bytes().any(control) {
        return Err(format!(
            "{} has a control character: want text without line breaks",
            quote(text)
        ));
    }
    ensure(is_balanced(text.as_bytes()), || {
        format!(
            "{} has a lone %: want %% for a percent sign, or a variable such as %HOSTNAME%",
            quote(text)
        )
    })
}

fn is_balanced(text: &[u8]) -> bool {
    let mut state = State::Literal;
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        state = match (state, byte) {
            (State::Literal, b'%') if bytes.peek() == Some(&b'%') => {
                bytes.next();
                State::Literal
            }
            (State::Literal, b'%') => State::Variable,
            (State::Literal, _) => State::Literal,
            (State::Variable, b'%') => State::Literal,
            (State::Variable, b'(') => State::Array,
            (State::Variable, _) => State::Variable,
            (State::Array, b'[') => State::ExpectText,
            (State::ExpectText, b'"') => State::Text,
            (State::Text, b'\\') => match bytes.next() {
                Some(_) => State::Text,
                None => return false,
            },
            (State::Text | State::ArgumentsEnd, b')') => State::ExpectClose,
            (State::Text, b'"') => State::Delimiter,
            (State::Delimiter, b',') => State::ExpectText,
            (State::Delimiter, b']') => State::ArgumentsEnd,
            (State::ExpectClose, b'%') => State::Literal,
            // Spaces between the parts are ignored.
            (state, b' ') => state,
            (State::Array | State::Text, _) => State::Text,
            _ => return false,
        };
    }
    matches!(state, State::Literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for good in [
            "",
            "a",
            "100%%",
            "%HOSTNAME%",
            "a %REQ(X)% b",
            "%REQ(:path)%",
            r#"%A([ "x" , "y" ])%"#,
            r#"%A(a\)b)%"#,
            "tab\there",
            "%A( x) %",
        ] {
            assert_eq!(value(good), Ok(()), "{good}");
        }
        for bad in [
            "100%",
            "%START_TIME%%",
            "abc%123",
            "%A(",
            "%A([x])%",
            r#"%A(["x";])%"#,
            r#"%A(["x"]x)%"#,
            "%A(x)y%",
            "%A(x\\",
            "a\nb",
            "\u{7f}",
        ] {
            assert!(value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn claims() {
        for good in [
            "@request.auth.claims.sub",
            "@request.auth.claims[a][b]",
            "@REQUEST.auth.claims.a",
        ] {
            assert!(is_claim(good), "{good}");
        }
        for bad in [
            "@request.auth.claims",
            "@request.auth.claims[]",
            "@request.auth.claims.",
            "@request.auth.claimsx",
            "x",
        ] {
            assert!(!is_claim(bad), "{bad}");
        }
    }

    #[test]
    fn names() {
        for good in ["x-user", ":path", "a.b", "@request.auth.claims.a"] {
            assert_eq!(match_name(good), Ok(()));
        }
        for bad in ["a b", ":foo", ""] {
            assert!(match_name(bad).is_err());
        }
        assert!(cors_name("*").is_ok() && cors_name("a b").is_err() && cors_name("").is_err());
        assert!(strict_name("x_a-b").is_ok() && strict_name("a.b").is_err());
        assert!(probe_name("x-a").is_ok() && probe_name("x_a").is_err());
        assert!(request_name(":Authority").is_ok() && request_name("Host").is_ok());
        assert!(request_name(":path").is_err() && request_name("").is_err());
        assert!(plain_name("x-a").is_ok());
        assert!(plain_name("HOST").is_err() && plain_name(":status").is_err());
    }
}
