//! Volumes of a Pod: the sorts that injection and the control plane use, as directories on the
//! node's private tmpfs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, PodSpec, ServiceAccountTokenProjection, Volume,
};
use serde_json::Value;

use super::env::{Facts, Values};
use crate::layout::Layout;
use crate::manifest::Key;
use crate::node::store::Store;
use crate::node::token::{Issuer, Subject};

/// Where a `hostPath` may lead: the mesh's own shared directory, under this name.
pub const SHARED: &str = "/var/lib/mesh";
/// Lifetime of a token that asks for none.
const TOKEN_LIFETIME: i64 = 3_600;

/// ConfigMaps and Secrets of one namespace.
#[derive(Debug)]
pub struct Namespaced<'a> {
    /// All objects.
    pub store: &'a Store,
    /// The namespace of the Pod.
    pub namespace: &'a str,
}

impl Values for Namespaced<'_> {
    fn config_map(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let object = self
            .store
            .get(&Key::core("ConfigMap", self.namespace, name))?;
        let plain = entries(&object, "data").map(|(key, text)| (key, text.into_bytes()));
        let binary = entries(&object, "binaryData")
            .filter_map(|(key, text)| Some((key, STANDARD.decode(text).ok()?)));
        Some(plain.chain(binary).collect())
    }

    fn secret(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let object = self.store.get(&Key::core("Secret", self.namespace, name))?;
        let encoded = entries(&object, "data")
            .filter_map(|(key, text)| Some((key, STANDARD.decode(text).ok()?)));
        let plain = entries(&object, "stringData").map(|(key, text)| (key, text.into_bytes()));
        Some(encoded.chain(plain).collect())
    }
}

fn entries(object: &Value, field: &str) -> impl Iterator<Item = (String, String)> {
    object
        .get(field)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
}

/// Fills and refreshes the volumes of one Pod.
#[derive(Debug)]
pub struct Volumes<'a> {
    /// Where files are kept.
    pub layout: &'a Layout,
    /// ConfigMaps and Secrets.
    pub values: Namespaced<'a>,
    /// Signs tokens.
    pub issuer: &'a Issuer,
    /// Whose tokens.
    pub subject: Subject,
    /// Source of downward-API files.
    pub facts: Facts<'a>,
}

