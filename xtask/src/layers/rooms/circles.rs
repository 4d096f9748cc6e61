//! Rooms that reach each other.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use petgraph::{algo::tarjan_scc, graph::DiGraph};

use super::references::{Arrow, Place};

/// Rooms of one module that all reach each other, and the arrows between them.
#[derive(Clone, Debug)]
pub(crate) struct Circle {
    package: String,
    rooms: Vec<String>,
    arrows: Vec<(String, String, Place)>,
}

impl Circle {
    pub(super) fn has(&self, room: &str) -> bool {
        self.rooms.iter().any(|each| each == room)
    }

    /// Whether it is of this package and has none but these rooms.
    pub(super) fn is_within(&self, package: &str, rooms: &[&str]) -> bool {
        self.package == package && self.rooms.iter().all(|room| rooms.contains(&room.as_str()))
    }
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rooms = self.rooms.join(", ");
        write!(f, "{}: {rooms} form a circle", self.package)?;
        for (from, to, place) in &self.arrows {
            let file = short(&place.file);
            write!(f, "\n    {from} -> {to}  {}:{}", file.display(), place.line)?;
        }
        Ok(())
    }
}

/// As seen from the root of the workspace.
fn short(file: &Path) -> &Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = own.parent().unwrap_or(own);
    file.strip_prefix(workspace).unwrap_or(file)
}

/// The circles that these arrows form.
pub(super) fn find(package: &str, arrows: &BTreeMap<Arrow, Place>) -> Vec<Circle> {
    // Arrows join rooms of one module, so that no circle has rooms of several.
    let mut graph = DiGraph::<String, ()>::new();
    let mut nodes = BTreeMap::new();
    for arrow in arrows.keys() {
        let [from, to] = [&arrow.from, &arrow.to].map(|path| {
            let name = path.join("::");
            *nodes
                .entry(name.clone())
                .or_insert_with(|| graph.add_node(name))
        });
        graph.update_edge(from, to, ());
    }
    let mut circles = Vec::new();
    for component in tarjan_scc(&graph) {
        if component.len() < 2 {
            continue;
        }
        let mut rooms: Vec<String> = component
            .iter()
            .filter_map(|node| graph.node_weight(*node).cloned())
            .collect();
        rooms.sort();
        let inner = arrows.iter().filter_map(|(arrow, place)| {
            let (from, to) = (arrow.from.join("::"), arrow.to.join("::"));
            (rooms.contains(&from) && rooms.contains(&to)).then(|| (from, to, place.clone()))
        });
        circles.push(Circle {
            package: package.to_owned(),
            arrows: inner.collect(),
            rooms,
        });
    }
    circles.sort_by(|a, b| a.rooms.cmp(&b.rooms));
    circles
}
