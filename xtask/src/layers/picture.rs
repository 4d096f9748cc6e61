//! The picture of the crates: a line each, the lowest layer at the bottom.

use std::{collections::BTreeMap, fmt::Write as _};

/// Draws the table. A crate stands one layer above the highest that it may use.
pub(super) fn draw(allowed: &[(&str, &[&str])], top: &str, pure: &[&str]) -> String {
    let mut layers: BTreeMap<usize, Vec<(&str, &[&str])>> = BTreeMap::new();
    for (name, uses) in allowed {
        let height = height(allowed, name, allowed.len());
        layers.entry(height).or_default().push((name, uses));
    }
    let mut picture = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(picture, "{top:<18} may use every crate");
    for rows in layers.values_mut().rev() {
        let _ = writeln!(picture, "{}", "-".repeat(18));
        rows.sort_unstable();
        for (name, uses) in rows {
            let mark = if pure.contains(name) { " (pure)" } else { "" };
            let name = format!("{name}{mark}");
            let row = match uses {
                [] => name,
                uses => format!("{name:<24} -> {}", uses.join(", ")),
            };
            let _ = writeln!(picture, "{row}");
        }
    }
    picture
}

/// `limit` ends the search in a table whose arrows form a circle.
fn height(allowed: &[(&str, &[&str])], name: &str, limit: usize) -> usize {
    let uses = allowed
        .iter()
        .find(|(crate_, _)| *crate_ == name)
        .map_or(&[][..], |(_, uses)| uses);
    match limit.checked_sub(1) {
        Some(limit) => uses
            .iter()
            .map(|used| height(allowed, used, limit) + 1)
            .max()
            .unwrap_or(0),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_stands_above_what_it_uses() {
        let table: &[(&str, &[&str])] = &[
            ("words", &[]),
            ("kit", &["words"]),
            ("process", &["kit", "words"]),
            ("tools", &[]),
        ];
        let picture = draw(table, "tests", &["words"]);
        let names: Vec<&str> = picture
            .lines()
            .filter(|line| !line.starts_with('-'))
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(names, ["tests", "process", "kit", "tools", "words"]);
        assert!(picture.contains("words (pure)\n"), "{picture}");
        assert!(picture.contains("-> kit, words\n"), "{picture}");
    }
}
