//! The bytes of an image: one layer, its settings, a manifest, and an archive around them.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Entry, Image, Kind, Written};

const EPOCH: &str = "1970-01-01T00:00:00Z";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

pub(super) fn write(image: &Image, output: &mut impl Write) -> Result<Written> {
    let (layer, size) = layer(&image.entries)?;
    let layer = Blob::new("application/vnd.oci.image.layer.v1.tar", layer);
    let config = Blob::new(
        "application/vnd.oci.image.config.v1+json",
        encode(&config(image, &layer))?,
    );
    let manifest = Blob::new(
        MANIFEST,
        encode(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
        }))?,
    );
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": MANIFEST,
            "digest": manifest.digest(),
            "size": manifest.bytes.len(),
            "annotations": {
                "io.containerd.image.name": image.name,
                "org.opencontainers.image.ref.name": image.name,
            },
        }],
    });
    let docker = json!([{
        "Config": config.path(),
        "RepoTags": [image.name],
        "Layers": [layer.path()],
    }]);

    let mut files = BTreeMap::from([
        ("index.json".to_owned(), encode(&index)?),
        ("manifest.json".to_owned(), encode(&docker)?),
        (
            "oci-layout".to_owned(),
            encode(&json!({"imageLayoutVersion": "1.0.0"}))?,
        ),
    ]);
    let digest = manifest.digest();
    for blob in [layer, config, manifest] {
        files.insert(blob.path(), blob.bytes);
    }
    let mut archive = tar::Builder::new(output);
    for (path, bytes) in files {
        append(&mut archive, &path, &Kind::File { bytes, mode: 0o644 })?;
    }
    archive.into_inner().context("end the archive")?;
    Ok(Written { digest, size })
}

fn config(image: &Image, layer: &Blob) -> Value {
    let env: Vec<String> = std::iter::once(PATH.to_owned())
        .chain(
            image
                .env
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        )
        .collect();
    json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "created": EPOCH,
        "config": {
            "User": image.user,
            "Env": env,
            "Entrypoint": image.entry_point,
            "WorkingDir": "/",
            "Labels": image.labels,
        },
        // The layer is not compressed, so that both of its digests are one.
        "rootfs": {"type": "layers", "diff_ids": [layer.digest()]},
        "history": [{"created": EPOCH}],
    })
}

/// Content with the name of its digest.
struct Blob {
    media_type: &'static str,
    hash: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        // In C, and so quick in a development build, too.
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes)
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            media_type,
            hash,
            bytes,
        }
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.hash)
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.hash)
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len()})
    }
}

fn encode(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).context("encode JSON")
}

/// A tar archive of the entries in the order of their paths, and the bytes of its files.
fn layer(entries: &[Entry]) -> Result<(Vec<u8>, u64)> {
    let mut tree: BTreeMap<&str, Kind> = BTreeMap::new();
    for entry in entries {
        let path = entry
            .path
            .strip_prefix('/')
            .with_context(|| format!("{} is not an absolute path", entry.path))?;
        for (at, _) in path.match_indices('/') {
            let parent = path.get(..at).unwrap_or_default();
            tree.entry(parent)
                .or_insert(Kind::Directory { mode: 0o755 });
        }
        tree.insert(path, entry.kind.clone());
    }
    let mut archive = tar::Builder::new(Vec::new());
    let mut size = 0;
    for (path, kind) in tree {
        if let Kind::File { bytes, .. } = &kind {
            size += bytes.len() as u64;
        }
        append(&mut archive, path, &kind)?;
    }
    Ok((archive.into_inner().context("end the layer")?, size))
}

/// Owned by root, made at the beginning of time.
fn append<W: Write>(archive: &mut tar::Builder<W>, path: &str, kind: &Kind) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let appended = match kind {
        Kind::File { bytes, mode } => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(*mode);
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, path, bytes.as_slice())
        }
        Kind::Directory { mode } => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(*mode);
            header.set_size(0);
            archive.append_data(&mut header, format!("{path}/"), std::io::empty())
        }
        Kind::Link { target } => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            archive.append_link(&mut header, path, target)
        }
    };
    appended.with_context(|| format!("add {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(entries: Vec<Entry>) -> Image {
        Image {
            name: "keelson.local/x:1".to_owned(),
            entries,
            entry_point: vec!["/bin/x".to_owned()],
            ..Image::default()
        }
    }

    fn bytes_of(image: &Image) -> (Vec<u8>, Written) {
        let mut bytes = Vec::new();
        let written = write(image, &mut bytes).unwrap();
        (bytes, written)
    }

    #[test]
    fn the_same_files_give_the_same_bytes_in_any_order() {
        let one = Entry::file("/bin/x", b"program".to_vec(), 0o755);
        let two = Entry::link("/bin/y", "x");
        let (first, written) = bytes_of(&image(vec![one.clone(), two.clone()]));
        let (second, again) = bytes_of(&image(vec![two.clone(), one]));
        assert_eq!(first, second);
        assert_eq!(written, again);
        assert_eq!(written.size, 7);
        let other = Entry::file("/bin/x", b"Program".to_vec(), 0o755);
        let (_, changed) = bytes_of(&image(vec![other, two]));
        assert_ne!(written.digest, changed.digest);
    }

    #[test]
    fn every_digest_is_that_of_what_it_names() {
        let (bytes, written) = bytes_of(&image(vec![
            Entry::directory("/tmp", 0o1777),
            Entry::file("/etc/passwd", b"root".to_vec(), 0o644),
        ]));
        let mut files = BTreeMap::new();
        for file in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut file = file.unwrap();
            let path = file.path().unwrap().display().to_string();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut file, &mut content).unwrap();
            files.insert(path, content);
        }
        for (path, content) in &files {
            if let Some(hash) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(Blob::new("", content.clone()).hash, hash);
            }
        }
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap();
        assert_eq!(digest, written.digest);
        let of = |digest: &str| files[&digest.replace("sha256:", "blobs/sha256/")].clone();
        let manifest: Value = serde_json::from_slice(&of(digest)).unwrap();
        let config: Value =
            serde_json::from_slice(&of(manifest["config"]["digest"].as_str().unwrap())).unwrap();
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], layer);
        let layer = of(layer);
        let paths: Vec<(String, u32)> = tar::Archive::new(layer.as_slice())
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                (path, entry.header().mode().unwrap())
            })
            .collect();
        assert_eq!(
            paths,
            [
                ("etc/".to_owned(), 0o755),
                ("etc/passwd".to_owned(), 0o644),
                ("tmp/".to_owned(), 0o1777)
            ]
        );
    }

    #[test]
    fn a_relative_path_is_refused() {
        let error = write(
            &image(vec![Entry::file("etc/passwd", Vec::new(), 0o644)]),
            &mut Vec::new(),
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "etc/passwd is not an absolute path");
    }
}
