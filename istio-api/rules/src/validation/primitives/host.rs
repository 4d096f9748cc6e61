//! Names and addresses of hosts.

use std::net::{IpAddr, Ipv6Addr};

use super::super::report::quote;
use super::{Outcome, ensure};

const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 255;

/// Whether a text is a DNS label. Upper case is accepted.
pub(in super::super) fn is_label(text: &str) -> bool {
    let alnum = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= MAX_LABEL
        && alnum(bytes.first())
        && alnum(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

pub(in super::super) fn label(text: &str) -> Outcome {
    ensure(is_label(text), || {
        format!(
            "{} is not a valid DNS label: want 1 to 63 letters, digits and dashes, with a letter or digit at both ends",
            quote(text)
        )
    })
}

fn is_wildcard_label(text: &str) -> bool {
    if text.len() > MAX_LABEL {
        return false;
    }
    match text.strip_prefix('*') {
        Some("") => true,
        Some(rest) => is_label(rest.strip_prefix('-').unwrap_or(rest)),
        None => is_label(text),
    }
}

/// The parts of a name are labels; the last may be empty and must not be a number.
fn are_labels(text: &str) -> bool {
    let mut parts: Vec<&str> = text.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    last.parse::<i64>().is_err()
        && (last.is_empty() || is_label(last))
        && parts.into_iter().all(is_label)
        && !text.is_empty()
}

pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME && are_labels(text)
}

/// A full name without wildcard.
pub(in super::super) fn name(text: &str) -> Outcome {
    ensure(is_name(text), || {
        format!(
            "{} is not a valid host name: want labels of letters, digits and dashes with dots between them, the last not a number",
            quote(text)
        )
    })
}

/// A name whose first label may be, or begin with, `*`.
pub(in super::super) fn is_wildcard(text: &str) -> bool {
    if text.is_empty() || text.len() > MAX_NAME {
        return false;
    }
    match text.split_once('.') {
        Some((first, rest)) => is_wildcard_label(first) && (rest.is_empty() || are_labels(rest)),
        None => is_wildcard_label(text),
    }
}

pub(in super::super) fn wildcard(text: &str) -> Outcome {
    ensure(is_wildcard(text), || {
        format!(
            "{} is not a valid host: want a host name such as \"a.example.com\", or one with a wildcard in front such as \"*.example.com\"",
            quote(text)
        )
    })
}

/// As [`is_wildcard`], but generated cluster names (`outbound_.80_._.a.b`) are hosts too.
pub(in super::super) fn is_gateway_bound(text: &str, generated: bool) -> bool {
    if !generated || !text.starts_with("outbound_") || text.len() > MAX_NAME {
        return is_wildcard(text);
    }
    let mut parts = text.splitn(4, '_').skip(1);
    let (port, _, host) = (parts.next(), parts.next(), parts.next());
    port.is_some_and(|port| port.bytes().any(|byte| byte.is_ascii_digit()))
        && host.is_some_and(|host| host.bytes().any(|byte| byte.is_ascii_alphabetic()))
}

/// An address of either family; a zone is allowed.
pub(crate) fn is_ip(text: &str) -> bool {
    match text.split_once('%') {
        Some((address, zone)) => !zone.is_empty() && address.parse::<Ipv6Addr>().is_ok(),
        None => text.parse::<IpAddr>().is_ok(),
    }
}

pub(in super::super) fn ip(text: &str) -> Outcome {
    ensure(is_ip(text), || {
        format!(
            "{} is not a valid IP address: want one such as 10.0.0.1 or 2001:db8::1",
            quote(text)
        )
    })
}

/// An address, or a prefix; bits after the prefix may be set.
pub(crate) fn is_ip_or_prefix(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return is_ip(text);
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.bytes().all(|byte| byte.is_ascii_digit()) && bits.parse::<u8>().is_ok_and(|b| b <= most)
}

pub(in super::super) fn ip_or_prefix(text: &str) -> Outcome {
    ensure(is_ip_or_prefix(text), || {
        format!(
            "{} is neither an IP address nor a prefix: want one such as 10.0.0.1 or 10.0.0.0/8",
            quote(text)
        )
    })
}

/// `*foo.com`: a wildcard for part of a label, which Envoy matches nowhere.
pub(in super::super) fn is_partial_wildcard(text: &str) -> bool {
    text.contains('*') && text.len() > 1 && !text.starts_with("*.")
}

/// Which kind of `namespace/host` is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Scoped {
    /// In a Gateway: the namespace may be left out, and the host may be an address.
    Gateway,
    /// In a Gateway made from the Gateway API, where `~` stands for no namespace.
    ConvertedGateway,
    /// In a Sidecar: the namespace must be there.
    Sidecar,
}

