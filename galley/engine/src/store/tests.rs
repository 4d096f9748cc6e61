use proptest::prelude::*;

use super::*;
use crate::content;

fn sidecar(name: &str, value: u32) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}, labels: \
         {{v: '{value}'}}}}\nspec: {{outboundTrafficPolicy: {{}}}}\n"
    )
}

fn file(path: &str, objects: &[(&str, u32)]) -> FileUpdate {
    let documents: Vec<_> = objects
        .iter()
        .map(|(name, value)| sidecar(name, *value))
        .collect();
    text(path, &documents.join("---\n"))
}

fn text(path: &str, text: &str) -> FileUpdate {
    let path: Arc<Path> = Path::new(path).into();
    let content = content::read(&path, text);
    FileUpdate::Read(path, content)
}

fn changes(applied: &Applied) -> Vec<(String, Option<u32>)> {
    let mut changes: Vec<_> = applied
        .changes
        .iter()
        .map(|change| {
            (
                change.key.name.to_string(),
                change.entry.as_deref().map(value),
            )
        })
        .collect();
    changes.sort();
    changes
}

fn value(entry: &Entry) -> u32 {
    let crate::object::Item::Config(config) = &entry.item else {
        panic!("{entry:?}")
    };
    config.resource.metadata.as_ref().unwrap().labels["v"]
        .parse()
        .unwrap()
}

fn state(store: &Store) -> BTreeMap<String, u32> {
    let owners = store.owners.iter();
    owners
        .map(|(key, owners)| (key.name.to_string(), value(owners.first().unwrap())))
        .collect()
}

fn row(name: &str, value: u32) -> (String, Option<u32>) {
    (name.to_owned(), Some(value))
}

#[test]
fn a_file_that_changes_changes_what_differs() {
    let mut store = Store::default();
    let applied = store.apply(file("a", &[("x", 1), ("y", 1)]));
    assert_eq!(changes(&applied), [row("x", 1), row("y", 1)]);
    let applied = store.apply(file("a", &[("z", 1), ("y", 1), ("x", 2)]));
    assert_eq!(changes(&applied), [row("x", 2), row("z", 1)]);
    let applied = store.apply(FileUpdate::Removed(Path::new("a").into()));
    assert_eq!(applied.changes.len(), 3);
    assert!(store.is_empty());
}

#[test]
fn an_unreadable_document_keeps_what_it_may_have_held() {
    let mut store = Store::default();
    store.apply(file("a", &[("x", 1), ("y", 1)]));
    let broken = format!("{}---\na: {{\n", sidecar("y", 2));
    let applied = store.apply(text("a", &broken));
    assert_eq!(changes(&applied), [row("y", 2)]);
    assert_eq!(applied.new_problems.len(), 1);
    assert_eq!(store.files(false)["a"].kept, ["Sidecar default/x"]);
    // The same content again changes nothing.
    let applied = store.apply(text("a", &broken));
    assert!(applied.changes.is_empty() && applied.new_problems.is_empty());
    let applied = store.apply(file("a", &[("y", 2)]));
    assert_eq!(changes(&applied), [("x".to_owned(), None)]);
    assert_eq!(applied.solved.len(), 1);
}

#[test]
fn an_object_with_an_error_keeps_its_last_good_state() {
    let mut store = Store::default();
    store.apply(file("a", &[("x", 1), ("y", 1)]));
    let bad = sidecar("x", 2).replace("{outboundTrafficPolicy: {}}", "{egress: 1}");
    let applied = store.apply(text("a", &bad));
    // y is known to be deleted, as every document could be read.
    assert_eq!(changes(&applied), [("y".to_owned(), None)]);
    assert_eq!(state(&store), [("x".to_owned(), 1)].into());
    // The object is new, so that it has no last good state.
    let mut store = Store::default();
    assert!(store.apply(text("a", &bad)).changes.is_empty());
}

#[test]
fn an_unusable_file_keeps_everything() {
    let mut store = Store::default();
    store.apply(file("a", &[("x", 1)]));
    let path: Arc<Path> = Path::new("a").into();
    let problem = Problem::file(&path, "no", effect::LAST_GOOD_FILE);
    let applied = store.apply(FileUpdate::Unusable(path.clone(), problem.clone()));
    assert!(applied.changes.is_empty());
    assert_eq!(applied.new_problems, std::slice::from_ref(&problem));
    let applied = store.apply(FileUpdate::Unusable(path, problem));
    assert!(applied.new_problems.is_empty());
    assert_eq!(state(&store).len(), 1);
    let applied = store.apply(file("a", &[("x", 1)]));
    assert!(applied.changes.is_empty());
    assert_eq!(applied.solved.len(), 1);
}

#[test]
fn the_first_file_in_path_order_owns_an_identity() {
    let mut store = Store::default();
    store.apply(file("b", &[("x", 2)]));
    let applied = store.apply(file("c", &[("x", 3)]));
    assert!(applied.changes.is_empty());
    assert_eq!(applied.new_problems.len(), 1);
    let message = applied.new_problems[0].to_string();
    assert!(
        message.starts_with(
            "c, document 1, line 1: Sidecar default/x: the object is already defined in b, \
             document 1, line 1; the first one in path order is in force"
        ),
        "{message}"
    );
    let applied = store.apply(file("a", &[("x", 1)]));
    assert_eq!(changes(&applied), [row("x", 1)]);
    let applied = store.apply(FileUpdate::Removed(Path::new("a").into()));
    assert_eq!(changes(&applied), [row("x", 2)]);
    let applied = store.apply(file("b", &[]));
    assert_eq!(changes(&applied), [row("x", 3)]);
    assert_eq!(store.doubles().count(), 0);
    assert_eq!(store.counts(), (2, 0));
}

proptest! {
    /// After any sequence of updates, the objects in force are those of a fresh start on the same
    /// files, and the reported changes lead there.
    #[test]
    fn the_state_is_that_of_a_fresh_start(
        steps in prop::collection::vec(
            (0usize..4, prop::option::of(prop::collection::btree_map(0u8..5, 0u32..3, 0..4))),
            1..30,
        ),
    ) {
        let (mut store, mut files, mut followed) =
            (Store::default(), BTreeMap::new(), BTreeMap::new());
        for (path, content) in steps {
            let path = format!("f{path}");
            let applied = match content {
                Some(objects) => {
                    let names: Vec<_> =
                        objects.iter().map(|(name, value)| (format!("o{name}"), *value)).collect();
                    let rows: Vec<_> = names.iter().map(|(n, v)| (n.as_str(), *v)).collect();
                    files.insert(path.clone(), names.clone());
                    store.apply(file(&path, &rows))
                }
                None => {
                    files.remove(&path);
                    store.apply(FileUpdate::Removed(Path::new(&path).into()))
                }
            };
            for (name, value) in changes(&applied) {
                match value {
                    Some(value) => { followed.insert(name, value); }
                    None => { followed.remove(&name); }
                }
            }
        }
        let mut fresh = Store::default();
        for (path, names) in &files {
            let rows: Vec<_> = names.iter().map(|(n, v)| (n.as_str(), *v)).collect();
            fresh.apply(file(path, &rows));
        }
        prop_assert_eq!(state(&store), state(&fresh));
        prop_assert_eq!(followed, state(&fresh));
        prop_assert_eq!(store.counts(), fresh.counts());
    }
}
