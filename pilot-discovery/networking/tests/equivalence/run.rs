//! Runs steps the incremental way, and compares with what is made of the final state at once.

use pilot_networking::kind::Kind as ResourceKind;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use istio_api::{
    collections::Collection,
    json::{self, Unknown},
    mesh::v1alpha1::MeshConfig,
    object::Object,
};
use pilot_model::{
    builder::Builder,
    credential::{Account, Credential},
    host::Host,
    key::ObjectKey,
    mesh::Mesh,
    snapshot::Snapshot,
};
use pilot_networking::{
    class::fleet::{Fleet, Sides},
    manifest::Manifests,
};

use crate::{
    fields::{Choices, Fields, object},
    kinds::{Kind, NAMESPACES},
    proxies,
    steps::Step,
};

/// What is there in the end.
#[derive(Clone, Default)]
struct State {
    mesh: Mesh,
    objects: BTreeMap<(&'static str, ObjectKey), (&'static Collection, Object)>,
    choices: BTreeMap<(Kind, u8), Choices>,
    is_cluster: bool,
    directory: BTreeMap<ObjectKey, Credential>,
    cluster: BTreeMap<ObjectKey, Credential>,
    rights: BTreeMap<Account, bool>,
    connected: BTreeSet<u8>,
}

/// The incremental one.
struct World {
    builder: Builder,
    fleet: Fleet,
    snapshot: Arc<Snapshot>,
    state: State,
    version: usize,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let mut builder = Builder::new(Mesh::default());
        let (snapshot, _) = builder.publish();
        Self {
            builder,
            fleet: Fleet::default(),
            snapshot,
            state: State::default(),
            version: 0,
            now: Instant::now(),
        }
    }

    fn apply(&mut self, kind: Kind, slot: u8, object: Option<Object>) {
        let (collection, key) = (kind.collection(), kind.key(slot));
        if self
            .builder
            .apply(collection, &key, object.clone())
            .is_err()
        {
            // The last good version stays.
            return;
        }
        let id = (collection.name, key);
        match object {
            Some(object) => drop(self.state.objects.insert(id, (collection, object))),
            None => drop(self.state.objects.remove(&id)),
        }
    }

    fn put(&mut self, kind: Kind, slot: u8, choices: Choices) {
        self.state.choices.insert((kind, slot), choices);
        self.apply(kind, slot, Some(kind.object(slot, &choices, self.version)));
    }

    fn step(&mut self, step: &Step) {
        self.version += 1;
        match step {
            Step::Put(kind, slot, choices) => self.put(*kind, *slot, *choices),
            Step::Change(kind, slot, field, value) => {
                if let Some(mut choices) = self.state.choices.get(&(*kind, *slot)).copied() {
                    choices[usize::from(*field)] = *value;
                    self.put(*kind, *slot, choices);
                }
            }
            Step::Delete(kind, slot) => {
                self.state.choices.remove(&(*kind, *slot));
                self.apply(*kind, *slot, None);
            }
            Step::Garble(kind, slot) => {
                let mut object = kind.object(*slot, &[0; _], self.version);
                object.body = (&[0xff_u8, 0xff, 0xff][..]).into();
                self.apply(*kind, *slot, Some(object));
            }
            Step::Connect(id) => {
                if self.state.connected.insert(*id) {
                    let proxy = proxies::proxy(*id);
                    self.fleet
                        .connect(u64::from(*id), proxy, &self.snapshot, self.now);
                }
            }
            Step::Disconnect(id) => {
                self.state.connected.remove(id);
                self.fleet.disconnect(u64::from(*id), self.now);
            }
            Step::Mesh(choices) => {
                self.state.mesh = mesh(choices);
                self.builder.set_mesh(self.state.mesh.clone());
            }
            Step::FollowCluster => {
                self.state.is_cluster = true;
                self.builder.follow_cluster();
            }
            Step::Credential(of_cluster, slot, content) => {
                let key = ObjectKey::new(NAMESPACES[usize::from(slot % 3)], "cert");
                let credential = content.map(credential);
                let all = if *of_cluster {
                    self.builder
                        .set_cluster_credential(&key, credential.clone());
                    &mut self.state.cluster
                } else {
                    self.builder.set_credential(&key, credential.clone());
                    &mut self.state.directory
                };
                match credential {
                    Some(credential) => drop(all.insert(key, credential)),
                    None => drop(all.remove(&key)),
                }
            }
            Step::Fault(slot) => {
                let key = ObjectKey::new(NAMESPACES[usize::from(slot % 3)], "cert");
                self.builder.set_cluster_fault(&key, "unreadable");
                let credential = self.state.cluster.entry(key).or_default();
                credential.fault = Some("unreadable".into());
            }
            Step::Forget(namespace) => {
                let namespace = NAMESPACES[usize::from(*namespace)];
                self.builder.forget_cluster_credentials(namespace);
                self.state
                    .cluster
                    .retain(|key, _| *key.namespace != *namespace);
            }
            Step::Right(namespace, right) => {
                let account = Account::new(NAMESPACES[usize::from(*namespace)], "edge");
                self.builder.set_right(&account, *right);
                match right {
                    Some(right) => drop(self.state.rights.insert(account, *right)),
                    None => drop(self.state.rights.remove(&account)),
                }
            }
        }
    }

    fn publish(&mut self) -> BTreeSet<u64> {
        let (snapshot, changes) = self.builder.publish();
        self.snapshot = snapshot;
        self.fleet.follow(&self.snapshot, &changes, self.now)
    }
}

