//! Rounds in changing worlds.

use pilot_networking::kind::Kind;
use std::time::Duration;

use pilot_model::{config::ConfigRef, snapshot::Snapshot as Mesh};
use pilot_networking::{
    manifest::{Manifests, put},
    resource::Resource,
};

use super::*;
use pilot_networking::class::{fleet::Membership, group::ClassState};

/// A pilot with one class, and proxies that accept what the test says.
struct World {
    ledger: Ledger,
    mesh: Mesh,
    manifests: Arc<Manifests>,
    made: u64,
    members: Vec<(u64, Membership)>,
    taken: BTreeMap<u64, Taken>,
    now: Instant,
}

fn name(object: usize) -> ConfigName {
    ConfigName {
        kind: "DestinationRule",
        namespace: "a".into(),
        name: format!("{object:05}").into(),
    }
}

impl World {
    fn new() -> Self {
        Self {
            ledger: Ledger::default(),
            mesh: Mesh::default(),
            manifests: Arc::default(),
            made: 0,
            members: Vec::new(),
            taken: BTreeMap::new(),
            now: Instant::now(),
        }
    }

    /// Objects with one cluster each; `Some` version, or removed.
    fn set(&mut self, objects: impl IntoIterator<Item = (usize, Option<&'static str>)>) {
        let mut manifests = Manifests::clone(&self.manifests);
        for (object, version) in objects {
            let name = name(object);
            let resource: Arc<str> = format!("c{object}").into();
            let Some(version) = version else {
                self.mesh.configs.remove(&name);
                manifests[Kind::Cluster].remove(&resource);
                continue;
            };
            let source = ConfigRef {
                kind: name.kind,
                namespace: name.namespace.clone(),
                name: name.name.clone(),
                version: version.into(),
            };
            self.mesh.configs.insert(name, version.into());
            let body = version.as_bytes().into();
            let made = Resource::from_bytes(resource, body, [source]);
            put(&mut manifests[Kind::Cluster], Arc::new(made));
        }
        self.manifests = Arc::new(manifests);
        self.mesh.version += 1;
        self.made = self.mesh.version;
    }

    fn join(&mut self, connection: u64) {
        let place = Membership {
            outbound: 1,
            inbound: None,
            since: self.mesh.version,
        };
        self.members.push((connection, place));
    }

    fn leave(&mut self, connection: u64) {
        self.members.retain(|(id, _)| *id != connection);
    }

    fn take(&mut self, connection: u64) {
        self.taken.insert(connection, [Some(self.mesh.version); 5]);
    }

    /// A round; its new reports by object: version, held, reached.
    fn round(&mut self) -> Vec<(usize, String)> {
        let before = self.ledger.resources.clone();
        let state = WorldState {
            snapshot: Arc::new(self.mesh.clone()),
            classes: vec![ClassState {
                id: 1,
                manifests: self.manifests.clone(),
                made: self.made,
            }],
            members: self.members.clone(),
        };
        let news = self.ledger.round(&state, &self.taken, self.now);
        let Some(news) = news else {
            assert!(before.ptr_eq(&self.ledger.resources));
            return Vec::new();
        };
        let resources = &news.get(COLLECTION).unwrap().resources;
        let mut said = Vec::new();
        for (_, resource) in resources {
            let (key, now) = Distribution::from_mcp(resource).unwrap();
            let known = before.get(&*resource.metadata.as_ref().unwrap().name);
            if known != Some(resource) {
                let text = format!("{} {}/{}", now.version, now.held, now.reached);
                said.push((key.name.parse().unwrap(), text));
            }
        }
        let is_gone = |name: &&Arc<str>| !resources.contains_key(*name);
        for gone in before.keys().filter(is_gone) {
            let name = gone.rsplit('/').next().unwrap();
            said.push((name.parse().unwrap(), "gone".to_owned()));
        }
        said
    }
}

fn said(object: usize, text: &str) -> (usize, String) {
    (object, text.to_owned())
}

#[test]
fn an_object_is_said_again_when_something_of_it_is_another() {
    let mut world = World::new();
    world.set([(1, Some("v1")), (2, Some("w1"))]);
    assert_eq!(world.round(), [said(1, "v1 0/0"), said(2, "w1 0/0")]);
    assert_eq!(world.round(), []);
    // A new proxy does not count before it accepted something.
    world.join(7);
    assert_eq!(world.round(), []);
    world.take(7);
    assert_eq!(world.round(), [said(1, "v1 1/1"), said(2, "w1 1/1")]);
    world.set([(1, Some("v2"))]);
    assert_eq!(world.round(), [said(1, "v2 0/1")]);
    assert_eq!(world.round(), []);
    world.take(7);
    assert_eq!(world.round(), [said(1, "v2 1/1")]);
    world.set([(2, None)]);
    assert_eq!(world.round(), [said(2, "gone")]);
    world.leave(7);
    assert_eq!(world.round(), [said(1, "v2 0/0")]);
}

#[test]
fn a_proxy_that_holds_nothing_after_a_while_is_counted() {
    let mut world = World::new();
    world.set([(1, Some("v1"))]);
    world.join(7);
    world.join(8);
    world.take(8);
    assert_eq!(world.round(), [said(1, "v1 1/1")]);
    world.now += Duration::from_secs(9);
    assert_eq!(world.round(), []);
    world.now += Duration::from_secs(1);
    assert_eq!(world.round(), [said(1, "v1 1/2")]);
    world.take(7);
    assert_eq!(world.round(), [said(1, "v1 2/2")]);
}

#[test]
fn a_round_is_bounded_and_changes_come_first() {
    const ALL: usize = OBJECTS_PER_ROUND * 2 + 10;
    let mut world = World::new();
    world.set((0..ALL).map(|object| (object, Some("v1"))));
    let rounds = [OBJECTS_PER_ROUND, OBJECTS_PER_ROUND, 10, 0];
    assert_eq!([(); 4].map(|()| world.round().len()), rounds);
    // A proxy connects: the numbers of all objects follow eventually …
    world.join(7);
    world.take(7);
    assert_eq!(world.round().len(), REFRESHED_PER_ROUND);
    // … and changes do not wait for them.
    world.set([(ALL - 1, Some("v2"))]);
    let news = world.round();
    assert!(news.contains(&said(ALL - 1, "v2 0/1")));
    assert_eq!(news.len(), REFRESHED_PER_ROUND + 1);
    world.take(7);
    let news = world.round();
    assert!(news.contains(&said(ALL - 1, "v2 1/1")));
    let mut left = ALL;
    for _ in 0..ALL / REFRESHED_PER_ROUND {
        left = world.round().len();
    }
    assert_eq!((left, world.round().len()), (0, 0));
    assert!(world.ledger.objects.values().all(|object| {
        let said = object.said.as_ref().unwrap();
        (said.held, said.reached) == (1, 1)
    }));
}

#[test]
fn what_was_said_of_a_class_that_is_gone_is_taken_back() {
    let mut world = World::new();
    world.set([(1, Some("v1"))]);
    world.join(7);
    world.take(7);
    assert_eq!(world.round(), [said(1, "v1 1/1")]);
    world.leave(7);
    let state = WorldState {
        snapshot: Arc::new(world.mesh.clone()),
        classes: Vec::new(),
        members: Vec::new(),
    };
    assert!(
        world
            .ledger
            .round(&state, &world.taken, world.now)
            .is_some()
    );
    assert!(world.ledger.reached.is_empty() && world.ledger.reaches.is_empty());
}
