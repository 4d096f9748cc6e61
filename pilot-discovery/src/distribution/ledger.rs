//! Decides what is reported about each object, and when. Pure.
//!
//! Each round counts a limited number of objects: first those that changed or reach different
//! classes; then those that some proxy does not hold; then, a few per round, those whose numbers
//! may differ because proxies connected or disconnected.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::Instant,
};

use imbl::{OrdMap, ordmap::DiffItem};
use istio_api::{
    collections::{COLLECTIONS, Collection},
    distribution::{COLLECTION, Distribution, resource_name},
};
use mesh_core::mcp::{self, Resources, Snapshot};
use pilot_model::config::ConfigName;

use super::{
    Taken, WorldState,
    population::{Arriving, Counter, Population},
    reached::{ObjectId, Reached},
};
use pilot_networking::class::group::ClassId;

/// Maximum number of objects per round, so that neither a round nor its report grows with the mesh.
pub(super) const OBJECTS_PER_ROUND: usize = 2_000;
/// Of these, the maximum number of objects that all proxies held at their last count.
pub(super) const REFRESHED_PER_ROUND: usize = 500;

#[derive(Debug)]
struct Object {
    name: ConfigName,
    collection: &'static Collection,
    said: Option<Distribution>,
    /// The population at its last count.
    counted: u64,
}

/// The objects in force and their reports.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Versions by name in the last round.
    configs: OrdMap<ConfigName, Arc<str>>,
    ids: BTreeMap<ConfigName, ObjectId>,
    objects: BTreeMap<ObjectId, Object>,
    last_id: ObjectId,
    reaches: BTreeMap<ClassId, Reached>,
    /// Pairs of an object and a class that it reaches.
    reached: BTreeSet<(ObjectId, ClassId)>,
    population: Population,
    /// Increases whenever the population changes.
    populations: u64,
    arriving: Arriving,
    /// Objects to count first.
    urgent: BTreeSet<ObjectId>,
    /// Objects that some proxy does not hold.
    open: BTreeSet<ObjectId>,
    /// Where to continue: the last object counted of the open ones, and of all.
    turns: [ObjectId; 2],
    resources: Resources,
    version: u64,
}

impl Ledger {
    /// Processes the state of the world and what proxies accepted; returns the report if anything
    /// is new. The first round always reports.
    pub fn round(
        &mut self,
        state: &WorldState,
        taken: &BTreeMap<u64, Taken>,
        now: Instant,
    ) -> Option<Arc<Snapshot>> {
        let mut is_news = self.version == 0;
        is_news |= self.follow_objects(&state.snapshot.configs);
        self.follow_classes(state);
        let population = Population::gather(&state.members, taken, &mut self.arriving, now);
        if population != self.population {
            self.population = population;
            self.populations += 1;
        }
        let due = self.due();
        let mut counter = Counter::new(&self.population, &self.reaches);
        for id in due {
            let Some(object) = self.objects.get_mut(&id) else {
                continue;
            };
            let classes = self.reached.range((id, 0)..=(id, ClassId::MAX));
            let count = counter.count(id, classes.map(|(_, class)| *class));
            let version = self.configs.get(&object.name);
            let said = Distribution {
                version: version.map_or_else(String::new, |version| version.to_string()),
                reached: count.reached,
                held: count.held,
            };
            object.counted = self.populations;
            if count.held < count.reached {
                self.open.insert(id);
            } else {
                self.open.remove(&id);
            }
            if object.said.as_ref() != Some(&said) {
                let ConfigName {
                    namespace, name, ..
                } = &object.name;
                let resource = said.to_mcp(object.collection, namespace, name);
                let name = resource_name(object.collection, namespace, name);
                self.resources.insert(name.into(), Arc::new(resource));
                object.said = Some(said);
                is_news = true;
            }
        }
        is_news.then(|| self.publish())
    }

    fn publish(&mut self) -> Arc<Snapshot> {
        self.version += 1;
        let mut snapshot = Snapshot::default();
        let collection = mcp::Collection {
            version: self.version.to_string().into(),
            resources: self.resources.clone(),
        };
        snapshot.insert(COLLECTION, collection);
        Arc::new(snapshot)
    }

