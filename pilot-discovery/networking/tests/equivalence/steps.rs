//! What happens: objects, credentials, settings and proxies that come, change in one field and go.

use proptest::{collection::vec, prelude::*};

use crate::{
    fields::{Choices, FIELDS},
    kinds::Kind,
    proxies, run,
};

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A new object in the place of what was there.
    Put(Kind, u8, Choices),
    /// One field of the object that is there gets another value.
    Change(Kind, u8, u8, u8),
    Delete(Kind, u8),
    /// Bytes that are no encoding of the message: the last good version stays.
    Garble(Kind, u8),
    Connect(u8),
    Disconnect(u8),
    Mesh(Choices),
    FollowCluster,
    /// Whether of the cluster, slot, content.
    Credential(bool, u8, Option<u8>),
    Fault(u8),
    Forget(u8),
    Right(u8, Option<bool>),
}

/// Policies and Sidecars make everything again, which hides what a smaller change forgets; the
/// other kinds are more frequent.
fn kind() -> impl Strategy<Value = Kind> {
    let (again, small) = Kind::ALL
        .into_iter()
        .partition::<Vec<Kind>, _>(|kind| kind.makes_everything());
    prop_oneof![
        1 => prop::sample::select(again),
        3 => prop::sample::select(small),
    ]
}

/// Mostly plain values, so that objects fit together often enough to matter.
fn choices() -> impl Strategy<Value = Choices> {
    let one = prop_oneof![2 => Just(0_u8), 3 => 0_u8..8];
    prop::array::uniform::<_, FIELDS>(one)
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0_u8..6;
    prop_oneof![
        24 => (kind(), slot.clone(), choices()).prop_map(|(k, s, c)| Step::Put(k, s, c)),
        20 => (kind(), slot.clone(), 0..FIELDS as u8, 0_u8..8)
            .prop_map(|(k, s, f, v)| Step::Change(k, s, f, v)),
        8 => (kind(), slot.clone()).prop_map(|(k, s)| Step::Delete(k, s)),
        1 => (kind(), slot.clone()).prop_map(|(k, s)| Step::Garble(k, s)),
        12 => (0..proxies::COUNT).prop_map(Step::Connect),
        4 => (0..proxies::COUNT).prop_map(Step::Disconnect),
        2 => choices().prop_map(Step::Mesh),
        1 => Just(Step::FollowCluster),
        3 => (any::<bool>(), slot.clone(), prop::option::of(0_u8..4))
            .prop_map(|(c, s, v)| Step::Credential(c, s, v)),
        1 => slot.prop_map(Step::Fault),
        1 => (0_u8..3).prop_map(Step::Forget),
        2 => (0_u8..3, prop::option::of(any::<bool>())).prop_map(|(n, r)| Step::Right(n, r)),
    ]
}

/// One change is seen alone most often, as what others make again hides what it forgets.
fn batch() -> impl Strategy<Value = Vec<Step>> {
    prop_oneof![2 => vec(step(), 1), 1 => vec(step(), 2..6)]
}

/// All proxies, with objects of every kind for them and for each other to meet.
fn full() -> impl Strategy<Value = Vec<Step>> {
    let places = Kind::ALL
        .into_iter()
        .flat_map(|kind| (0..6).map(move |slot| (kind, slot)));
    let places: Vec<(Kind, u8)> = places.collect();
    let objects = vec(prop::option::of(choices()), places.len());
    objects.prop_map(move |objects| {
        let mut steps = start();
        let put = places.iter().zip(objects);
        steps.extend(
            put.filter_map(|((kind, slot), choices)| Some(Step::Put(*kind, *slot, choices?))),
        );
        steps
    })
}

/// A start with some proxies and objects, then batches of changes.
pub(crate) fn batches() -> impl Strategy<Value = Vec<Vec<Step>>> {
    after(vec(step(), 0..24))
}

/// A full mesh, then batches of changes.
pub(crate) fn batches_in_full_mesh() -> impl Strategy<Value = Vec<Vec<Step>>> {
    after(full())
}

fn after(start: impl Strategy<Value = Vec<Step>>) -> impl Strategy<Value = Vec<Vec<Step>>> {
    (start, vec(batch(), 1..6)).prop_map(|(start, mut batches)| {
        batches.insert(0, start);
        batches
    })
}

/// A mesh in which everything has something to act on.
pub(crate) fn start() -> Vec<Step> {
    let mut steps: Vec<Step> = (0..proxies::COUNT).map(Step::Connect).collect();
    for slot in 0..6 {
        steps.push(Step::Put(
            Kind::Service,
            slot,
            [0, 0, 1, 0, 0, 0, slot, 0, 0, 0, 0, 0],
        ));
    }
    steps.push(Step::Put(Kind::Gateway, 2, [0; FIELDS]));
    steps.push(Step::Put(
        Kind::Gateway,
        5,
        [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
    ));
    steps
}

/// Kinds of steps that leave every manifest as it is, in a mesh where they should not.
pub(crate) fn without_effect() -> Vec<String> {
    let mut last: Vec<(String, Vec<Step>)> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let put = (0..6).map(|slot| match kind {
                Kind::Service => Step::Change(kind, slot, 2, 3),
                // It has effect on what it targets only.
                Kind::Policy => Step::Put(kind, slot, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
                Kind::VirtualService => Step::Put(kind, slot, [0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0]),
                Kind::DestinationRule => {
                    Step::Put(kind, slot, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
                }
                _ => Step::Put(kind, slot, [0; FIELDS]),
            });
            (format!("{kind:?}"), put.collect())
        })
        .collect();
    last.push(("Mesh".into(), vec![Step::Mesh([1; FIELDS])]));
    last.push((
        "Credential".into(),
        vec![Step::Credential(false, 2, Some(1))],
    ));
    last.push((
        "Cluster".into(),
        vec![
            Step::FollowCluster,
            Step::Credential(true, 2, Some(1)),
            Step::Right(2, Some(true)),
        ],
    ));
    let before = run::manifests(&[start()]);
    last.into_iter()
        .filter(|(_, steps)| run::manifests(&[start(), steps.clone()]) == before)
        .map(|(name, _)| name)
        .collect()
}
