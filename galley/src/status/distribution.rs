//! How many proxies hold an object, added up over the pilots that report it: pure, time is an
//! argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use istio_api::manifest::Key;

/// The times that matter; others than the defaults are for tests.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// What a pilot said counts for so long after its stream has ended, unless it comes back
    /// before: streams end when they are old.
    pub grace: Duration,
    /// When the first pilot begins to report, the others have so long to begin, too.
    pub settle: Duration,
    /// So long nobody may report anything before that is said.
    pub silence: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(10),
            settle: Duration::from_secs(10),
            silence: Duration::from_secs(60),
        }
    }
}

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
        /// Number of its stream; later streams have higher ones.
        stream: u64,
        /// Its name.
        pilot: Arc<str>,
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
    Reported(Sum),
}

/// What all pilots say of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum {
    pub(super) held: u32,
    pub(super) reached: u32,
    /// Pilots that do not have it, or another state of it: none of their proxies holds it.
    pub(super) behind: u32,
    /// Pilots that report.
    pub(super) pilots: u32,
}

#[derive(Debug)]
struct Stream {
    pilot: Arc<str>,
    shares: BTreeMap<Key, Share>,
    /// When it ended; it counts until the grace is over.
    ended: Option<Instant>,
}

/// What pilots say at present.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Those over which something came.
    streams: BTreeMap<u64, Stream>,
    /// The stream of each pilot that counts: the newest one.
    newest: BTreeMap<Arc<str>, u64>,
    left_out: u64,
}

impl Reports {
    /// Pilots that report.
    pub(super) fn pilots(&self) -> usize {
        self.newest.len()
    }

    /// What pilots said of objects that nobody knows, and that was too much to keep.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Takes a report; the objects that it is about. `room`: objects that a pilot may speak of.
    pub(super) fn take(&mut self, report: Report, room: usize, now: Instant) -> BTreeSet<Key> {
        match report {
            Report::Changed {
                stream,
                pilot,
                shares,
            } => {
                let mut touched = BTreeSet::new();
                let newest = self.newest.get(&pilot).copied();
                if newest.is_none_or(|newest| newest < stream) {
                    self.newest.insert(pilot.clone(), stream);
                    touched = self.replace(newest);
                }
                let known = self.streams.entry(stream).or_insert_with(|| Stream {
                    pilot,
                    shares: BTreeMap::new(),
                    ended: None,
                });
                for (key, share) in shares {
                    match share {
                        None => drop(known.shares.remove(&key)),
                        Some(share)
                            if known.shares.len() < room || known.shares.contains_key(&key) =>
                        {
                            known.shares.insert(key.clone(), share);
                        }
                        Some(_) => {
                            self.left_out += 1;
                            continue;
                        }
                    }
                    touched.insert(key);
                }
                touched
            }
            Report::Ended(stream) => self.end(stream, now),
        }
    }

    /// Another stream of its pilot counts instead.
    fn replace(&mut self, stream: Option<u64>) -> BTreeSet<Key> {
        let Some((id, stream)) = stream.and_then(|id| Some((id, self.streams.get(&id)?))) else {
            return BTreeSet::new();
        };
        let touched = stream.shares.keys().cloned().collect();
        if stream.ended.is_some() {
            self.streams.remove(&id);
        }
        touched
    }

    fn end(&mut self, id: u64, now: Instant) -> BTreeSet<Key> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return BTreeSet::new();
        };
        let pilot = stream.pilot.clone();
        if self.newest.get(&pilot) != Some(&id) {
            self.streams.remove(&id);
            return BTreeSet::new();
        }
        stream.ended = Some(now);
        let others = self.streams.iter().rev();
        let mut open = others.filter(|(_, one)| one.pilot == pilot && one.ended.is_none());
        let Some((next, other)) = open.next().map(|(next, other)| (*next, other)) else {
            return BTreeSet::new();
        };
        let mut touched: BTreeSet<Key> = other.shares.keys().cloned().collect();
        self.newest.insert(pilot, next);
        touched.extend(self.replace(Some(id)));
        touched
    }

    /// When the next grace is over.
    pub(super) fn deadline(&self, grace: Duration) -> Option<Instant> {
        let ends = self.streams.values().filter_map(|stream| stream.ended);
        Some(ends.min()? + grace)
    }

    /// Forgets what streams said whose grace is over; the objects that it was about.
    pub(super) fn expire(&mut self, grace: Duration, now: Instant) -> BTreeSet<Key> {
        let is_over = |stream: &Stream| stream.ended.is_some_and(|ended| ended + grace <= now);
        let over = self.streams.extract_if(.., |_, stream| is_over(stream));
        let over: Vec<(u64, Stream)> = over.collect();
        let mut touched = BTreeSet::new();
        for (_, stream) in over {
            self.newest.remove(&stream.pilot);
            touched.extend(stream.shares.into_keys());
        }
        touched
    }

    /// The sum for an object whose state in force has this version.
    pub(super) fn standing(&self, key: &Key, version: u64) -> Standing {
        let streams = self.newest.values().filter_map(|id| self.streams.get(id));
        let mut sum = Sum::default();
        let mut is_reported = false;
        for stream in streams {
            sum.pilots += 1;
            let Some(share) = stream.shares.get(key) else {
                sum.behind += 1;
                continue;
            };
            is_reported = true;
            sum.reached = sum.reached.saturating_add(share.reached);
            if share.version == version {
                sum.held = sum.held.saturating_add(share.held);
            } else {
                sum.behind += 1;
            }
        }
        if is_reported {
            Standing::Reported(sum)
        } else {
            Standing::NotReported
        }
    }
}

#[cfg(test)]
mod tests;
