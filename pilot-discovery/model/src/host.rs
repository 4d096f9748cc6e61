//! Host names and how they match.
//!
//! A host is exact (`a.foo.com`) or starts with `*`, the only wildcard (`*.foo.com`, `*`).
//! `*.foo.com` does not cover `foo.com`.

use std::{fmt, sync::Arc};

/// A host name of the configuration: lower case, exact or with a leading `*`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Arc<str>);

impl Host {
    /// A host from a name as written; letters become lower case, as DNS names are case-insensitive.
    pub fn new(name: &str) -> Self {
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            Self(name.to_ascii_lowercase().into())
        } else {
            Self(name.into())
        }
    }

    /// Resolves a short name: without a dot it belongs to `namespace` in the cluster's `domain`.
    ///
    /// `reviews` in `demo` becomes `reviews.demo.svc.cluster.local`; `a.demo`, `*`, `*.com` and
    /// addresses stay as they are.
    pub fn resolve(name: &str, namespace: &str, domain: &str) -> Self {
        if name.is_empty()
            || name.contains('.')
            || name.contains(':')
            || name.starts_with('*')
            || namespace.is_empty()
        {
            Self::new(name)
        } else {
            Self::new(&format!("{name}.{namespace}.svc.{domain}"))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as shared text.
    pub fn to_arc(&self) -> Arc<str> {
        self.0.clone()
    }

    /// Whether it starts with `*`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// What follows the `*`; `None` for an exact host.
    pub fn tail(&self) -> Option<&str> {
        self.0.strip_prefix('*')
    }

    /// Whether some name is covered by both hosts.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self.tail(), other.tail()) {
            (None, None) => self == other,
            (Some(tail), None) => other.0.ends_with(tail),
            (None, Some(tail)) => self.0.ends_with(tail),
            (Some(a), Some(b)) => a.ends_with(b) || b.ends_with(a),
        }
    }

    /// Whether `other` covers every name that this host covers.
    pub fn subset_of(&self, other: &Self) -> bool {
        match (self.tail(), other.tail()) {
            (None, None) => self == other,
            (None, Some(tail)) => self.0.ends_with(tail),
            (Some(a), Some(b)) => a.len() >= b.len() && a.ends_with(b),
            (Some(_), None) => false,
        }
    }

    /// The letters in reverse, so that hosts with the same suffix are adjacent in a sorted map.
    pub(crate) fn reversed(&self) -> Arc<str> {
        let reversed: String = self.0.chars().rev().collect();
        reversed.into()
    }

    /// Calls `visit` with every wildcard that covers this host, the most specific first, until it
    /// returns a result.
    pub(crate) fn find_wildcard<T>(&self, mut visit: impl FnMut(&Self) -> Option<T>) -> Option<T> {
        let tail = self.tail().unwrap_or(&self.0);
        let starts = tail.char_indices().map(|(at, _)| at).chain([tail.len()]);
        for at in starts {
            let rest = tail.get(at..).unwrap_or_default();
            let found = visit(&Self(format!("*{rest}").into()));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Order of specificity: exact before wildcard, longer before shorter, then alphabetical.
    pub fn by_specificity(&self, other: &Self) -> std::cmp::Ordering {
        self.is_wildcard()
            .cmp(&other.is_wildcard())
            .then_with(|| other.0.len().cmp(&self.0.len()))
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl From<&str> for Host {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_resolve_in_their_namespace_only_without_a_dot() {
        let resolved = |name| Host::resolve(name, "demo", "cluster.local").to_string();
        assert_eq!(resolved("Reviews"), "reviews.demo.svc.cluster.local");
        for kept in ["a.demo", "*", "*.com", "10.0.0.1", "fd00::1", ""] {
            assert_eq!(resolved(kept), kept);
        }
    }

    #[test]
    fn wildcards_cover_names_below_them_but_not_their_own_root() {
        let host = Host::new;
        assert!(host("a.foo.com").subset_of(&host("*.foo.com")));
        assert!(!host("foo.com").subset_of(&host("*.foo.com")));
        assert!(host("*.a.foo.com").subset_of(&host("*.foo.com")));
        assert!(!host("*.foo.com").subset_of(&host("a.foo.com")));
        assert!(host("*.foo.com").overlaps(&host("a.foo.com")));
        assert!(host("*.com").overlaps(&host("*.foo.com")));
        assert!(!host("*.com").overlaps(&host("a.org")));
    }

    #[test]
    fn the_longest_covering_host_wins() {
        let rules = ["*.com", "*.foo.com", "a.foo.com"].map(Host::new);
        let best = |name| {
            let host = Host::new(name);
            let exact = rules.iter().find(|rule| **rule == host);
            let covering = || host.find_wildcard(|one| rules.iter().find(|rule| *rule == one));
            exact.or_else(covering).map(Host::as_str)
        };
        assert_eq!(best("a.foo.com"), Some("a.foo.com"));
        assert_eq!(best("b.foo.com"), Some("*.foo.com"));
        assert_eq!(best("foo.com"), Some("*.com"));
        assert_eq!(best("foo.org"), None);
    }
}