/// `namespace/host`.
pub(in super::super) fn scoped(text: &str, scoped: Scoped) -> Outcome {
    let Some((namespace, host)) = text.split_once('/') else {
        if scoped == Scoped::Sidecar {
            return Err(format!(
                "{} names no namespace: want namespace/host, such as \"./*\" or \"*/a.example.com\"",
                quote(text)
            ));
        }
        return host_part(text, scoped);
    };
    if namespace.is_empty() || host.is_empty() {
        return Err(format!(
            "{} lacks the namespace or the host: want namespace/host, such as \"./a.example.com\"",
            quote(text)
        ));
    }
    let special = matches!(namespace, "*" | ".") || (namespace == "~" && scoped != Scoped::Gateway);
    if !special {
        label(namespace).map_err(|_| {
            format!(
                "the namespace {} is not valid: want \"*\", \".\" or the name of a namespace",
                quote(namespace)
            )
        })?;
    }
    host_part(host, scoped)
}

fn host_part(host: &str, scoped: Scoped) -> Outcome {
    // Addresses need a dot as well, as in 1.30.
    if host != "*" && !host.contains('.') {
        return Err(format!(
            "{} is a short name: want a full one such as \"a.example.com\", or \"*\"",
            quote(host)
        ));
    }
    if !(is_wildcard(host) || (scoped != Scoped::Sidecar && is_ip(host))) {
        return wildcard(host);
    }
    ensure(!is_partial_wildcard(host), || {
        format!(
            "{} has a wildcard for part of a label: want \"*\" alone or in front of a dot",
            quote(host)
        )
    })
}

/// What follows `unix://`.
pub(in super::super) fn unix_path(path: &str) -> Outcome {
    ensure(
        path.starts_with('@') || (path.starts_with('/') && !path.ends_with('/')),
        || {
            format!(
                "{} is not a valid Unix socket: want an absolute path of a file, or @ and an abstract name, after unix://",
                quote(path)
            )
        },
    )
}

/// Whether some host matches both.
#[cfg(test)]
fn overlap(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (Some(a), Some(b)) => a.ends_with(b) || b.ends_with(a),
        (Some(a), None) => b.ends_with(a),
        (None, Some(b)) => a.ends_with(b),
        (None, None) => a == b,
    }
}

/// Whether `other` matches everything that `host` matches.
pub(in super::super) fn is_covered(host: &str, other: &str) -> bool {
    match (host.strip_prefix('*'), other.strip_prefix('*')) {
        (Some(host), Some(other)) => host.ends_with(other),
        (None, Some(other)) => host.ends_with(other),
        (Some(_), None) => false,
        (None, None) => host == other,
    }
}

