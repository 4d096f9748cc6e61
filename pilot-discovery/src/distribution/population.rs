//! Proxies by class, with the versions that they accepted.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    ByKind, Taken,
    reached::{Needs, ObjectId, Reached},
};
use pilot_networking::class::{fleet::Membership, group::ClassId};

/// A proxy that connected, or moved to another class, is counted once it accepted everything there,
/// at the latest after this time. So connecting proxies do not make objects less held.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Outbound and inbound class; 0 = none.
type Group = (ClassId, ClassId);

/// Versions that a proxy accepted, of the resources of its classes.
type Counted = ByKind<u64>;

/// How many proxies an object reaches, and how many of them hold it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) reached: u32,
    pub(super) held: u32,
}

/// The proxies that are counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Population {
    /// Each list sorted.
    groups: BTreeMap<Group, Vec<Counted>>,
    /// The groups that a class is part of.
    classes: BTreeMap<ClassId, Vec<Group>>,
}

/// Since when proxies wait to be counted, by connection; with the version at which they moved.
pub(super) type Arriving = BTreeMap<u64, (u64, Instant)>;

impl Population {
    /// `members`: proxies by connection. Adds those that are not counted yet to `arriving`.
    pub(super) fn gather(
        members: &[(u64, Membership)],
        taken: &BTreeMap<u64, Taken>,
        arriving: &mut Arriving,
        now: Instant,
    ) -> Self {
        let former = std::mem::take(arriving);
        let mut groups: BTreeMap<Group, Vec<Counted>> = BTreeMap::new();
        for (connection, place) in members {
            let taken = taken.get(connection).copied().unwrap_or_default();
            // Versions that it accepted before it moved here do not count.
            let counted = taken.map(|version| version.filter(|one| *one >= place.since));
            if counted.iter().any(Option::is_none) {
                let known = former.get(connection);
                let known = known.filter(|(since, _)| *since == place.since);
                let (_, first) = *known.unwrap_or(&(place.since, now));
                arriving.insert(*connection, (place.since, first));
                if now.saturating_duration_since(first) < PATIENCE {
                    continue;
                }
            }
            let group = (place.outbound, place.inbound.unwrap_or_default());
            let counted = counted.map(Option::unwrap_or_default);
            groups.entry(group).or_default().push(counted);
        }
        let mut classes: BTreeMap<ClassId, Vec<Group>> = BTreeMap::new();
        for (group, proxies) in &mut groups {
            proxies.sort_unstable();
            for class in [group.0, group.1] {
                if class != 0 {
                    classes.entry(class).or_default().push(*group);
                }
            }
        }
        Self { groups, classes }
    }
}

/// Counts the proxies of a population, with a cache.
#[derive(Debug)]
pub(super) struct Counter<'a> {
    population: &'a Population,
    reaches: &'a BTreeMap<ClassId, Reached>,
    in_group: BTreeMap<(Group, Needs), u32>,
    in_class: BTreeMap<(ClassId, Needs), Count>,
}

impl<'a> Counter<'a> {
    pub(super) fn new(population: &'a Population, reaches: &'a BTreeMap<ClassId, Reached>) -> Self {
        Self {
            population,
            reaches,
            in_group: BTreeMap::new(),
            in_class: BTreeMap::new(),
        }
    }

    /// Counts the proxies of an object that reaches `classes`. A proxy that the object reaches
    /// through both its classes counts once and needs the versions of both.
    pub(super) fn count(&mut self, id: ObjectId, classes: impl Iterator<Item = ClassId>) -> Count {
        let (mut reached, mut held) = (0, 0);
        let population = self.population;
        for class in classes {
            let Some(needs) = self.needs(class, id) else {
                continue;
            };
            let groups = population.classes.get(&class).map_or(&[][..], |list| list);
            let is_outbound = |group: &Group| group.0 == class;
            if groups.first().is_some_and(is_outbound) {
                let more = self.whole(class, groups, needs);
                reached += more.reached;
                held += i64::from(more.held);
                continue;
            }
            for group in groups {
                match self.needs(group.0, id) {
                    // It was counted with its outbound class.
                    Some(as_client) => {
                        let both = std::array::from_fn(|at| {
                            let of = |needs: &Needs| needs.get(at).copied().unwrap_or_default();
                            of(&needs).max(of(&as_client))
                        });
                        held += i64::from(self.holders(*group, both));
                        held -= i64::from(self.holders(*group, as_client));
                    }
                    None => {
                        reached += self.len(*group);
                        held += i64::from(self.holders(*group, needs));
                    }
                }
            }
        }
        // Cannot fail: every subtracted proxy was added with its class before.
        let held = u32::try_from(held).unwrap_or_default();
        Count { reached, held }
    }

    fn needs(&self, class: ClassId, id: ObjectId) -> Option<Needs> {
        self.reaches.get(&class)?.needs(id)
    }

    fn len(&self, group: Group) -> u32 {
        let proxies = self.population.groups.get(&group).map_or(0, Vec::len);
        u32::try_from(proxies).unwrap_or(u32::MAX)
    }

    fn whole(&mut self, class: ClassId, groups: &[Group], needs: Needs) -> Count {
        if let Some(count) = self.in_class.get(&(class, needs)) {
            return *count;
        }
        let mut count = Count::default();
        for group in groups {
            count.reached += self.len(*group);
            count.held += self.holders(*group, needs);
        }
        self.in_class.insert((class, needs), count);
        count
    }

    fn holders(&mut self, group: Group, needs: Needs) -> u32 {
        let population = self.population;
        let count = || {
            let proxies = population.groups.get(&group).map_or(&[][..], |list| list);
            let holds = |taken: &&Counted| {
                let mut pairs = taken.iter().zip(&needs);
                pairs.all(|(taken, need)| taken >= need)
            };
            u32::try_from(proxies.iter().filter(holds).count()).unwrap_or(u32::MAX)
        };
        *self.in_group.entry((group, needs)).or_insert_with(count)
    }
}

#[cfg(test)]
mod tests;