fn mesh(choices: &Choices) -> Mesh {
    let mut fields = Fields::new(choices);
    let config = object([
        (
            "outboundTrafficPolicy",
            fields.json(&["", r#"{"mode": "REGISTRY_ONLY"}"#]),
        ),
        ("proxyHttpPort", fields.json(&["", "15002", "15003"])),
        ("enableAutoMtls", fields.json(&["", "false"])),
        (
            "localityLbSetting",
            fields.json(&[
                "",
                r#"{"enabled": false}"#,
                r#"{"distribute": [{"from": "r1/*", "to": {"r2/*": 100}}]}"#,
                r#"{"failoverPriority": ["team"]}"#,
            ]),
        ),
        ("defaultServiceExportTo", fields.json(&["", r#"["."]"#])),
        (
            "defaultVirtualServiceExportTo",
            fields.json(&["", r#"["."]"#]),
        ),
        (
            "defaultDestinationRuleExportTo",
            fields.json(&["", r#"["."]"#]),
        ),
        ("rootNamespace", fields.json(&["", r#""b""#])),
        ("accessLogFile", fields.json(&["", r#""/dev/stdout""#])),
        ("trustDomain", fields.json(&["", r#""td""#])),
        (
            "outboundClusterStatName",
            fields.json(&["", r#""%SERVICE%_%SERVICE_PORT%""#]),
        ),
        ("proxyListenPort", fields.json(&["", "-1", "16001"])),
    ]);
    let (config, _) = json::read::<MeshConfig>(&config, Unknown::Refuse).expect("mesh settings");
    Mesh::new(config, "cluster.local")
}

fn credential(content: u8) -> Credential {
    let part = |name: &str| format!("{name} {content}").into_bytes().into();
    Credential {
        certificate: part("certificate"),
        key: part("key"),
        ca: if content == 1 {
            part("ca")
        } else {
            bytes::Bytes::new()
        },
        version: u64::from(content),
        ..Credential::default()
    }
}

/// In which order the final state is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Ascending,
    Descending,
    /// One object a snapshot, with the proxies there from the start.
    Gradually,
}

impl Order {
    pub(crate) const ALL: [Self; 3] = [Self::Ascending, Self::Descending, Self::Gradually];
}

impl State {
    fn made_at_once(&self, order: Order) -> (Arc<Snapshot>, Fleet) {
        let now = Instant::now();
        let mut builder = Builder::new(self.mesh.clone());
        let mut fleet = Fleet::default();
        let mut objects: Vec<_> = self.objects.iter().collect();
        if !matches!(order, Order::Ascending) {
            objects.reverse();
        }
        if self.is_cluster {
            builder.follow_cluster();
        }
        if matches!(order, Order::Gradually) {
            let (snapshot, _) = builder.publish();
            self.connect(&mut fleet, &snapshot, now);
        }
        for ((_, key), (collection, object)) in objects {
            let applied = builder.apply(collection, key, Some(object.clone()));
            applied.expect("it was applied before");
            if matches!(order, Order::Gradually) {
                let (snapshot, changes) = builder.publish();
                fleet.follow(&snapshot, &changes, now);
            }
        }
        for (key, credential) in &self.directory {
            builder.set_credential(key, Some(credential.clone()));
        }
        for (key, credential) in &self.cluster {
            builder.set_cluster_credential(key, Some(credential.clone()));
        }
        for (account, right) in &self.rights {
            builder.set_right(account, Some(*right));
        }
        let (snapshot, changes) = builder.publish();
        if matches!(order, Order::Gradually) {
            fleet.follow(&snapshot, &changes, now);
        } else {
            self.connect(&mut fleet, &snapshot, now);
        }
        (snapshot, fleet)
    }

    fn connect(&self, fleet: &mut Fleet, snapshot: &Snapshot, now: Instant) {
        for id in &self.connected {
            fleet.connect(u64::from(*id), proxies::proxy(*id), snapshot, now);
        }
    }
}

/// Runs the batches; the first place where a class differs from what is made at once.
pub(crate) fn difference(batches: &[Vec<Step>], orders: &[Order]) -> Option<String> {
    let mut world = World::new();
    let mut held: BTreeMap<u8, Sides> = BTreeMap::new();
    for (at, batch) in batches.iter().enumerate() {
        for step in batch {
            world.step(step);
        }
        let affected = world.publish();
        for order in orders.iter().copied() {
            let (snapshot, fleet) = world.state.made_at_once(order);
            if let Some(what) = compare_snapshots(&world.snapshot, &snapshot) {
                return Some(format!("batch {at}, {order:?}: {what}"));
            }
            for id in &world.state.connected {
                let (one, other) = (world.fleet.sides((*id).into()), fleet.sides((*id).into()));
                let (one, other) = (one.expect("connected"), other.expect("connected"));
                let found = compare(&one.outbound, &other.outbound)
                    .or_else(|| compare(&one.inbound, &other.inbound));
                if let Some(what) = found {
                    return Some(format!("batch {at}, {order:?}, proxy {id}: {what}"));
                }
            }
        }
        // Whoever is not told of a change holds what it held.
        held.retain(|id, _| world.state.connected.contains(id));
        for id in &world.state.connected {
            let now = world.fleet.sides((*id).into()).expect("connected");
            if let Some(before) = held.insert(*id, now.clone()) {
                let same = Arc::ptr_eq(&before.outbound, &now.outbound)
                    && Arc::ptr_eq(&before.inbound, &now.inbound);
                if !same && !affected.contains(&u64::from(*id)) && !rejoined(batch, *id) {
                    return Some(format!("batch {at}: proxy {id} was not told of its change"));
                }
            }
        }
    }
    None
}

fn rejoined(batch: &[Step], id: u8) -> bool {
    batch
        .iter()
        .any(|step| matches!(step, Step::Connect(one) if *one == id))
}

/// What all proxies hold in the end.
pub(crate) fn manifests(batches: &[Vec<Step>]) -> Vec<String> {
    let mut world = World::new();
    for batch in batches {
        batch.iter().for_each(|step| world.step(step));
        world.publish();
    }
    let sides = world.state.connected.iter().map(|id| {
        let sides = world.fleet.sides((*id).into()).expect("connected");
        let sets = |m: &Manifests| format!("{:?}{:?}", m.sets, m.skipped);
        sets(&sides.outbound) + &sets(&sides.inbound)
    });
    sides.collect()
}

/// Kinds of resources that some proxy holds as a client, and that some proxy holds as a server.
pub(crate) fn kinds(batch: &[Step]) -> (Vec<ResourceKind>, Vec<ResourceKind>) {
    let mut world = World::new();
    batch.iter().for_each(|step| world.step(step));
    world.publish();
    let ids = world.state.connected.iter();
    let sides: Vec<Sides> = ids
        .map(|id| world.fleet.sides((*id).into()).expect("connected"))
        .collect();
    let held = |side: fn(&Sides) -> &Manifests| {
        let kinds = ResourceKind::ALL.into_iter();
        kinds
            .filter(|kind| sides.iter().any(|sides| !side(sides)[*kind].is_empty()))
            .collect()
    };
    (held(|sides| &sides.outbound), held(|sides| &sides.inbound))
}

fn compare_snapshots(one: &Snapshot, other: &Snapshot) -> Option<String> {
    if one.configs != other.configs {
        return Some(format!(
            "versions: {:?} instead of {:?}",
            one.configs, other.configs
        ));
    }
    if one.unconverted != other.unconverted {
        return Some(format!(
            "not converted: {:?} instead of {:?}",
            one.unconverted, other.unconverted
        ));
    }
    // The indices, too: what is left in one by mistake has an effect later only.
    let indices = |snapshot: &Snapshot| {
        let all = Host::new("*");
        let hosts: BTreeSet<Host> = snapshot.hosts_below(&all).cloned().collect();
        (hosts, snapshot.aliases.clone(), snapshot.by_address.clone())
    };
    let (left, right) = (indices(one), indices(other));
    if left != right {
        return Some(format!("indices: {left:?} instead of {right:?}"));
    }
    if one.services != other.services || one.endpoints != other.endpoints {
        return Some("services or their endpoints differ".to_owned());
    }
    (one.lookup != other.lookup)
        .then(|| format!("looked at: {:?} instead of {:?}", one.lookup, other.lookup))
}

fn compare(one: &Manifests, other: &Manifests) -> Option<String> {
    for kind in ResourceKind::ALL {
        let (what, one, other) = (kind.noun(), &one[kind], &other[kind]);
        let names: BTreeSet<_> = one.keys().chain(other.keys()).collect();
        for name in names {
            let (one, other) = (one.get(name), other.get(name));
            if one == other {
                continue;
            }
            return Some(match (one, other) {
                (Some(one), Some(other)) if one.body == other.body => format!(
                    "{what} {name} is made from {:?} instead of {:?}",
                    one.sources, other.sources
                ),
                (Some(one), Some(other)) => format!(
                    "{what} {name} has other bytes: {:?} instead of {:?}",
                    one.body, other.body
                ),
                (Some(_), None) => format!("{what} {name} should be gone"),
                _ => format!("{what} {name} is missing"),
            });
        }
    }
    (one.skipped != other.skipped)
        .then(|| format!("left out: {:?} instead of {:?}", one.skipped, other.skipped))
}
