//! What a proxy subscribed to of one type, and what it was sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pilot_networking::resource::Resource;

use super::kind::Sets;

/// Subscription of one stream to one type.
#[derive(Debug, Default)]
pub struct Watch {
    /// Everything of the type, whatever `names` says.
    pub wildcard: bool,
    /// Named resources, for types (or streams) that subscribe by name.
    pub names: BTreeSet<Arc<str>>,
    /// State that the proxy was brought to by the last response.
    pub sent: Sets,
    /// State that it last acknowledged; a refused response falls back to it.
    pub accepted: Sets,
    /// Gone from the view, but kept by the proxy until nothing points at it any more.
    pub lingering: BTreeMap<Arc<str>, Option<Arc<Resource>>>,
    /// Names to be answered with the next response whether they changed or not.
    pub owed: BTreeSet<Arc<str>>,
    /// The first answer is owed, even an empty one.
    pub owed_answer: bool,
    /// What a proxy that came back holds: name → version.
    pub initial: BTreeMap<String, String>,
    pub nonce: String,
    pub acked: String,
    /// A response waits for its ACK or NACK.
    pub in_flight: bool,
    /// The response in flight put resources (and did not only remove some).
    pub in_flight_puts: bool,
    /// The last response was refused; `sent` is what was refused, `accepted` what is in force.
    pub refused: bool,
    /// Why the last response was refused; cleared by the next ACK.
    pub error: Option<String>,
}

impl Watch {
    pub fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// An answer is due whatever else is in flight.
    pub fn owes(&self) -> bool {
        self.owed_answer || !self.owed.is_empty()
    }

    /// The proxy answered the last response.
    pub fn settle(&mut self, error: Option<String>) {
        self.in_flight = false;
        self.in_flight_puts = false;
        match error {
            None => {
                self.acked.clone_from(&self.nonce);
                self.accepted = self.sent.clone();
                self.error = None;
                self.refused = false;
            }
            Some(error) => {
                self.refused = true;
                self.error = Some(error);
            }
        }
    }
}
