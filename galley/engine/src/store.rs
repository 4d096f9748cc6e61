//! The objects of all files: which one is in force, and all problems.
//!
//! An identity that several files define belongs to the first of them in path order, so that a
//! restart changes nothing. Objects that cannot be read keep their last good state.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use crate::content::{Content, Entry};
use crate::problem::{Problem, effect};
use crate::update::FileUpdate;
use istio_api::manifest::Key;

/// An identity whose object in force changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Identity.
    pub key: Key,
    /// The object in force, `None` if there is none any more.
    pub entry: Option<Arc<Entry>>,
}

/// The effects of an update.
#[derive(Debug, Default)]
pub struct Applied {
    /// Identities whose object in force changed.
    pub changes: Vec<Change>,
    /// New problems.
    pub new_problems: Vec<Problem>,
    /// Problems that are solved.
    pub solved: Vec<Problem>,
}

#[derive(Debug, Default)]
struct File {
    /// Sorted by key. (In a cluster each object is a file, so that exact-size lists save memory.)
    entries: Box<[Arc<Entry>]>,
    /// Objects that keep their last good state, while the file has them in another form or not at
    /// all.
    kept: BTreeSet<Key>,
    problems: BTreeSet<Problem>,
    others: BTreeMap<String, usize>,
}

/// A file, for debug pages.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FileStatus {
    /// Objects that were read from it.
    pub objects: usize,
    /// Objects in force that the file no longer has in this form.
    pub kept: Vec<String>,
    /// Number of objects of kinds that are not read.
    pub others: BTreeMap<String, usize>,
    /// All problems.
    pub problems: Vec<Problem>,
}

/// The files that define an identity, in path order.
#[derive(Debug, Default)]
struct Owners(Vec<(Arc<Path>, Arc<Entry>)>);

impl Owners {
    fn set(&mut self, path: &Arc<Path>, entry: Option<Arc<Entry>>) {
        let place = self.0.binary_search_by(|(known, _)| known.cmp(path));
        match (place, entry) {
            (Ok(at), Some(entry)) => {
                if let Some(owner) = self.0.get_mut(at) {
                    owner.1 = entry;
                }
            }
            (Ok(at), None) => {
                self.0.remove(at);
            }
            (Err(at), Some(entry)) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (path.clone(), entry));
            }
            (Err(_), None) => {}
        }
    }

    fn first(&self) -> Option<&Arc<Entry>> {
        self.0.first().map(|(_, entry)| entry)
    }
}

/// All files and the owner of each identity.
#[derive(Debug, Default)]
pub struct Store {
    files: BTreeMap<Arc<Path>, File>,
    owners: HashMap<Key, Owners>,
    /// Identities that several files define.
    doubles: BTreeMap<Key, Problem>,
    /// Problems of all files.
    problems: usize,
}

impl Store {
    /// Applies the new state of one file.
    pub fn apply(&mut self, update: FileUpdate) -> Applied {
        match update {
            FileUpdate::Read(path, content) => self.read(&path, content),
            FileUpdate::Unusable(path, problem) => {
                let file = self.files.entry(path).or_default();
                let kept = file.entries.iter().map(|entry| entry.key.clone());
                file.kept.extend(kept);
                let problems = BTreeSet::from([problem]);
                let mut applied = Applied::default();
                replace_problems(
                    &mut self.problems,
                    &mut file.problems,
                    problems,
                    &mut applied,
                );
                applied
            }
            FileUpdate::Removed(path) => self.removed(&path),
        }
    }

    fn read(&mut self, path: &Arc<Path>, content: Content) -> Applied {
        let Content {
            entries,
            failed,
            obscured,
            problems,
            others,
            stored: _,
        } = content;
        let mut applied = Applied::default();
        let file = self.files.entry(path.clone()).or_default();
        let problems = problems.into_iter().collect();
        replace_problems(
            &mut self.problems,
            &mut file.problems,
            problems,
            &mut applied,
        );
        file.others = others;
        file.kept.clear();
        let by_key = |entry: Arc<Entry>| (entry.key.clone(), entry);
        let former = std::mem::take(&mut file.entries).into_iter();
        let mut former: BTreeMap<_, _> = former.map(by_key).collect();
        let mut held = BTreeMap::new();
        let mut touched = Vec::new();
        for entry in entries {
            let known = former.remove(&entry.key);
            match known {
                Some(known) if known.item == entry.item => {
                    // Only the place may have changed, which is not a change of the object.
                    held.insert(entry.key, known);
                }
                _ => {
                    let entry = Arc::new(entry);
                    touched.push((entry.key.clone(), Some(entry.clone())));
                    held.insert(entry.key.clone(), entry);
                }
            }
        }
        for (key, entry) in former {
            if obscured || failed.contains(&key) {
                file.kept.insert(key.clone());
                held.insert(key, entry);
            } else {
                touched.push((key, None));
            }
        }
        file.entries = held.into_values().collect();
        for (key, entry) in touched {
            self.own(path, key, entry, &mut applied);
        }
        applied
    }

