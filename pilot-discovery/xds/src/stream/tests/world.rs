//! Small worlds of resources that refer to each other.

use pilot_networking::kind::Kind;
use std::{collections::BTreeSet, sync::Arc};

use pilot_networking::{
    manifest::{Manifests, Set, put},
    resource::Resource,
};
use proptest::prelude::*;

use crate::view::View;

/// The resources that exist, each with a number that represents its content.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub clusters: [Option<u8>; 4],
    pub endpoints: [u8; 4],
    /// An assignment without a cluster.
    pub lone: Option<u8>,
    /// Content, and the clusters that it sends traffic to.
    pub routes: [Option<(u8, u8)>; 3],
    /// Content, route configurations, clusters.
    pub listeners: [Option<(u8, u8, u8)>; 3],
    pub inbound: u8,
    /// Content of one resource of each type that always exists.
    pub constant: u8,
}

/// What a body refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refs {
    pub clusters: BTreeSet<String>,
    pub routes: BTreeSet<String>,
    /// A cluster whose endpoints come over EDS.
    pub eds: bool,
}

impl Refs {
    pub(super) fn of(body: &[u8]) -> Self {
        let text = std::str::from_utf8(body).unwrap();
        let mut refs = Self::default();
        for word in text.split(' ').skip(1) {
            match word.as_bytes().first() {
                Some(b'c') => refs.clusters.insert(word.to_owned()),
                Some(b'r') => refs.routes.insert(word.to_owned()),
                _ => {
                    refs.eds = true;
                    true
                }
            };
        }
        refs
    }
}

pub(super) fn worlds() -> impl Strategy<Value = World> {
    let few = 0..3_u8;
    let maybe = prop::option::weighted(0.7, 0..3_u8);
    (
        prop::array::uniform4(maybe.clone()),
        prop::array::uniform4(few.clone()),
        maybe,
        prop::array::uniform3(prop::option::weighted(0.8, (few.clone(), any::<u8>()))),
        prop::array::uniform3(prop::option::weighted(
            0.8,
            (few.clone(), any::<u8>(), any::<u8>()),
        )),
        few,
    )
        .prop_map(
            |(clusters, endpoints, lone, routes, listeners, inbound)| World {
                clusters,
                endpoints,
                lone,
                routes,
                listeners,
                inbound,
                constant: 0,
            },
        )
}

impl World {
    /// The view of this world, which shares unchanged parts with `old`. References to missing
    /// resources are left out.
    pub(super) fn view(&self, old: &View) -> View {
        let bit = |mask: u8, at: usize| mask & (1 << at) != 0;
        let clusters = |mask: u8| -> String {
            let there = (0..4).filter(|at| bit(mask, *at) && self.clusters[*at].is_some());
            there.map(|at| format!(" c{at}")).collect()
        };
        let routes = |mask: u8| -> String {
            let there = (0..3).filter(|at| bit(mask, *at) && self.routes[*at].is_some());
            there.map(|at| format!(" r{at}")).collect()
        };
        let (mut c, mut e, mut r, mut l) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (at, content) in self.clusters.iter().enumerate() {
            let Some(content) = content else { continue };
            // The last one contains its endpoints.
            let eds = if at < 3 { " eds" } else { "" };
            c.push((format!("c{at}"), format!("{content}{eds}")));
            if at < 3 {
                e.push((format!("c{at}"), format!("{}", self.endpoints[at])));
            }
        }
        e.extend(
            self.lone
                .map(|content| ("lone".to_owned(), content.to_string())),
        );
        for (at, route) in self.routes.iter().enumerate() {
            let Some((content, to)) = route else { continue };
            r.push((format!("r{at}"), format!("{content}{}", clusters(*to))));
        }
        for (at, listener) in self.listeners.iter().enumerate() {
            let Some((content, to, direct)) = listener else {
                continue;
            };
            let body = format!("{content}{}{}", routes(*to), clusters(*direct));
            l.push((format!("l{at}"), body));
        }
        let constant = self.constant;
        c.push(("cz".into(), format!("{constant} eds")));
        e.push(("cz".into(), constant.to_string()));
        r.push(("rz".into(), format!("{constant} cz")));
        l.push(("lz".into(), format!("{constant} rz")));
        let inbound = self.inbound;
        let inbound = [
            vec![("in-c".to_owned(), inbound.to_string())],
            vec![("in-l".to_owned(), inbound.to_string())],
        ];
        let [ic, il] = inbound;
        let of = |old: &Manifests, wanted: Vec<(Kind, Vec<(String, String)>)>| {
            let mut new = Manifests::default();
            for (kind, wanted) in wanted {
                new[kind] = follow(&old[kind], wanted);
            }
            Arc::new(new)
        };
        let outbound = vec![
            (Kind::Cluster, c),
            (Kind::Endpoint, e),
            (Kind::Route, r),
            (Kind::Listener, l),
        ];
        let inbound = vec![(Kind::Cluster, ic), (Kind::Listener, il)];
        View {
            outbound: of(&old.outbound, outbound),
            inbound: of(&old.inbound, inbound),
            version: old.version + 1,
            times: None,
        }
    }
}

fn follow(old: &Set, wanted: Vec<(String, String)>) -> Set {
    let mut set = old.clone();
    for name in old.keys() {
        if !wanted.iter().any(|(wanted, _)| **wanted == **name) {
            set.remove(name);
        }
    }
    for (name, body) in wanted {
        put(
            &mut set,
            Arc::new(Resource::from_bytes(name, body.into(), [])),
        );
    }
    set
}
