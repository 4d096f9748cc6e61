//! A configuration file, from anyone who may write to the directory.

use std::path::Path;
use std::sync::Arc;

use galley_engine::content;
use galley_engine::object::Item;
use istio_api::json::{self, Unknown};

/// The maximum number of problems kept per file, and the one with the number of others.
const MOST_PROBLEMS: usize = 101;

/// The first byte selects YAML or JSON. Every accepted object can be written as JSON and read again
/// without changes.
pub(crate) fn file(bytes: &[u8]) {
    let Some((first, text)) = bytes.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let name = if *first == b'{' { "a.json" } else { "a.yaml" };
    let content = content::read(&Arc::from(Path::new(name)), text);
    assert!(content.problems.len() <= MOST_PROBLEMS);
    for entry in content.entries {
        assert!(!content.failed.contains(&entry.key), "{:?}", entry.key);
        let Item::Config(config) = entry.item else {
            continue;
        };
        let message = config.collection.message;
        let Some(body) = config.resource.body.as_ref().map(|body| &body.value) else {
            panic!("{:?} has no body", entry.key);
        };
        match json::write(message, body) {
            Ok(shown) => match json::read_dynamic(message, &shown, Unknown::Refuse) {
                Ok((again, _)) => assert!(again == *body, "{message}: {shown}"),
                Err(issues) => panic!("{message}: {shown}: {issues:?}"),
            },
            Err(error) => panic!("{message}: {error}"),
        }
    }
}