impl Volumes<'_> {
    /// Directory of the volume `name`.
    #[must_use]
    pub fn directory(&self, name: &str) -> PathBuf {
        self.layout
            .pod(&self.subject.pod_uid)
            .join("volumes")
            .join(name)
    }

    /// Writes every volume of `spec`; a second call brings them up to date in place. Returns
    /// when the next refresh is due for the sake of a token.
    ///
    /// # Errors
    /// When an object that is not optional does not exist (yet), or a sort is not supported.
    pub fn fill(&self, spec: &PodSpec) -> Result<Option<Duration>> {
        let mut due: Option<Duration> = None;
        for volume in spec.volumes.iter().flatten() {
            let refresh = self
                .fill_one(volume)
                .with_context(|| format!("volume {}", volume.name))?;
            due = [due, refresh].into_iter().flatten().min();
        }
        Ok(due)
    }

    /// The path to mount for `volume`.
    ///
    /// # Errors
    /// When a `hostPath` leads out of the shared directory.
    pub fn source(&self, volume: &Volume) -> Result<PathBuf> {
        match &volume.host_path {
            Some(host) => shared_path(self.layout, &host.path),
            None => Ok(self.directory(&volume.name)),
        }
    }

    fn fill_one(&self, volume: &Volume) -> Result<Option<Duration>> {
        if volume.host_path.is_some() {
            make_directory(&self.source(volume)?, 0o777)?;
            return Ok(None);
        }
        let directory = self.directory(&volume.name);
        make_directory(
            &directory,
            if volume.empty_dir.is_some() {
                0o777
            } else {
                0o755
            },
        )?;
        if volume.empty_dir.is_some() {
            return Ok(None);
        }
        if let Some(source) = &volume.config_map {
            let entries = self.values.config_map(&source.name);
            self.write_items(
                "ConfigMap",
                &source.name,
                entries,
                source.items.as_deref(),
                source.optional,
                &directory,
            )?;
            return Ok(None);
        }
        if let Some(source) = &volume.secret {
            let name = source
                .secret_name
                .as_deref()
                .context("secretName is missing")?;
            let entries = self.values.secret(name);
            self.write_items(
                "Secret",
                name,
                entries,
                source.items.as_deref(),
                source.optional,
                &directory,
            )?;
            return Ok(None);
        }
        if let Some(source) = &volume.downward_api {
            self.write_fields(source.items.as_deref().unwrap_or_default(), &directory)?;
            return Ok(None);
        }
        if let Some(projected) = &volume.projected {
            let mut due: Option<Duration> = None;
            for source in projected.sources.iter().flatten() {
                if let Some(token) = &source.service_account_token {
                    let refresh = self.write_token(token, &directory)?;
                    due = Some(due.map_or(refresh, |due| due.min(refresh)));
                } else if let Some(map) = &source.config_map {
                    let entries = self.values.config_map(&map.name);
                    self.write_items(
                        "ConfigMap",
                        &map.name,
                        entries,
                        map.items.as_deref(),
                        map.optional,
                        &directory,
                    )?;
                } else if let Some(secret) = &source.secret {
                    let entries = self.values.secret(&secret.name);
                    self.write_items(
                        "Secret",
                        &secret.name,
                        entries,
                        secret.items.as_deref(),
                        secret.optional,
                        &directory,
                    )?;
                } else if let Some(fields) = &source.downward_api {
                    self.write_fields(fields.items.as_deref().unwrap_or_default(), &directory)?;
                } else {
                    bail!("a projected source of this sort is not supported here");
                }
            }
            return Ok(due);
        }
        bail!("volumes of this sort are not supported here");
    }

    fn write_items(
        &self,
        sort: &str,
        name: &str,
        entries: Option<BTreeMap<String, Vec<u8>>>,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        directory: &Path,
    ) -> Result<()> {
        let Some(entries) = entries else {
            if optional == Some(true) {
                return Ok(());
            }
            bail!("{sort} {}/{name} does not exist", self.values.namespace);
        };
        match items {
            None => entries
                .iter()
                .try_for_each(|(key, value)| replace(&directory.join(key), value)),
            Some(items) => items
                .iter()
                .try_for_each(|item| match entries.get(&item.key) {
                    Some(value) => replace(&directory.join(relative(&item.path)?), value),
                    None if optional == Some(true) => Ok(()),
                    None => bail!(
                        "{sort} {}/{name} has no key {}",
                        self.values.namespace,
                        item.key
                    ),
                }),
        }
    }

    fn write_fields(&self, items: &[DownwardAPIVolumeFile], directory: &Path) -> Result<()> {
        items.iter().try_for_each(|item| {
            let reference = item
                .field_ref
                .as_ref()
                .context("only fieldRef is supported here")?;
            let value = self.facts.field(&reference.field_path)?;
            replace(&directory.join(relative(&item.path)?), value.as_bytes())
        })
    }

    fn write_token(
        &self,
        token: &ServiceAccountTokenProjection,
        directory: &Path,
    ) -> Result<Duration> {
        let seconds = token.expiration_seconds.unwrap_or(TOKEN_LIFETIME).max(600);
        let lifetime = Duration::from_secs(u64::try_from(seconds)?);
        let audience = token
            .audience
            .as_deref()
            .unwrap_or(crate::node::token::ISSUER);
        let text = self
            .issuer
            .issue(&self.subject, audience, SystemTime::now(), lifetime)?;
        replace(&directory.join(relative(&token.path)?), text.as_bytes())?;
        // As the kubelet: at 80 % of the lifetime.
        Ok(lifetime.mul_f64(0.8))
    }
}

/// The place of `path` (below [`SHARED`]) in the mesh's state directory.
///
/// # Errors
/// When it leads elsewhere.
pub fn shared_path(layout: &Layout, path: &str) -> Result<PathBuf> {
    let rest = Path::new(path)
        .strip_prefix(SHARED)
        .ok()
        .with_context(|| format!("hostPath {path} is not below {SHARED}"))?;
    Ok(layout.shared().join(relative(&rest.to_string_lossy())?))
}

fn relative(path: &str) -> Result<&Path> {
    let path = Path::new(path);
    let harmless = path.components().all(|part| {
        matches!(
            part,
            std::path::Component::Normal(_) | std::path::Component::CurDir
        )
    });
    if !harmless {
        bail!("{} leads out of the volume", path.display());
    }
    Ok(path)
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {}", path.display()))
}

/// Replaces a file in one step, unless it has these contents already.
fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|held| held == contents) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_directory(parent, 0o755)?;
    }
    crate::state::write_atomically(path, contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let layout = Layout::new("/state".into());
        assert_eq!(
            shared_path(&layout, "/var/lib/mesh/certs").unwrap(),
            Path::new("/state/shared/certs")
        );
        for outside in ["/etc", "/var/lib/mesh/../x", "/var/lib/meshes"] {
            assert!(shared_path(&layout, outside).is_err(), "{outside}");
        }
    }

    #[test]
    fn secrets_are_decoded() {
        let store = Store::default();
        store.put(
            Key::core("Secret", "shop", "s"),
            serde_json::json!({"data": {"a": "aGk="}, "stringData": {"b": "ho"}}),
        );
        let values = Namespaced {
            store: &store,
            namespace: "shop",
        };
        let secret = values.secret("s").unwrap();
        assert_eq!(
            (secret["a"].as_slice(), secret["b"].as_slice()),
            (&b"hi"[..], &b"ho"[..])
        );
        assert!(values.secret("t").is_none());
    }
}
