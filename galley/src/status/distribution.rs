//! How many proxies hold an object, added up over the pilots that report it: pure.

use std::collections::BTreeMap;

use istio_api::manifest::Key;

/// What one pilot says of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Hash of the version that it speaks of, see [`super::version_hash`].
    pub version: u64,
    /// Proxies connected to it that the object reaches.
    pub reached: u32,
    /// Those of them that acknowledged everything that is made from it.
    pub held: u32,
}

/// From a pilot that reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// What changed; `None` for an object that it does not have any more.
    Changed {
        /// Number of its stream.
        stream: u64,
        /// By object.
        shares: Vec<(Key, Option<Share>)>,
    },
    /// Its stream has ended.
    Ended(u64),
}

/// What is known of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// No pilot speaks of it.
    NotReported,
    /// The sum of what pilots say.
    Reported { held: u32, reached: u32 },
}

/// What pilots say at present, by stream.
#[derive(Debug, Default)]
pub(super) struct Reports(BTreeMap<u64, BTreeMap<Key, Share>>);

impl Reports {
    /// Nobody reports anything.
    pub(super) fn is_silent(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a report; the objects that it is about.
    pub(super) fn take(&mut self, report: Report) -> Vec<Key> {
        match report {
            Report::Changed { stream, shares } => {
                let known = self.0.entry(stream).or_default();
                let note = |(key, share): (Key, Option<Share>)| {
                    match share {
                        Some(share) => known.insert(key.clone(), share),
                        None => known.remove(&key),
                    };
                    key
                };
                shares.into_iter().map(note).collect()
            }
            Report::Ended(stream) => {
                let gone = self.0.remove(&stream).unwrap_or_default();
                gone.into_keys().collect()
            }
        }
    }

    /// The sum for an object whose state in force has this version: who speaks of another one
    /// holds nothing of it yet.
    pub(super) fn standing(&self, key: &Key, version: u64) -> Standing {
        let shares = self.0.values().filter_map(|shares| shares.get(key));
        shares.fold(Standing::NotReported, |sum, share| {
            let (held, reached) = match sum {
                Standing::NotReported => (0, 0),
                Standing::Reported { held, reached } => (held, reached),
            };
            let more = if share.version == version {
                share.held
            } else {
                0
            };
            Standing::Reported {
                held: held.saturating_add(more),
                reached: reached.saturating_add(share.reached),
            }
        })
    }
}
