//! URLs, parsed as leniently as Istio parses them.

use super::super::report::quote;
use super::Outcome;

/// The parts of a URL that rules check.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    /// Lower case; empty if there is none.
    scheme: String,
    /// Port as written; empty if there is none.
    port: String,
}

/// A URL that a JSON Web Key Set is fetched from.
pub(in super::super) fn key_set(text: &str) -> Outcome {
    let wrong = |why: &str| {
        Err(format!(
            "{} {why}: want one such as \"https://example.com/keys.json\"",
            quote(text)
        ))
    };
    let url = match parse(text) {
        Ok(url) => url,
        Err(why) => return wrong(&format!("is not a valid URL ({why})")),
    };
    if !matches!(url.scheme.as_str(), "http" | "https") {
        return wrong("is neither http nor https");
    }
    Ok(())
}

/// A URL that a WebAssembly module is fetched from.
pub(in super::super) fn module(text: &str) -> Outcome {
    let wrong = |why: &str| {
        Err(format!(
            "{} {why}: want one such as \"oci://registry/image:tag\"",
            quote(text)
        ))
    };
    let parsed = parse(text).or_else(|_| parse(&format!("http://{text}")));
    match parsed {
        Err(why) => wrong(&format!("is not a valid URL ({why})")),
        Ok(url) if matches!(url.scheme.as_str(), "" | "file" | "http" | "https" | "oci") => Ok(()),
        Ok(_) => wrong("has a scheme other than oci, http, https and file"),
    }
}

fn parse(text: &str) -> Result<Url, &'static str> {
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err("it has a control character");
    }
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    check_escapes(fragment)?;
    let (scheme, rest) = split_scheme(text)?;
    let rest = rest.split_once('?').map_or(rest, |(path, _)| path);
    if !rest.starts_with('/') {
        if scheme.is_empty()
            && rest
                .split('/')
                .next()
                .is_some_and(|first| first.contains(':'))
        {
            return Err("its first segment has a colon");
        }
        if scheme.is_empty() {
            check_escapes(rest)?;
        }
        return Ok(Url {
            scheme,
            port: String::new(),
        });
    }
    let after = rest
        .strip_prefix("//")
        .filter(|after| !scheme.is_empty() || !after.starts_with('/'));
    let (authority, path) = match after {
        None => ("", rest),
        Some(after) => match after.find('/') {
            Some(slash) => after.split_at(slash),
            None => (after, ""),
        },
    };
    check_escapes(path)?;
    Ok(Url {
        scheme,
        port: authority_port(authority)?,
    })
}

fn split_scheme(text: &str) -> Result<(String, &str), &'static str> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')));
    let Some((scheme, rest)) = end
        .and_then(|end| text.split_at_checked(end))
        .and_then(|(scheme, rest)| Some((scheme, rest.strip_prefix(':')?)))
    else {
        return Ok((String::new(), text));
    };
    match scheme.as_bytes().first() {
        None => Err("its scheme is empty"),
        Some(first) if first.is_ascii_alphabetic() => Ok((scheme.to_ascii_lowercase(), rest)),
        Some(_) => Ok((String::new(), text)),
    }
}

/// The port of `user@host:port`; checks all of it.
fn authority_port(authority: &str) -> Result<String, &'static str> {
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let in_user = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte);
    if !user.bytes().all(in_user) {
        return Err("its user has a character that must be escaped");
    }
    check_escapes(user)?;
    let (name, port) = if host.starts_with('[') {
        let (inside, after) = host.rsplit_once(']').ok_or("its bracket is not closed")?;
        (inside, after)
    } else {
        let colon = host.rfind(':').unwrap_or(host.len());
        host.split_at(colon)
    };
    let in_host = |byte: u8| {
        !byte.is_ascii()
            || byte.is_ascii_alphanumeric()
            || b"-_.~!$&'()*+,;=:[]<>\"%".contains(&byte)
    };
    if !name.bytes().all(in_host) {
        return Err("its host has an invalid character");
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(String::new()),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(digits.to_owned()),
        _ => Err("its port is not a number"),
    }
}

fn check_escapes(text: &str) -> Result<(), &'static str> {
    let mut parts = text.split('%');
    parts.next();
    for part in parts {
        let mut digits = part.bytes().take(2).filter(u8::is_ascii_hexdigit);
        if digits.by_ref().count() != 2 {
            return Err("a % is not followed by two hexadecimal digits");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_sets() {
        for good in [
            "https://a/jwks",
            "HTTP://a:8080/x?y=z#f",
            "https://[::1]:443/",
            "http://u:p@a.b/",
            "https://a",
        ] {
            assert_eq!(key_set(good), Ok(()), "{good}");
        }
        for bad in [
            "ftp://a/jwks",
            "a/jwks",
            "",
            "https://a:port/",
            "https://a/%zz",
            "https://a b/",
            "https://[::1/",
            ":a",
            "https://a/\n",
        ] {
            assert!(key_set(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modules() {
        for good in [
            "oci://r/i:t",
            "r/i:t",
            "file:///a.wasm",
            "docker.io/istio/x:1.0",
            "10.0.0.1:5000/x",
            "https://a/b.wasm",
            "OCI://r/i",
        ] {
            assert_eq!(module(good), Ok(()), "{good}");
        }
        for bad in ["ftp://a", "localhost:5000/x", "oci://a/\n"] {
            assert!(module(bad).is_err(), "{bad}");
        }
    }
}
