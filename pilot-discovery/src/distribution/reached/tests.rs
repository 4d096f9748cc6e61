//! What objects reach, compared with computing it from scratch.

use proptest::prelude::*;

use super::*;

fn config(name: u8, version: u8) -> ConfigRef {
    ConfigRef {
        kind: "VirtualService",
        namespace: "a".into(),
        name: name.to_string().into(),
        version: version.to_string().into(),
    }
}

/// Objects are numbers; odd ones are not counted.
fn id(config: &ConfigRef) -> Option<ObjectId> {
    let id: ObjectId = config.object().name.parse().unwrap();
    id.is_multiple_of(2).then_some(id)
}

/// By kind and name of a resource: its bytes, and its sources with their versions.
type World = BTreeMap<(Kind, u8), (u8, BTreeMap<u8, u8>)>;

fn manifests(old: &Manifests, world: &World) -> Arc<Manifests> {
    let mut new = Manifests::clone(old);
    for kind in Kind::ALL {
        let set = &mut new[kind];
        for name in 0..4_u8 {
            let Some((bytes, sources)) = world.get(&(kind, name)) else {
                set.remove(name.to_string().as_str());
                continue;
            };
            let refs = sources
                .iter()
                .map(|(name, version)| config(*name, *version));
            let refs = pilot_networking::resource::sources(refs);
            let bytes = vec![*bytes].into();
            let resource = Resource::from_bytes(name.to_string(), bytes, refs);
            pilot_networking::manifest::put(set, Arc::new(resource));
        }
    }
    Arc::new(new)
}

fn worlds() -> impl Strategy<Value = World> {
    let kinds = prop::sample::select(Kind::ALL.to_vec());
    let sources = prop::collection::btree_map(0..5_u8, 0..2_u8, 0..4);
    prop::collection::btree_map((kinds, 0..4_u8), (0..2_u8, sources), 0..8)
}

proptest! {
    /// An object reaches the class while a resource is built from it, and must be accepted with the
    /// view in which it was added, changed or removed; changes by other objects do not matter.
    #[test]
    fn reach_follows_the_sources(steps in prop::collection::vec(worlds(), 1..12)) {
        let mut reach = Reached::default();
        let mut held = ClassState { id: 1, manifests: Arc::default(), made: 0 };
        let mut before = World::new();
        let mut since: BTreeMap<ObjectId, Needs> = BTreeMap::new();
        for (at, world) in steps.into_iter().enumerate() {
            held.manifests = manifests(&held.manifests, &world);
            held.made = u64::try_from(at).unwrap() + 1;
            let touched = reach.follow(&held, id);
            for object in (0..5_u8).step_by(2) {
                let of = |world: &World, key: &(Kind, u8)| {
                    world.get(key).and_then(|(_, sources)| sources.get(&object).copied())
                };
                let keys: BTreeSet<_> = before.keys().chain(world.keys()).copied().collect();
                let moved: BTreeSet<Kind> = keys
                    .iter()
                    .filter(|key| of(&before, key) != of(&world, key))
                    .map(|(kind, _)| *kind)
                    .collect();
                let object = ObjectId::from(object);
                prop_assert_eq!(touched.contains(&object), !moved.is_empty());
                let needs = since.entry(object).or_default();
                for kind in moved {
                    needs[kind.index_of()] = held.made;
                }
                let reached = keys.iter().any(|key| {
                    world.get(key).is_some_and(|(_, sources)| {
                        sources.keys().any(|name| ObjectId::from(*name) == object)
                    })
                });
                if !reached {
                    *needs = Needs::default();
                }
                prop_assert_eq!(reach.needs(object), reached.then_some(*needs));
            }
            prop_assert_eq!(reach.needs(1), None);
            before = world;
        }
        reach.forget(0);
        prop_assert_eq!(reach.needs(0), None);
    }
}
