//! Updates of the source, reduced to what statuses need: pure.

use std::path::Path;
use std::sync::Arc;

use istio_api::collections;
use istio_api::manifest::Key;
use xxhash_rust::xxh3::xxh3_64;

use super::shown::Shown;
use galley_engine::content::{Content, Stored};
use galley_engine::object::Item;
use galley_engine::problem::{Problem, Severity};
use galley_engine::update::{FileUpdate, Update};

/// Maximum length of the message of a condition, in bytes.
const MAX_MESSAGE: usize = 1024;

/// The object at the API server; only of objects whose status may be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// Version of the API in which it is read.
    pub api_version: &'static str,
    /// `metadata.resourceVersion`
    pub resource_version: Box<str>,
    /// `metadata.generation`
    pub generation: Option<i64>,
    /// Its status.
    pub shown: Shown,
}

impl From<&Stored> for Live {
    fn from(stored: &Stored) -> Self {
        Self {
            api_version: stored.api_version,
            resource_version: stored.resource_version.clone(),
            generation: stored.generation,
            shown: Shown::of(&stored.status),
        }
    }
}

/// Whether an object is accepted as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is in force; a hash of its version on the configuration stream.
    Accepted(u64),
    /// It is not in force, and why. An earlier state of it may be.
    Refused(Arc<str>),
}

/// A change of a file, as far as it affects statuses.
#[derive(Debug, PartialEq)]
pub enum Observation {
    /// It was read.
    Read {
        /// The file.
        path: Arc<Path>,
        /// Its objects.
        objects: Vec<(Key, Verdict)>,
        /// A part could not be read, for this reason: it may hold missing objects.
        obscured: Option<Arc<str>>,
        /// The file's only object, as the API server has it.
        live: Option<Box<Live>>,
    },
    /// The file cannot be used, for this reason; its objects stay in force.
    Unusable(Arc<Path>, Arc<str>),
    /// The file is gone.
    Removed(Arc<Path>),
    /// Everything that existed at the start has been observed.
    Synced,
}

/// The hash by which versions are compared.
pub fn version_hash(version: &str) -> u64 {
    xxh3_64(version.as_bytes())
}

/// What an update means for objects of Istio kinds.
pub fn observe(update: &Update) -> Vec<Observation> {
    match update {
        Update::Files(files) => files.iter().map(file).collect(),
        Update::Synced => vec![Observation::Synced],
        Update::Root(_) => Vec::new(),
    }
}

fn file(update: &FileUpdate) -> Observation {
    match update {
        FileUpdate::Read(path, content) => read(path, content),
        FileUpdate::Unusable(path, problem) => {
            Observation::Unusable(path.clone(), text([problem].into_iter()))
        }
        FileUpdate::Removed(path) => Observation::Removed(path.clone()),
    }
}

fn read(path: &Arc<Path>, content: &Content) -> Observation {
    let mut objects = Vec::new();
    for entry in &content.entries {
        if let Item::Config(config) = &entry.item {
            let verdict = Verdict::Accepted(version_hash(config.version()));
            objects.push((entry.key.clone(), verdict));
        }
    }
    let errors = || {
        let problems = content.problems.iter();
        problems.filter(|problem| problem.severity == Severity::Error)
    };
    for key in &content.failed {
        if collections::by_gvk(key.group, key.kind).is_some() {
            let name = key.to_string();
            let reasons = errors().filter(|problem| problem.object == name);
            objects.push((key.clone(), Verdict::Refused(text(reasons))));
        }
    }
    let unreadable = errors().filter(|problem| {
        let failed = &content.failed;
        !failed.iter().any(|key| key.to_string() == problem.object)
    });
    Observation::Read {
        path: path.clone(),
        objects,
        obscured: content.obscured.then(|| text(unreadable)),
        live: content
            .stored
            .as_deref()
            .map(|stored| Box::new(stored.into())),
    }
}

/// The first problem as text, and the number of others.
fn text<'a>(mut problems: impl Iterator<Item = &'a Problem>) -> Arc<str> {
    let Some(first) = problems.next() else {
        return "".into();
    };
    let mut text = if first.field.is_empty() {
        first.message.clone()
    } else {
        format!("{}: {}", first.field, first.message)
    };
    let more = problems.count();
    if text.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE)
            .rev()
            .find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
    if !first.effect.is_empty() {
        text = format!("{text}; {}", first.effect);
    }
    match more {
        0 => {}
        1 => text.push_str(" (and 1 more problem)"),
        more => text.push_str(&format!(" (and {more} more problems)")),
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use galley_engine::content;

    fn read_text(text: &str) -> Observation {
        let path: Arc<Path> = Path::new("a.yaml").into();
        let content = content::read(&path, text);
        observe(&Update::Files(vec![FileUpdate::Read(path, content)])).remove(0)
    }

    #[test]
    fn objects_are_accepted_or_refused_with_the_first_reason() {
        let text = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: good}\n\
                    spec: {outboundTrafficPolicy: {}}\n---\n\
                    apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: bad}\n\
                    spec: {ingress: none, egress: 7}\n---\n\
                    apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: 1}\n";
        let Observation::Read {
            objects, obscured, ..
        } = read_text(text)
        else {
            panic!("it was read");
        };
        assert_eq!(obscured, None);
        let [(good, accepted), (bad, Verdict::Refused(why))] = objects.as_slice() else {
            panic!("{objects:?}");
        };
        assert_eq!((&*good.name, &*bad.name), ("good", "bad"));
        assert!(matches!(accepted, Verdict::Accepted(_)));
        assert!(why.contains("spec.") && why.contains("last good"), "{why}");
        assert!(why.ends_with("(and 1 more problem)"), "{why}");
    }

    #[test]
    fn what_cannot_be_read_may_hide_objects() {
        let observation = read_text("apiVersion: [\n");
        let Observation::Read {
            objects, obscured, ..
        } = observation
        else {
            panic!("{observation:?}");
        };
        assert!(objects.is_empty());
        assert!(obscured.unwrap().contains("keep their last good state"));
    }

    #[test]
    fn long_reasons_are_cut() {
        let path: Arc<Path> = Path::new("a.yaml").into();
        let problem = Problem::file(&path, "ä".repeat(MAX_MESSAGE), "");
        let cut = text([&problem].into_iter());
        assert!(cut.len() <= MAX_MESSAGE + 3 && cut.ends_with("ä…"));
    }
}
