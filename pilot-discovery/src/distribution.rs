//! Reports to galleys: which proxies hold each configuration object (`--statusReportAddr`).
//!
//! ```text
//! world::writer ──WorldState, once a second──► ledger (pure): which classes an object reaches (reach),
//! xds::registry ──what proxies took────►   │            how many of their proxies hold it (population)
//!                                          ▼
//!                 watch of MCP resources, one an object ──► galleys: a stream to each of them
//! ```
//!
//! The classes that an object reaches are tracked by the difference of two manifests, so that a
//! change costs what it affects, once per class. Of a proxy only the versions that it accepted
//! count: five numbers.

pub mod galleys;
pub mod ledger;
mod population;
mod reached;
pub mod report;

use std::sync::Arc;

use pilot_model::snapshot::Snapshot;
use pilot_networking::class::{
    fleet::Membership,
    group::{ClassState, ProxyId},
};

use crate::world::state::World;
use pilot_networking::kind::Kind;

/// One value per type of resource.
type ByKind<T> = [T; Kind::COUNT];

/// What a proxy accepted, by type: the version of the newest view of which it accepted everything.
pub type Taken = ByKind<Option<u64>>;

/// The state of the writer at one moment.
#[derive(Clone, Debug)]
pub struct WorldState {
    pub snapshot: Arc<Snapshot>,
    pub classes: Vec<ClassState>,
    /// Proxies by connection.
    pub members: Vec<(ProxyId, Membership)>,
}

impl WorldState {
    /// Copies the state; costs a few pointers per class and proxy.
    pub fn of(writer: &World) -> Self {
        Self {
            snapshot: writer.snapshot.clone(),
            classes: writer.fleet.class_states(),
            members: writer
                .fleet
                .proxies()
                .map(|(id, member)| (id, member.membership))
                .collect(),
        }
    }
}
