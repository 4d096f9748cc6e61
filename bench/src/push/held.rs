//! What one simulated sidecar holds, and what it waits for.

use std::{collections::HashMap, sync::Arc};

use super::{
    decode::{Content, Resource},
    kind::Kind,
};

/// Name of the route configuration of the port of every service.
const ROUTE: &str = "8080";

/// A resource with the version that it came with.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Empty in state-of-the-world mode.
    pub version: Box<str>,
    pub resource: Arc<Resource>,
}

/// Everything that a sidecar was sent and that was not removed since.
#[derive(Debug, Default)]
pub struct Held {
    types: [HashMap<Arc<str>, Entry>; Kind::ALL.len()],
}

impl Held {
    pub fn of(&self, kind: Kind) -> &HashMap<Arc<str>, Entry> {
        // The array has one place for each type.
        #[expect(clippy::indexing_slicing)]
        &self.types[kind as usize]
    }

    pub fn of_mut(&mut self, kind: Kind) -> &mut HashMap<Arc<str>, Entry> {
        #[expect(clippy::indexing_slicing)]
        &mut self.types[kind as usize]
    }

    pub fn is_empty(&self) -> bool {
        self.types.iter().all(HashMap::is_empty)
    }

    fn content(&self, kind: Kind, name: &str) -> Option<&Content> {
        self.of(kind).get(name).map(|entry| &entry.resource.content)
    }
}

/// One service as sidecars must see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    pub host: String,
    /// Names of its clusters, with the addresses and ports behind each.
    pub clusters: Vec<(String, Vec<String>)>,
    /// Connection limit; 0 = whatever is the default.
    pub connections: u32,
    /// Request header that its routes set; empty = none.
    pub marker: String,
}

impl Service {
    /// Cluster, assignment and virtual host are there and say the same.
    fn is_held(&self, held: &Held) -> bool {
        let clusters = self.clusters.iter().all(|(name, addresses)| {
            let Some(Content::Cluster {
                assignment: Some(assignment),
                max_connections,
            }) = held.content(Kind::Cluster, name)
            else {
                return false;
            };
            let Some(Content::Assignment(held)) = held.content(Kind::Endpoint, assignment) else {
                return false;
            };
            (self.connections == 0 || *max_connections == self.connections)
                && held.len() == addresses.len()
                && addresses.iter().all(|address| held.contains(address))
        });
        let routed = match held.content(Kind::Route, ROUTE) {
            Some(Content::Route(domains)) => domains
                .get(&self.host)
                .is_some_and(|values| self.marker.is_empty() || values.contains(&self.marker)),
            _ => false,
        };
        clusters && routed
    }
}

/// What all sidecars are to hold.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    pub round: u64,
    pub services: Arc<[Service]>,
}

impl Expectation {
    pub fn is_met(&self, held: &Held) -> bool {
        let clusters: usize = self.services.iter().map(|s| s.clusters.len()).sum();
        // The cheap look first: it is asked after every response.
        held.of(Kind::Endpoint).len() >= clusters
            && self.services.iter().all(|service| service.is_held(held))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn put(held: &mut Held, kind: Kind, name: &str, content: Content) {
        let name: Arc<str> = name.into();
        let resource = Arc::new(Resource {
            name: name.clone(),
            content,
        });
        let entry = Entry {
            version: "1".into(),
            resource,
        };
        held.of_mut(kind).insert(name, entry);
    }

    #[test]
    fn every_part_of_a_service_is_missed() {
        let expectation = Expectation {
            round: 1,
            services: Arc::new([Service {
                host: "a".into(),
                clusters: vec![("outbound|8080||a".into(), vec!["10.0.0.1:8080".into()])],
                connections: 7,
                marker: "m".into(),
            }]),
        };
        let cluster = |limit| Content::Cluster {
            assignment: Some("c".into()),
            max_connections: limit,
        };
        let assignment = |address: &str| Content::Assignment([address.to_owned()].into());
        let route = |marker: &str| {
            Content::Route([("a".to_owned(), BTreeSet::from([marker.to_owned()]))].into())
        };
        let mut held = Held::default();
        assert!(!expectation.is_met(&held));
        put(&mut held, Kind::Cluster, "outbound|8080||a", cluster(7));
        put(&mut held, Kind::Endpoint, "c", assignment("10.0.0.1:8080"));
        assert!(!expectation.is_met(&held), "no route");
        put(&mut held, Kind::Route, ROUTE, route("m"));
        assert!(expectation.is_met(&held));
        put(&mut held, Kind::Route, ROUTE, route("old"));
        assert!(!expectation.is_met(&held), "another marker");
        put(&mut held, Kind::Route, ROUTE, route("m"));
        put(&mut held, Kind::Endpoint, "c", assignment("10.0.0.2:8080"));
        assert!(!expectation.is_met(&held), "another endpoint");
        put(&mut held, Kind::Endpoint, "c", assignment("10.0.0.1:8080"));
        put(&mut held, Kind::Cluster, "outbound|8080||a", cluster(8));
        assert!(!expectation.is_met(&held), "another limit");
    }
}
