//! What a proxy subscribed to of one type, and what was sent to it.

use pilot_networking::kind::Kind;
use std::{collections::BTreeMap, sync::Arc};

use pilot_networking::{endpoint, manifest::Difference, resource::Resource, route};

use super::{names::NameSet, view::Sets};

/// Subscription of one stream to one type.
#[derive(Debug, Default)]
pub struct Watch {
    /// Subscribed to all resources of the type, regardless of `names`.
    pub wildcard: bool,
    /// Resources subscribed to by name, for types (or streams) that do so.
    pub names: NameSet,
    /// The subscribed resources that the proxy holds once it accepts what was sent.
    pub sent: Sets,
    /// Removed from the view, but kept by the proxy until nothing refers to them any more.
    pub lingering: BTreeMap<Arc<str>, Option<Arc<Resource>>>,
    /// Names that the next response must answer, changed or not.
    pub pending_names: NameSet,
    /// The first response is due, even if it is empty.
    pub pending_answer: bool,
    /// Nonce of the last response.
    pub nonce: String,
    /// Nonce of the last accepted response.
    pub acked: String,
    /// Responses without an ACK or NACK, oldest first; more than one only if names were subscribed
    /// to meanwhile.
    unanswered: Vec<Unanswered>,
    /// Names whose change the proxy rejected, with the version that it holds instead of `sent`.
    refused: Refused,
    /// Why the last response was rejected; cleared by the next ACK.
    pub error: Option<String>,
    /// Version of the newest view with an acknowledged response.
    acknowledged: u64,
    /// Version of the newest view of which the proxy accepted everything, according to its answers.
    pub taken: Option<u64>,
}

/// Version of a held resource whose real version is unknown; no content has it.
const UNKNOWN: u64 = 0;

fn version_of(kept: Option<&Arc<Resource>>) -> u64 {
    kept.map_or(UNKNOWN, |kept| kept.version)
}

type Refused = BTreeMap<Arc<str>, Option<u64>>;

/// A response that was sent.
#[derive(Debug, Default)]
struct Unanswered {
    nonce: String,
    /// Version of the view that it was built from.
    version: u64,
    undo: Undo,
    /// Whether it contained resources (and did not only remove some).
    puts: bool,
}

/// What the proxy holds if it rejects a response.
#[derive(Debug, Default)]
pub(super) struct Undo {
    /// Names with the version held before; `None` = not held.
    before: Vec<(Arc<str>, Option<u64>)>,
    /// Names for which it is unknown what was held before.
    pending_names: NameSet,
    /// Whether nothing at all was held before.
    from_nothing: bool,
}

/// Changes to send.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// New and changed resources.
    pub puts: Vec<Arc<Resource>>,
    /// Names of removed resources.
    pub removed: Vec<Arc<str>>,
    /// What the proxy holds if it rejects them.
    pub undo: Undo,
}

impl Watch {
    /// A subscription without a response yet, of a proxy that already holds `sent`.
    pub(super) fn new(wildcard: bool, names: NameSet, pending_names: NameSet, sent: Sets) -> Self {
        Self {
            wildcard,
            names,
            pending_names,
            pending_answer: true,
            sent,
            ..Self::default()
        }
    }

    /// Whether the name is subscribed to.
    pub fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Whether a response is due, even if another one is in flight.
    pub fn owes(&self) -> bool {
        self.pending_answer || !self.pending_names.is_empty()
    }

