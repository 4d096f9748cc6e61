//! Circles between the rooms of a crate. Rooms are the child modules of one module: the top-level
//! modules of a crate, and in each module those below it.
//!
//! ```text
//! root file ─► tree: every module ─► references: who names what, where ─► circles
//! ```

mod circles;
mod references;
mod tree;

use std::path::Path;

use anyhow::Context as _;

use super::crates::Root;
use circles::Circle;

/// A circle that is still there: the crate and its rooms, by their paths in the crate.
pub(super) type Known = (&'static str, &'static [&'static str]);

/// Every circle of every crate.
pub(super) fn find(roots: &[Root]) -> anyhow::Result<Vec<Circle>> {
    let mut found = Vec::new();
    for root in roots {
        found.extend(of(root, &|path| std::fs::read_to_string(path))?);
    }
    Ok(found)
}

fn of(root: &Root, read: &dyn Fn(&Path) -> std::io::Result<String>) -> anyhow::Result<Vec<Circle>> {
    let tree = tree::Tree::read(&root.file, read)
        .with_context(|| format!("the modules of {}", root.package))?;
    Ok(circles::find(&root.package, &references::arrows(&tree)))
}

/// What is wrong: circles that are not known, and known rooms that are in no circle any more.
pub(super) fn problems(found: &[Circle], known: &[Known]) -> Vec<String> {
    let mut problems = Vec::new();
    for circle in found {
        let is_known = known
            .iter()
            .any(|(package, rooms)| circle.is_within(package, rooms));
        if !is_known {
            problems.push(circle.to_string());
        }
    }
    for (package, rooms) in known {
        for room in *rooms {
            let is_there = found
                .iter()
                .any(|circle| circle.is_within(package, rooms) && circle.has(room));
            if !is_there {
                problems.push(format!(
                    "{package}: {room} is no longer in that circle; take it off the list"
                ));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<Circle> {
        let root = Root {
            package: "made-up".to_owned(),
            file: "src/lib.rs".into(),
        };
        of(&root, &|path| {
            files
                .iter()
                .find(|(name, _)| Path::new(name) == path)
                .map(|(_, text)| (*text).to_owned())
                .ok_or_else(|| Error::from(ErrorKind::NotFound))
        })
        .unwrap()
    }

    fn texts(files: &[(&str, &str)]) -> Vec<String> {
        circles(files).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_circle_is_found_with_a_place_for_each_arrow() {
        let found = texts(&[
            ("src/lib.rs", "mod a;\nmod b;\nmod c;\n"),
            ("src/a.rs", "use crate::{b::{self, B}, c::C};\n"),
            ("src/b.rs", "\nfn x() { super::a::y() }\n"),
            ("src/c.rs", "pub struct C;\n"),
        ]);
        assert_eq!(
            found,
            ["made-up: a, b form a circle\n    a -> b  src/a.rs:1\n    b -> a  src/b.rs:2"]
        );
    }

    #[test]
    fn arrows_of_one_direction_are_not_a_circle() {
        let files = [
            ("src/lib.rs", "mod a;\nmod b;\npub struct Own;\n"),
            (
                "src/a.rs",
                "use crate::b::B; use crate::Own; use std::fmt;\n",
            ),
            ("src/b.rs", "use super::Own;\n"),
        ];
        assert!(texts(&files).is_empty());
    }

    #[test]
    fn a_circle_below_a_module_is_found() {
        let found = texts(&[
            ("src/lib.rs", "mod a;\n"),
            ("src/a.rs", "mod x;\nmod y;\npub(crate) struct A;\n"),
            ("src/a/x.rs", "use super::y; use super::A;\n"),
            ("src/a/y/mod.rs", "mod z;\n"),
            ("src/a/y/z.rs", "use crate::a::x::X;\n"),
        ]);
        assert_eq!(
            found,
            [
                "made-up: a::x, a::y form a circle\n    a::x -> a::y  src/a/x.rs:1\n    a::y -> a::x  src/a/y/z.rs:1"
            ]
        );
    }

    #[test]
    fn three_rooms_in_a_ring_are_one_circle() {
        let found = circles(&[
            ("src/lib.rs", "mod a;\nmod b;\nmod c;\n"),
            ("src/a.rs", "use crate::b;\n"),
            ("src/b.rs", "type C = crate::c::C;\n"),
            (
                "src/c.rs",
                "fn f() { let _ = format!(\"{}\", crate::a::A); }\n",
            ),
        ]);
        assert_eq!(found.len(), 1);
        assert!(["a", "b", "c"].iter().all(|room| found[0].has(room)));
    }

    #[test]
    fn a_name_that_another_file_hands_on_leads_to_its_room() {
        let found = texts(&[
            ("src/lib.rs", "mod a;\nmod b;\npub use b::B as Public;\n"),
            ("src/a.rs", "use crate::Public;\n"),
            ("src/b.rs", "use super::a::A;\n"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn tests_may_use_whatever_they_like() {
        let files = [
            ("src/lib.rs", "mod a;\nmod b;\n"),
            ("src/a.rs", "use crate::b::B;\n"),
            (
                "src/b.rs",
                "#[cfg(test)]\nmod tests { use crate::a::A; }\n#[cfg(test)]\nuse crate::a::A;\n",
            ),
        ];
        assert!(texts(&files).is_empty());
    }

    #[test]
    fn the_list_of_known_circles_only_shrinks() {
        let files = [
            ("src/lib.rs", "mod a;\nmod b;\n"),
            ("src/a.rs", "use crate::b::B;\n"),
            ("src/b.rs", "use crate::a::A;\n"),
        ];
        let found = circles(&files);
        assert_eq!(problems(&found, &[]).len(), 1);
        assert!(problems(&found, &[("made-up", &["a", "b"])]).is_empty());
        assert_eq!(problems(&found, &[("other", &["a", "b"])]).len(), 3);
        assert_eq!(
            problems(&found, &[("made-up", &["a", "b", "c"])]),
            ["made-up: c is no longer in that circle; take it off the list"]
        );
    }
}
