//! The export to the control plane: one file per object in the directory that galley watches.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::manifest::Key;

/// Kinds of the core groups that the control plane reads; the rest of Kubernetes is not its
/// business.
const CORE: [(&str, &str); 6] = [
    ("", "Namespace"),
    ("", "Node"),
    ("", "Pod"),
    ("", "Service"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("networking.k8s.io", "Ingress"),
];

/// Whether objects of this kind are passed on.
#[must_use]
pub fn is_exported(key: &Key) -> bool {
    CORE.iter()
        .any(|(group, kind)| key.group == *group && key.kind == *kind)
        || key.group.ends_with(".istio.io")
        || key.group == "gateway.networking.k8s.io"
}

/// Whether this is a Secret with a certificate that a gateway may name.
#[must_use]
pub fn is_credential(key: &Key, object: &Value) -> bool {
    // The names of `kubectl create secret tls` and those of Istio's generic Secrets.
    const CERTIFICATES: [&str; 4] = ["tls.crt", "ca.crt", "cert", "cacert"];
    key.group.is_empty()
        && key.kind == "Secret"
        && ["data", "stringData"].iter().any(|field| {
            let data = object.get(field).and_then(Value::as_object);
            data.is_some_and(|data| CERTIFICATES.iter().any(|name| data.contains_key(*name)))
        })
}

/// Keeps the directory equal to a set of objects, touching only what changed.
#[derive(Debug)]
pub struct Exporter {
    directory: PathBuf,
    written: BTreeMap<String, String>,
}

impl Exporter {
    /// An exporter for an empty directory.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            written: BTreeMap::new(),
        }
    }

    /// Writes new and changed objects and removes the others' files. A file that somebody
    /// edited stays as it is until its object changes.
    ///
    /// # Errors
    /// When a file cannot be written; the others are written.
    pub fn sync(&mut self, objects: &BTreeMap<Key, Value>) -> Result<()> {
        let mut wanted = BTreeMap::new();
        for (key, object) in objects {
            let text = serde_yaml::to_string(object).with_context(|| key.to_string())?;
            wanted.insert(key.file_name(), text);
        }
        let mut failure = None;
        let stale: Vec<String> = self
            .written
            .keys()
            .filter(|name| !wanted.contains_key(*name))
            .cloned()
            .collect();
        for (name, text) in wanted {
            if self.written.get(&name) == Some(&text) {
                continue;
            }
            match crate::state::write_atomically(&self.directory.join(&name), text.as_bytes()) {
                Ok(()) => {
                    self.written.insert(name, text);
                }
                Err(error) => failure = Some(error),
            }
        }
        for name in stale {
            match std::fs::remove_file(self.directory.join(&name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    failure = Some(anyhow::Error::from(error).context(format!("remove {name}")));
                }
                _ => {
                    self.written.remove(&name);
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_changes_touch_files() {
        let directory = tempfile::tempdir().unwrap();
        let mut exporter = Exporter::new(directory.path().to_path_buf());
        let (a, b) = (
            Key::core("Service", "x", "a"),
            Key::core("Service", "x", "b"),
        );
        let mut objects =
            BTreeMap::from([(a.clone(), json!({"n": 1})), (b.clone(), json!({"n": 2}))]);
        exporter.sync(&objects).unwrap();
        let file = directory.path().join(a.file_name());
        std::fs::write(&file, "edited").unwrap();
        objects.remove(&b);
        exporter.sync(&objects).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "edited");
        assert!(!directory.path().join(b.file_name()).exists());
        objects.insert(a, json!({"n": 3}));
        exporter.sync(&objects).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "n: 3\n");
    }

    #[test]
    fn secrets_and_deployments_stay_here() {
        let secret = Key::core("Secret", "x", "a");
        assert!(!is_exported(&secret));
        assert!(is_credential(
            &secret,
            &json!({"data": {"tls.crt": "", "tls.key": ""}})
        ));
        assert!(!is_credential(&secret, &json!({"data": {"password": ""}})));
        let istio = Key {
            group: "networking.istio.io".into(),
            ..Key::core("Gateway", "x", "g")
        };
        assert!(is_exported(&istio));
    }
}