    /// Whether a response is not answered yet.
    pub fn in_flight(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// Whether the proxy accepted everything that was sent, and waits for nothing.
    pub fn is_settled(&self) -> bool {
        !self.in_flight() && !self.owes() && self.refused.is_empty()
    }

    /// Whether a response with resources is not answered yet.
    pub fn puts_in_flight(&self) -> bool {
        self.unanswered.iter().any(|response| response.puts)
    }

    /// Records a response that is sent.
    pub(super) fn respond(&mut self, nonce: String, version: u64, puts: bool, undo: Undo) {
        self.nonce.clone_from(&nonce);
        self.unanswered.push(Unanswered {
            nonce,
            version,
            undo,
            puts,
        });
    }

    /// Processes the answer to the response `nonce`; `false` if no such response is unanswered.
    pub(super) fn settle(&mut self, nonce: &str, error: Option<&str>) -> bool {
        let Some(at) = self.unanswered.iter().position(|sent| sent.nonce == nonce) else {
            return false;
        };
        let Unanswered { undo, version, .. } = self.unanswered.remove(at);
        self.error = error.map(str::to_owned);
        if error.is_none() {
            nonce.clone_into(&mut self.acked);
            for (name, _) in &undo.before {
                self.refused.remove(name);
            }
            self.refused
                .retain(|name, _| !undo.pending_names.contains(name));
            if undo.from_nothing {
                self.refused.clear();
            }
            self.acknowledged = self.acknowledged.max(version);
            // The next response may be due at once; record what was accepted before it is sent.
            if self.is_settled() {
                self.taken = self.taken.max(Some(self.acknowledged));
            }
            return true;
        }
        // Nothing of a rejected response is in force. If an earlier one was rejected as well, its
        // record of a name is the accurate one.
        for (name, held) in undo.before {
            self.refused.entry(name).or_insert(held);
        }
        for name in undo.pending_names.iter() {
            self.refused.entry(name.clone()).or_insert(Some(UNKNOWN));
        }
        if undo.from_nothing {
            for resource in self.sent.iter() {
                self.refused.entry(resource.name.clone()).or_insert(None);
            }
        }
        true
    }

    /// Ends the subscription to `name`.
    pub(super) fn leave(&mut self, name: &str) {
        self.names.remove(name);
        self.pending_names.remove(name);
        if !self.wildcard {
            self.refused.remove(name);
        }
    }

    /// The subscribed changes from what was sent to `view`, which then counts as sent.
    pub(super) fn advance(&mut self, kind: Kind, view: &Sets) -> Pending {
        let pending_names = std::mem::take(&mut self.pending_names);
        let mut pending = Pending::default();
        pending.undo.from_nothing = self.wildcard && self.sent.is_empty();
        let mut sent = view.clone();
        for difference in self.sent.differences(view) {
            match difference {
                // `pending_names` are added below.
                Difference::Put(put)
                    if self.wants(&put.name) && !pending_names.contains(&put.name) =>
                {
                    let kept = self.lingering.remove(&put.name);
                    let held = match (self.refused.get(&put.name), kept) {
                        (Some(held), _) => *held,
                        (None, Some(kept)) => Some(version_of(kept.as_ref())),
                        (None, None) => self.sent.get(&put.name).map(|old| old.version),
                    };
                    if held == Some(put.version) {
                        continue;
                    }
                    if !pending.undo.from_nothing {
                        pending.undo.before.push((put.name.clone(), held));
                    }
                    pending.puts.push(put);
                }
                Difference::Removed(name)
                    if self.wants(&name) && !pending_names.contains(&name) =>
                {
                    let Some(old) = self.sent.get(&name).cloned() else {
                        continue;
                    };
                    let held = (name.clone(), Some(old.version));
                    match kind {
                        Kind::Cluster => match self.refused.remove(&name) {
                            // It was never accepted.
                            Some(None) => {}
                            // The proxy holds an older version.
                            Some(Some(_)) => drop(self.lingering.insert(name, None)),
                            None => drop(self.lingering.insert(name, Some(old))),
                        },
                        Kind::Listener => {
                            pending.undo.before.push(held);
                            pending.removed.push(name);
                        }
                        Kind::Endpoint => {
                            pending.undo.before.push(held);
                            pending.puts.push(Arc::new(endpoint::empty(&name)));
                        }
                        // The proxy keeps them for as long as something refers to them.
                        Kind::Route | Kind::Secret => sent.keep(old),
                    }
                }
                _ => {}
            }
        }
        if !self.refused.is_empty() {
            self.again(kind, view, &mut pending, &pending_names);
        }
        self.sent = sent;
        self.answer(kind, view, &mut pending, &pending_names);
        pending.undo.pending_names = pending_names;
        pending
    }

    /// Adds the resources of `pending_names`.
    fn answer(&self, kind: Kind, view: &Sets, pending: &mut Pending, pending_names: &NameSet) {
        let before = pending.puts.len();
        if pending_names.len() * 8 > view.len() {
            let all = view
                .iter()
                .filter(|resource| pending_names.contains(&resource.name));
            pending.puts.extend(all.cloned());
        } else {
            let few = pending_names.iter().filter_map(|name| view.get(name));
            pending.puts.extend(few.cloned());
        }
        if pending.puts.len() - before == pending_names.len() {
            return;
        }
        for name in pending_names.iter().filter(|name| view.get(name).is_none()) {
            match empty(kind, name) {
                Some(put) => pending.puts.push(Arc::new(put)),
                None if kind.is_wildcard() => pending.removed.push(name.clone()),
                None => {}
            }
        }
    }

    /// Adds rejected changes to the next ones, unless the proxy now holds the right version.
    fn again(&mut self, kind: Kind, view: &Sets, pending: &mut Pending, pending_names: &NameSet) {
        if pending.undo.before.is_empty() && pending_names.is_empty() {
            return;
        }
        let mut before: Refused = std::mem::take(&mut pending.undo.before)
            .into_iter()
            .collect();
        for (name, held) in std::mem::take(&mut self.refused) {
            if pending_names.contains(&name) || !self.wants(&name) {
                continue;
            }
            let now = view.get(&name).cloned();
            let now = now.or_else(|| empty(kind, &name).map(Arc::new));
            let known = before.insert(name.clone(), held).is_some();
            if now.as_ref().map(|now| now.version) == held {
                pending.puts.retain(|put| put.name != name);
                pending.removed.retain(|gone| *gone != name);
                before.remove(&name);
            } else if !known {
                match now {
                    Some(now) => pending.puts.push(now),
                    None if kind == Kind::Cluster => {
                        self.lingering.insert(name, None);
                    }
                    None if kind == Kind::Listener => pending.removed.push(name),
                    None => {}
                }
            }
        }
        pending.undo.before = before.into_iter().collect();
    }

    /// Sends a resource again.
    pub(super) fn repeat(&mut self, put: &Arc<Resource>, pending: &mut Pending) {
        let held = match self.refused.remove(&put.name) {
            Some(held) => held,
            None => Some(put.version),
        };
        pending.undo.before.push((put.name.clone(), held));
        pending.puts.push(put.clone());
    }

    /// Ends the lingering of removed resources; the proxy has to remove them now.
    pub(super) fn withdraw(&mut self) -> (Vec<Arc<str>>, Undo) {
        let gone = std::mem::take(&mut self.lingering);
        let names = gone.keys().cloned().collect();
        let held = |kept: Option<Arc<Resource>>| Some(version_of(kept.as_ref()));
        let undo = Undo {
            before: gone
                .into_iter()
                .map(|(name, kept)| (name, held(kept)))
                .collect(),
            ..Undo::default()
        };
        (names, undo)
    }

    /// All subscribed resources, including lingering ones: the complete state of the world.
    pub(super) fn complete(&self, view: &Sets) -> Vec<Arc<Resource>> {
        view.iter()
            .filter(|resource| self.wants(&resource.name))
            .chain(
                self.lingering
                    .iter()
                    .filter(|(name, _)| view.get(name).is_none())
                    .filter_map(|(_, resource)| resource.as_ref()),
            )
            .cloned()
            .collect()
    }
}

/// The resource for an unknown name, for types that must always be answered.
pub(super) fn empty(kind: Kind, name: &str) -> Option<Resource> {
    match kind {
        Kind::Endpoint => Some(endpoint::empty(name)),
        Kind::Route => Some(route::outbound::empty(name)),
        _ => None,
    }
}