    fn removed(&mut self, path: &Arc<Path>) -> Applied {
        let mut applied = Applied::default();
        let Some(mut file) = self.files.remove(path) else {
            return applied;
        };
        replace_problems(
            &mut self.problems,
            &mut file.problems,
            BTreeSet::new(),
            &mut applied,
        );
        for entry in file.entries {
            self.own(path, entry.key.clone(), None, &mut applied);
        }
        applied
    }

    /// Sets the object of `path` for `key`, and updates which one is in force.
    fn own(
        &mut self,
        path: &Arc<Path>,
        key: Key,
        entry: Option<Arc<Entry>>,
        applied: &mut Applied,
    ) {
        let owners = self.owners.entry(key.clone()).or_default();
        let before = owners.first().cloned();
        owners.set(path, entry);
        let after = owners.first().cloned();
        let double = double(&key, owners);
        if after.is_none() {
            self.owners.remove(&key);
        }
        let known = self.doubles.get(&key);
        if known != double.as_ref() {
            applied.solved.extend(known.cloned());
            applied.new_problems.extend(double.clone());
            match double {
                Some(problem) => self.doubles.insert(key.clone(), problem),
                None => self.doubles.remove(&key),
            };
        }
        let same = match (&before, &after) {
            (Some(before), Some(after)) => before.item == after.item,
            (None, None) => true,
            _ => false,
        };
        if !same {
            applied.changes.push(Change { key, entry: after });
        }
    }

    /// The object in force.
    pub fn get(&self, key: &Key) -> Option<&Arc<Entry>> {
        self.owners.get(key)?.first()
    }

    /// Place of the object in force: file and line.
    pub fn place(&self, key: &Key) -> Option<(&Arc<Path>, &Arc<Entry>)> {
        let (path, entry) = self.owners.get(key)?.0.first()?;
        Some((path, entry))
    }

    /// Number of identities.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether nothing is in force.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// All files, or only those with problems or other remarks.
    pub fn files(&self, only_notable: bool) -> BTreeMap<String, FileStatus> {
        let is_notable = |file: &File| {
            !(file.kept.is_empty() && file.others.is_empty() && file.problems.is_empty())
        };
        let row = |file: &File| FileStatus {
            objects: file.entries.len() - file.kept.len(),
            kept: file.kept.iter().map(Key::to_string).collect(),
            others: file.others.clone(),
            problems: file.problems.iter().cloned().collect(),
        };
        self.files
            .iter()
            .filter(|(_, file)| !only_notable || is_notable(file))
            .map(|(path, file)| (path.display().to_string(), row(file)))
            .collect()
    }

    /// Identities that several files define.
    pub fn doubles(&self) -> impl Iterator<Item = &Problem> {
        self.doubles.values()
    }

    /// Number of files, and number of all their problems.
    pub fn counts(&self) -> (usize, usize) {
        (self.files.len(), self.problems + self.doubles.len())
    }
}

/// The problem of an identity that several files define, reported for the first of those that are
/// not in force.
fn double(key: &Key, owners: &Owners) -> Option<Problem> {
    let mut owners = owners.0.iter();
    let (first, first_entry) = owners.next()?;
    let (second, second_entry) = owners.next()?;
    let more = owners.len();
    let others = if more == 0 {
        String::new()
    } else {
        format!(" and in {more} more files")
    };
    let message = format!(
        "the object is already defined in {}, document {}, line {}{others}",
        first.display(),
        first_entry.document,
        first_entry.line
    );
    Some(Problem {
        document: second_entry.document,
        line: second_entry.line,
        object: key.to_string(),
        ..Problem::file(second, message, effect::SHADOWED)
    })
}

fn replace_problems(
    total: &mut usize,
    problems: &mut BTreeSet<Problem>,
    new: BTreeSet<Problem>,
    applied: &mut Applied,
) {
    // A problem that only moved to another line is not reported again.
    let place_free = |problem: &Problem| Problem {
        line: 0,
        document: 0,
        ..problem.clone()
    };
    let was: BTreeSet<_> = problems.iter().map(place_free).collect();
    let is: BTreeSet<_> = new.iter().map(place_free).collect();
    applied.new_problems.extend(
        new.iter()
            .filter(|p| !was.contains(&place_free(p)))
            .cloned(),
    );
    applied.solved.extend(
        problems
            .iter()
            .filter(|p| !is.contains(&place_free(p)))
            .cloned(),
    );
    *total = *total + new.len() - problems.len();
    *problems = new;
}

#[cfg(test)]
mod tests;
