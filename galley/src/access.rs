//! The access list: who may receive configuration.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mesh_common::drain;
use mesh_common::fswatch::{self, WatchDied};
use mesh_common::mcp::source::Authorize;
use mesh_core::yaml;

use istio_api::manifest::{Field, FieldError};

/// Maximum size of an access list, in bytes.
const MAX_BYTES: u64 = 1 << 20;
const SETTLE: Duration = Duration::from_millis(50);

/// The access list of 1.1: identities that are allowed or, with `isblacklist`, those that are not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AccessList {
    /// Every peer with a verified certificate.
    #[default]
    Open,
    /// Only these identities.
    Allowed(BTreeSet<String>),
    /// All identities but these.
    Blocked(BTreeSet<String>),
}

impl AccessList {
    /// Reads `allowed: [...]` and `isblacklist: bool`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut list = BTreeSet::new();
        let mut blocked = false;
        let read = |error: FieldError| match error.path.as_str() {
            "" => error.message,
            path => format!("{path}: {}", error.message),
        };
        for document in yaml::split(text) {
            let Some(value) = yaml::read(&document).map_err(|error| error.message)? else {
                continue;
            };
            let root = Field::root(&value);
            for name in value
                .as_object()
                .into_iter()
                .flat_map(|members| members.keys())
            {
                if !matches!(name.as_str(), "allowed" | "isblacklist") {
                    return Err(format!(
                        "{name}: unknown field: want allowed or isblacklist"
                    ));
                }
            }
            for identity in root
                .get("allowed")
                .and_then(|list| list.list())
                .map_err(read)?
            {
                list.extend(identity.text().map_err(read)?.map(str::to_owned));
            }
            let flag = root
                .get("isblacklist")
                .and_then(|flag| flag.flag())
                .map_err(read)?;
            blocked = flag.unwrap_or(blocked);
        }
        Ok(if blocked {
            Self::Blocked(list)
        } else {
            Self::Allowed(list)
        })
    }

    fn check(&self, identities: &[String]) -> Result<String, String> {
        let first = identities.first().cloned();
        match self {
            Self::Open => first.ok_or_else(|| "no identity in the peer's certificate".to_owned()),
            Self::Allowed(allowed) => identities
                .iter()
                .find(|identity| allowed.contains(*identity))
                .cloned()
                .ok_or_else(|| {
                    "no allowed identity found in peer's authentication info".to_owned()
                }),
            Self::Blocked(blocked) => {
                match identities
                    .iter()
                    .find(|identity| blocked.contains(*identity))
                {
                    Some(identity) => Err(format!("id is blacklisted: {identity}")),
                    None => first.ok_or_else(|| "no identity in the peer's certificate".to_owned()),
                }
            }
        }
    }
}

/// An access list that follows its file. If the file becomes unreadable or is deleted, the last
/// list stays in force, so that a mistake never opens access.
#[derive(Debug, Clone)]
pub struct Access {
    list: Arc<ArcSwap<AccessList>>,
    path: PathBuf,
}

impl Access {
    /// Reads the list once; without the file every verified peer may connect.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let list = match read(path) {
            Ok(Some(list)) => list,
            Ok(None) => {
                tracing::warn!(
                    file = %path.display(),
                    "there is no access list: every peer with a verified certificate may connect"
                );
                AccessList::Open
            }
            Err(error) => anyhow::bail!("cannot read the access list {}: {error}", path.display()),
        };
        Ok(Self {
            list: Arc::new(ArcSwap::from_pointee(list)),
            path: path.to_owned(),
        })
    }

    /// Follows the file until the process drains.
    ///
    /// # Errors
    /// When the file is no longer watched.
    pub async fn follow(self, drain: drain::Watch) -> Result<(), WatchDied> {
        let mut changes = fswatch::watch(vec![self.path.clone()], SETTLE);
        loop {
            tokio::select! {
                () = drain.signaled() => return Ok(()),
                change = changes.next() => change?,
            }
            match read(&self.path) {
                Ok(Some(list)) if **self.list.load() != list => {
                    tracing::info!(file = %self.path.display(), "the access list has changed");
                    self.list.store(Arc::new(list));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(
                    file = %self.path.display(),
                    error,
                    "cannot read the access list; the last one stays in force"
                ),
            }
        }
    }
}

fn read(path: &Path) -> Result<Option<AccessList>, String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
        Ok(metadata) if metadata.len() > MAX_BYTES => {
            return Err(format!(
                "the file has {} bytes, the limit is {MAX_BYTES}",
                metadata.len()
            ));
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    AccessList::parse(&text).map(Some)
}

impl Authorize for Access {
    fn authorize(&self, identities: Option<&[String]>) -> Result<String, String> {
        let identities = identities.ok_or_else(|| "no TLS information".to_owned())?;
        self.list.load().check(identities)
    }
}

/// Every peer, for plaintext.
#[derive(Debug, Clone, Copy)]
pub struct Insecure;

impl Authorize for Insecure {
    fn authorize(&self, identities: Option<&[String]>) -> Result<String, String> {
        Ok(identities
            .and_then(|identities| identities.first())
            .cloned()
            .unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn lists_decide() {
        let allowed = AccessList::parse("allowed:\n- spiffe://a\n- spiffe://b\n").unwrap();
        let blocked = AccessList::parse("allowed: [spiffe://a]\nisblacklist: true\n").unwrap();
        let nobody = AccessList::parse("").unwrap();
        let cases = [
            (&allowed, ids(&["spiffe://b"]), true),
            (&allowed, ids(&["spiffe://x", "spiffe://a"]), true),
            (&allowed, ids(&["spiffe://x"]), false),
            (&allowed, ids(&[]), false),
            (&blocked, ids(&["spiffe://a"]), false),
            (&blocked, ids(&["spiffe://x", "spiffe://a"]), false),
            (&blocked, ids(&["spiffe://x"]), true),
            (&blocked, ids(&[]), false),
            (&nobody, ids(&["spiffe://a"]), false),
            (&AccessList::Open, ids(&["spiffe://a"]), true),
            (&AccessList::Open, ids(&[]), false),
        ];
        for (list, identities, allowed) in cases {
            assert_eq!(
                list.check(&identities).is_ok(),
                allowed,
                "{list:?} {identities:?}"
            );
        }
    }

    #[test]
    fn bad_lists_are_errors() {
        for (text, message) in [
            ("allowed: x", "allowed: found \"x\", want a list"),
            ("allow: [x]", "allow: unknown field"),
            ("isblacklist: 3", "isblacklist: found 3"),
            ("- x", "found a list, want an object"),
            ("{", "expected"),
        ] {
            let error = AccessList::parse(text).unwrap_err();
            assert!(error.contains(message), "{text:?}: {error}");
        }
    }
}
