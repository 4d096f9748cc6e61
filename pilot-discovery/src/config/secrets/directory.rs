//! Gateway credentials from a directory of Kubernetes Secrets.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use mesh_common::drain;
use mesh_common::fswatch::{self, WatchDied};
use pilot_model::{credential::Credential, key::ObjectKey};
use serde::Deserialize;

use super::content::{Values, credential, decode};
use crate::world::{self, Command};

/// Maximum size of a file, in bytes.
const MAX_BYTES: u64 = 1 << 20;
const SETTLE: Duration = Duration::from_millis(50);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Secret {
    kind: String,
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(default)]
    string_data: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
}

impl Values for Secret {
    fn value(&self, name: &'static str) -> Result<Bytes, String> {
        if let Some(text) = self.string_data.get(name) {
            return Ok(text.clone().into());
        }
        let found = self.data.get(name);
        found.map_or(Ok(Bytes::new()), |text| decode(name, text))
    }
}

/// Content of a directory, by file and document.
#[derive(Debug, Default)]
struct State {
    /// The last good credentials of each file.
    files: BTreeMap<PathBuf, BTreeMap<ObjectKey, Credential>>,
}

impl State {
    /// Reads the directory again. A file that is invalid now keeps its previous content.
    fn read(&mut self, dir: &Path) -> std::io::Result<BTreeMap<ObjectKey, Credential>> {
        let mut seen = BTreeSet::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            let yaml = path
                .extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml");
            if !yaml || !path.is_file() {
                continue;
            }
            match read_file(&path) {
                Ok(credentials) => {
                    self.files.insert(path.clone(), credentials);
                }
                Err(error) => tracing::warn!(
                    path = %path.display(),
                    error,
                    "a file of secrets is invalid; its last good secrets stay in force"
                ),
            }
            seen.insert(path);
        }
        self.files.retain(|path, _| seen.contains(path));
        Ok(self
            .files
            .values()
            .flatten()
            .map(|(key, c)| (key.clone(), c.clone()))
            .collect())
    }
}

fn read_file(path: &Path) -> Result<BTreeMap<ObjectKey, Credential>, String> {
    let size = std::fs::metadata(path)
        .map_err(|error| error.to_string())?
        .len();
    if size > MAX_BYTES {
        return Err(format!("it has {size} bytes: want at most {MAX_BYTES}"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut credentials = BTreeMap::new();
    for (index, document) in serde_yaml::Deserializer::from_str(&text).enumerate() {
        let value = serde_yaml::Value::deserialize(document)
            .map_err(|error| format!("document {index}: {error}"))?;
        if value.is_null() {
            continue;
        }
        // The parser's own message could contain parts of the secret.
        let secret: Secret = serde_yaml::from_value(value).map_err(|_| {
            format!(
                "document {index}: not a Secret: kind and metadata.name must be strings, data and \
                 stringData maps of strings"
            )
        })?;
        if secret.kind != "Secret" {
            continue;
        }
        let namespace = match secret.metadata.namespace.as_str() {
            "" => "default",
            namespace => namespace,
        };
        let key = ObjectKey::new(namespace, &secret.metadata.name);
        let credential = credential(&secret, SystemTime::now()).map_err(|error| {
            format!(
                "document {index}: Secret {namespace}/{}: {error}",
                secret.metadata.name
            )
        })?;
        if let Some(credential) = credential {
            credentials.insert(key, credential);
        }
    }
    Ok(credentials)
}

/// Sends the content of the directory, then its changes until the process drains. `first` is
/// notified when the content was sent.
///
/// # Errors
/// When the directory is no longer watched.
pub async fn follow(
    dir: PathBuf,
    world: world::Handle,
    drain: drain::Watch,
    first: tokio::sync::oneshot::Sender<()>,
) -> Result<(), WatchDied> {
    let mut first = Some(first);
    let mut changes = fswatch::watch(vec![dir.clone()], SETTLE);
    let mut state = State::default();
    let mut known: BTreeMap<ObjectKey, Credential> = BTreeMap::new();
    loop {
        match state.read(&dir) {
            Ok(now) => {
                let gone = known.keys().filter(|key| !now.contains_key(*key));
                let mut commands: Vec<Command> = gone
                    .map(|key| Command::Credential {
                        key: key.clone(),
                        credential: None,
                    })
                    .collect();
                commands.extend(
                    now.iter()
                        .filter(|(key, new)| known.get(key) != Some(new))
                        .map(|(key, new)| Command::Credential {
                            key: key.clone(),
                            credential: Some(new.clone()),
                        }),
                );
                for command in commands {
                    if world.send(command).await.is_err() {
                        return Ok(());
                    }
                }
                known = now;
            }
            Err(error) => tracing::warn!(
                dir = %dir.display(),
                error = %error,
                "cannot read the directory of secrets; the last good ones stay in force"
            ),
        }
        if let Some(first) = first.take() {
            // The receiver is gone if the start was aborted.
            let _given_up = first.send(());
        }
        tokio::select! {
            () = drain.signaled() => return Ok(()),
            change = changes.next() => change?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_and_a_bad_file_keeps_its_last_good_ones() {
        let issued = mesh_common::testing::Authority::new("test").issue(&[], &["shop"]);
        let good = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "shop", "namespace": "gw"},
            "stringData": {"tls.crt": issued.cert, "tls.key": issued.key},
        });
        let good = good.to_string();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        std::fs::write(&file, &good).unwrap();
        let mut state = State::default();
        let first = state.read(dir.path()).unwrap();
        let credential = first.get(&ObjectKey::new("gw", "shop")).unwrap();
        assert_eq!(
            (&credential.certificate[..], &credential.key[..]),
            (issued.cert.as_bytes(), issued.key.as_bytes())
        );
        std::fs::write(&file, good.replace("BEGIN", "%%")).unwrap();
        assert_eq!(state.read(dir.path()).unwrap(), first);
        std::fs::remove_file(&file).unwrap();
        assert!(state.read(dir.path()).unwrap().is_empty());
    }
}