/// Pairs of hosts that overlap, as indices with the smaller first: for each host one at most.
/// Costs no more than sorting the hosts.
pub(in super::super) fn overlapping(hosts: &[String]) -> Vec<(usize, usize)> {
    // Sorted by their reversed text, hosts with one ending are adjacent, after its wildcard.
    let mut sorted: Vec<(Vec<u8>, bool, usize)> = hosts
        .iter()
        .enumerate()
        .map(|(index, host)| {
            let tail = host.strip_prefix('*');
            let backwards = tail.unwrap_or(host).bytes().rev().collect();
            (backwards, tail.is_none(), index)
        })
        .collect();
    sorted.sort();
    let mut open: Vec<(&[u8], usize)> = Vec::new();
    let mut last: Option<(&[u8], usize)> = None;
    let mut pairs = Vec::new();
    for (text, exact, index) in &sorted {
        while open.last().is_some_and(|(tail, _)| !text.starts_with(tail)) {
            open.pop();
        }
        let twin = last.filter(|(other, _)| *exact && *other == text.as_slice());
        if let Some((_, other)) = open.last().copied().or(twin) {
            pairs.push((other.min(*index), other.max(*index)));
        }
        if *exact {
            last = Some((text, *index));
        } else {
            open.push((text, *index));
        }
    }
    pairs.sort_unstable_by_key(|(first, second)| (*second, *first));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(good: &[&str], bad: &[&str], test: impl Fn(&str) -> bool) {
        for text in good {
            assert!(test(text), "{text:?} should pass");
        }
        for text in bad {
            assert!(!test(text), "{text:?} should not pass");
        }
    }

    #[test]
    fn labels() {
        let (long, longer) = ("a".repeat(63), "a".repeat(64));
        all(
            &["a", "A-1", "1", &long],
            &["", "-a", "a-", "a_b", "a.b", &longer, "é"],
            is_label,
        );
        all(
            &["*", "*foo", "*-foo", "a"],
            &["**", "a*", "*.", "*--a", ""],
            is_wildcard_label,
        );
    }

    #[test]
    fn names() {
        let long = format!(
            "{}.{}.{}.{}",
            "a".repeat(63),
            "b".repeat(63),
            "c".repeat(63),
            "d".repeat(63)
        );
        assert_eq!(long.len(), 255);
        all(
            &["a", "a.b.com", "a.com.", "1.a", &long],
            &[
                "",
                ".",
                "a..b",
                "10.0.0.1",
                "a.123",
                "*.a.com",
                "a_b",
                &format!("{long}."),
            ],
            is_name,
        );
        all(
            &["*", "*.com", "*-a.b.com", "reviews", "123", "a.com.", "a."],
            &["", "*.com.*", "a.*.com", "*.1", "a_b", "10.0.0.1"],
            is_wildcard,
        );
    }

    #[test]
    fn generated_names_count_where_sni_is_matched() {
        let good = "outbound_.80_._.e2e.foo.mesh";
        assert!(is_gateway_bound(good, true));
        assert!(!is_gateway_bound(good, false));
        for bad in ["outbound_80.a.b", "outbound_._._.a", "outbound_80_a_.1"] {
            assert!(!is_gateway_bound(bad, true), "{bad}");
        }
        assert!(is_gateway_bound("*.a.com", true));
    }

    #[test]
    fn addresses() {
        all(
            &["1.2.3.4", "2001:db8::1", "fe80::1%eth0", "::ffff:1.2.3.4"],
            &["1.2.3", "01.2.3.4", "", "a", "1.2.3.4%a", "fe80::1%"],
            is_ip,
        );
        all(
            &[
                "10.0.0.0/8",
                "10.1.2.3",
                "10.1.2.3/8",
                "::/0",
                "2001:db8::/128",
            ],
            &[
                "10.0.0.0/33",
                "10.0.0.0/",
                "10.0.0.0/8/8",
                "a/8",
                "::/129",
                "10.0.0.0/+8",
            ],
            is_ip_or_prefix,
        );
    }

    #[test]
    fn hosts_with_namespaces() {
        let gateway = |text: &str| scoped(text, Scoped::Gateway).is_ok();
        all(
            &[
                "*",
                "ns1/*.com",
                "./a.com",
                "10.0.0.1",
                "*/*",
                "::ffff:1.2.3.4",
            ],
            &[
                "a/b",
                "~/a.com",
                "/a.com",
                "ns/",
                "ns/*foo.com",
                "fd00::7",
                "svc",
                "a_b/a.com",
            ],
            gateway,
        );
        assert!(scoped("~/a.com", Scoped::ConvertedGateway).is_ok());
        let sidecar = |text: &str| scoped(text, Scoped::Sidecar).is_ok();
        all(
            &["*/*", "./*", "~/*", "ns/svc.ns.svc.cluster.local"],
            &["a.com", "ns/svc", "ns/10.0.0.1", "ns/*foo.com"],
            sidecar,
        );
    }

    #[test]
    fn partial_wildcards() {
        all(
            &["*foo.com", "*-a.com", "a*"],
            &["*", "*.a.com", "a"],
            is_partial_wildcard,
        );
    }

    #[test]
    fn unix_sockets() {
        all(&["/s.sock", "@a"], &["", "a", "/d/", "/"], |path| {
            unix_path(path).is_ok()
        });
    }

    #[test]
    fn overlaps_are_those_of_each_pair() {
        let hosts = [
            "*",
            "*.com",
            "*.foo.com",
            "*foo.com",
            "a.foo.com",
            "foo.com",
            "a.org",
            "*.org",
            "org",
        ];
        for a in hosts {
            for b in hosts {
                let pair = [a.to_owned(), b.to_owned()];
                assert_eq!(!overlapping(&pair).is_empty(), overlap(a, b), "{a} {b}");
            }
        }
        let hosts = ["x.com", "*.foo.com", "y.com", "*.com"].map(str::to_owned);
        assert_eq!(overlapping(&hosts), [(0, 3), (1, 3), (2, 3)]);
    }

    #[test]
    fn covering_has_a_direction() {
        assert!(is_covered("a.com", "*.com"));
        assert!(!is_covered("*.com", "a.com"));
        assert!(is_covered("*.a.com", "*.com"));
        assert!(!is_covered("*.com", "*.a.com"));
    }
}
