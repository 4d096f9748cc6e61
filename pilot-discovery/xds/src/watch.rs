//! What a proxy subscribed to of one type, and what it was sent.

use pilot_networking::kind::Kind;
use std::{collections::BTreeMap, sync::Arc};

use pilot_networking::{endpoint, manifest::Difference, resource::Resource, route};

use super::{names::NameSet, view::Sets};

/// Subscription of one stream to one type.
#[derive(Debug, Default)]
pub struct Watch {
    /// Everything of the type, whatever `names` says.
    pub wildcard: bool,
    /// Named resources, for types (or streams) that subscribe by name.
    pub names: NameSet,
    /// What the proxy holds, of what it subscribed to, once it takes what was sent.
    pub sent: Sets,
    /// Gone from the view, but kept by the proxy until nothing points at it any more.
    pub lingering: BTreeMap<Arc<str>, Option<Arc<Resource>>>,
    /// Names to be answered with the next response whether they changed or not.
    pub pending_names: NameSet,
    /// The first answer is pending_names, even an empty one.
    pub pending_answer: bool,
    /// Of the last response.
    pub nonce: String,
    /// Nonce of the last accepted response.
    pub acked: String,
    /// Responses that wait for their ACK or NACK, oldest first; more than one only when names
    /// were subscribed to meanwhile.
    unanswered: Vec<Unanswered>,
    /// Names whose change the proxy refused, with the version that it holds instead of `sent`.
    refused: Refused,
    /// Why the last response was refused; cleared by the next ACK.
    pub error: Option<String>,
    /// Version of the newest view of which a response was acknowledged.
    acknowledged: u64,
    /// Version of the newest view of which the proxy took everything, as far as its answers say.
    pub taken: Option<u64>,
}

/// Stands for a version that is held and not known; no content has it.
const UNKNOWN: u64 = 0;

fn version_of(kept: Option<&Arc<Resource>>) -> u64 {
    kept.map_or(UNKNOWN, |kept| kept.version)
}

type Refused = BTreeMap<Arc<str>, Option<u64>>;

/// A response that was sent.
#[derive(Debug, Default)]
struct Unanswered {
    nonce: String,
    /// Version of the view that it leads to.
    version: u64,
    undo: Undo,
    /// It put resources (and did not only remove some).
    puts: bool,
}

/// What the proxy holds should it refuse a response.
#[derive(Debug, Default)]
pub(super) struct Undo {
    /// Names with the version held before, `None` = nothing.
    before: Vec<(Arc<str>, Option<u64>)>,
    /// Names of which it is not known what was held before.
    pending_names: NameSet,
    /// Nothing at all was held before.
    from_nothing: bool,
}

/// What a watch is to be sent.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub puts: Vec<Arc<Resource>>,
    pub removed: Vec<Arc<str>>,
    pub undo: Undo,
}

impl Watch {
    /// A subscription whose first answer is due, to a proxy that holds `sent` already.
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

    /// Whether the proxy subscribed to the name.
    pub fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// An answer is due whatever else is in flight.
    pub fn owes(&self) -> bool {
        self.pending_answer || !self.pending_names.is_empty()
    }

    /// A response waits for its answer.
    pub fn in_flight(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// The proxy holds what it was sent, all of it, and waits for nothing.
    pub fn is_settled(&self) -> bool {
        !self.in_flight() && !self.owes() && self.refused.is_empty()
    }

    /// A response that put resources waits for its answer.
    pub fn puts_in_flight(&self) -> bool {
        self.unanswered.iter().any(|response| response.puts)
    }

    /// Notes a response as sent.
    pub(super) fn respond(&mut self, nonce: String, version: u64, puts: bool, undo: Undo) {
        self.nonce.clone_from(&nonce);
        self.unanswered.push(Unanswered {
            nonce,
            version,
            undo,
            puts,
        });
    }

    /// The proxy answered the response of `nonce`; `false` when none of that waits for it.
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
            // The next response may be due at once: what it leads to is not taken yet, this is.
            if self.is_settled() {
                self.taken = self.taken.max(Some(self.acknowledged));
            }
            return true;
        }
        // Nothing of a refused response is in force. What an earlier one that was refused as well
        // says of a name is nearer to the truth.
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

    /// The proxy no longer asks for `name` by name.
    pub(super) fn leave(&mut self, name: &str) {
        self.names.remove(name);
        self.pending_names.remove(name);
        if !self.wildcard {
            self.refused.remove(name);
        }
    }

    /// What leads from what was sent to `view`, as far as it is subscribed to; takes it for sent.
    pub(super) fn advance(&mut self, kind: Kind, view: &Sets) -> Pending {
        let pending_names = std::mem::take(&mut self.pending_names);
        let mut pending = Pending::default();
        pending.undo.from_nothing = self.wildcard && self.sent.is_empty();
        let mut sent = view.clone();
        for difference in self.sent.differences(view) {
            match difference {
                // What is pending_names is put below.
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
                            // It was never taken.
                            Some(None) => {}
                            // What is held is an older one.
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
                        // The proxy keeps them for as long as something asks for them.
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

    /// Puts what is pending_names.
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

    /// What was refused is tried again with the next change, unless the proxy holds what is
    /// right by now.
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

    /// Puts what was sent before once more.
    pub(super) fn repeat(&mut self, put: &Arc<Resource>, pending: &mut Pending) {
        let held = match self.refused.remove(&put.name) {
            Some(held) => held,
            None => Some(put.version),
        };
        pending.undo.before.push((put.name.clone(), held));
        pending.puts.push(put.clone());
    }

    /// Takes what lingers; the proxy is sent to forget it now.
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

    /// Every subscribed resource, with those that linger: a complete state of the world.
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

/// What stands for a name that nothing is known of, for the types that must always be answered.
pub(super) fn empty(kind: Kind, name: &str) -> Option<Resource> {
    match kind {
        Kind::Endpoint => Some(endpoint::empty(name)),
        Kind::Route => Some(route::outbound::empty(name)),
        _ => None,
    }
}