    /// `true` if a previous report became invalid.
    fn follow_objects(&mut self, configs: &OrdMap<ConfigName, Arc<str>>) -> bool {
        let mut is_news = false;
        let before = std::mem::replace(&mut self.configs, configs.clone());
        for item in before.diff(configs) {
            match item {
                DiffItem::Add(name, _) => self.add(name),
                DiffItem::Update { new: (name, _), .. } => self.urgent.extend(self.ids.get(name)),
                DiffItem::Remove(name, _) => is_news |= self.remove(name),
            }
        }
        is_news
    }

    fn add(&mut self, name: &ConfigName) {
        let Some(collection) = COLLECTIONS.iter().find(|row| row.kind == name.kind) else {
            return;
        };
        self.last_id += 1;
        let object = Object {
            name: name.clone(),
            collection,
            said: None,
            counted: 0,
        };
        self.ids.insert(name.clone(), self.last_id);
        self.objects.insert(self.last_id, object);
        self.urgent.insert(self.last_id);
    }

    fn remove(&mut self, name: &ConfigName) -> bool {
        let Some(id) = self.ids.remove(name) else {
            return false;
        };
        self.urgent.remove(&id);
        self.open.remove(&id);
        let classes = self.reached.range((id, 0)..=(id, ClassId::MAX));
        let classes: Vec<_> = classes.copied().collect();
        for entry in classes {
            self.reached.remove(&entry);
            if let Some(reach) = self.reaches.get_mut(&entry.1) {
                reach.forget(id);
            }
        }
        let Some(object) = self.objects.remove(&id) else {
            return false;
        };
        let name = resource_name(object.collection, &name.namespace, &name.name);
        self.resources.remove(name.as_str()).is_some()
    }

    /// Objects whose classes only appeared or disappeared are not urgent: the population changes
    /// when the proxies of these classes are counted, or no longer counted.
    fn follow_classes(&mut self, state: &WorldState) {
        let there: BTreeSet<ClassId> = state.classes.iter().map(|held| held.id).collect();
        let known = self.reaches.len();
        self.reaches.retain(|class, _| there.contains(class));
        if self.reaches.len() < known {
            self.reached.retain(|(_, class)| there.contains(class));
        }
        for held in &state.classes {
            let is_known = self.reaches.contains_key(&held.id);
            let reach = self.reaches.entry(held.id).or_default();
            let ids = &self.ids;
            let touched = reach.follow(held, |config| ids.get(&config.object()).copied());
            for id in &touched {
                if reach.needs(*id).is_some() {
                    self.reached.insert((*id, held.id));
                } else {
                    self.reached.remove(&(*id, held.id));
                }
            }
            if is_known {
                self.urgent.extend(touched);
            }
        }
    }

    /// The objects to count in this round.
    fn due(&mut self) -> BTreeSet<ObjectId> {
        let mut due = BTreeSet::new();
        while due.len() < OBJECTS_PER_ROUND
            && let Some(id) = self.urgent.pop_first()
        {
            due.insert(id);
        }
        let (objects, populations) = (&self.objects, self.populations);
        let is_stale = |id: &ObjectId| {
            let object = objects.get(id);
            object.is_some_and(|object| object.counted < populations)
        };
        let [of_open, of_all] = &mut self.turns;
        let room = OBJECTS_PER_ROUND.saturating_sub(due.len() + REFRESHED_PER_ROUND);
        let open = after(&self.open, *of_open).filter(is_stale);
        let open: Vec<ObjectId> = open.filter(|id| !due.contains(id)).take(room).collect();
        *of_open = open.last().copied().unwrap_or(*of_open);
        due.extend(open);
        let room = OBJECTS_PER_ROUND.saturating_sub(due.len());
        let later = objects.range((Bound::Excluded(*of_all), Bound::Unbounded));
        let all = later.chain(objects.range(..=*of_all)).map(|(id, _)| *id);
        let all = all.filter(|id| is_stale(id) && !self.open.contains(id) && !due.contains(id));
        let all: Vec<ObjectId> = all.take(room.min(REFRESHED_PER_ROUND)).collect();
        *of_all = all.last().copied().unwrap_or(*of_all);
        due.extend(all);
        due
    }
}

/// All elements of a set, beginning after `last`.
fn after(set: &BTreeSet<ObjectId>, last: ObjectId) -> impl Iterator<Item = ObjectId> {
    let later = set.range((Bound::Excluded(last), Bound::Unbounded));
    later.chain(set.range(..=last)).copied()
}

#[cfg(test)]
mod tests;
