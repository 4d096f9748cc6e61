//! Number of proxies that hold an object, summed over the pilots that report: pure, time is an
//! argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use istio_api::manifest::Key;

/// Timing of reports; only tests change the defaults.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The reports of a pilot count for this long after its stream has ended, unless it reconnects
    /// before: streams end when they reach their maximum age.
    pub grace: Duration,
    /// Time for the other pilots to begin after the first one has begun to report.
    pub settle: Duration,
    /// Time without any report before the status says so.
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

/// What one pilot reports on one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Hash of the version that the pilot has, see [`super::version_hash`].
    pub version: u64,
    /// Connected proxies that the object reaches.
    pub reached: u32,
    /// Those of them that acknowledged everything that is made from the object.
    pub held: u32,
}

/// A report of a pilot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// What changed; `None` for an object that the pilot no longer has.
    Changed {
        /// Number of the stream; later streams have higher ones.
        stream: u64,
        /// Name of the pilot.
        pilot: Arc<str>,
        /// Changes by object.
        shares: Vec<(Key, Option<Share>)>,
    },
    /// The stream has ended.
    Ended(u64),
}

/// What is known about the distribution of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// No pilot reports on it.
    NotReported,
    /// The sum of all reports.
    Reported(Sum),
}

/// The sum of the reports of all pilots on an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum {
    pub(super) held: u32,
    pub(super) reached: u32,
    /// Pilots that have no or another version of the object: none of their proxies holds it.
    pub(super) behind: u32,
    /// Pilots that report.
    pub(super) pilots: u32,
}

#[derive(Debug)]
struct Stream {
    pilot: Arc<str>,
    shares: BTreeMap<Key, Share>,
    /// When the stream ended; its reports count until the grace period is over.
    ended: Option<Instant>,
}

/// The reports that count now.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Streams with at least one report.
    streams: BTreeMap<u64, Stream>,
    /// The stream that counts for each pilot: the newest one.
    newest: BTreeMap<Arc<str>, u64>,
    left_out: u64,
}

impl Reports {
    /// Number of pilots that report.
    pub(super) fn pilots(&self) -> usize {
        self.newest.len()
    }

    /// Number of reports about unknown objects that exceeded the limit.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Applies a report; returns the affected objects. `room`: maximum number of objects per pilot.
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

    /// Another stream of the pilot counts instead.
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

    /// When the next grace period is over.
    pub(super) fn deadline(&self, grace: Duration) -> Option<Instant> {
        let ends = self.streams.values().filter_map(|stream| stream.ended);
        Some(ends.min()? + grace)
    }

    /// Removes streams whose grace period is over; returns the affected objects.
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

    /// The sum for an object with this version in force.
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
