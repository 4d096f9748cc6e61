//! A certificate authority that is provided as files.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mesh_common::tls;
use zeroize::Zeroizing;

use super::{StoreError, io};
use crate::ca::{Bundle, Material};

const ADVICE: &str = "correct the files; this process never changes them";

/// Paths of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugged {
    /// Signing certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Intermediates; optional when flags name the other files.
    pub chain: Option<PathBuf>,
    /// Trust anchors.
    pub root: PathBuf,
    /// In the layout of `kubernetes.io/tls` the chain consists of certificate and root.
    chain_from_both: bool,
}

impl Plugged {
    /// Files that are named one by one, by the flags of 1.1. The chain is optional.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`] with the names of all flags that are missing.
    pub fn from_flags(
        certificate: &str,
        key: &str,
        chain: &str,
        root: &str,
    ) -> Result<Self, StoreError> {
        let missing: Vec<&str> = [
            ("--signing-cert", certificate),
            ("--signing-key", key),
            ("--root-cert", root),
        ]
        .iter()
        .filter(|(_, value)| value.is_empty())
        .map(|(flag, _)| *flag)
        .collect();
        if !missing.is_empty() {
            return Err(StoreError::Incomplete {
                path: "flags".to_owned(),
                missing: missing.join(", "),
            });
        }
        Ok(Self {
            certificate: certificate.into(),
            key: key.into(),
            chain: (!chain.is_empty()).then(|| chain.into()),
            root: root.into(),
            chain_from_both: false,
        })
    }

    /// Looks for the files in a directory. `None` if it holds none of them or only `root-cert.pem`,
    /// which then holds additional anchors for a self-signed authority.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`] if only some of the files exist.
    pub fn find(dir: &Path) -> Result<Option<Self>, StoreError> {
        let (names, chain_from_both) = if dir.join("tls.crt").exists() {
            (["tls.crt", "tls.key", "ca.crt", "tls.crt"], true)
        } else {
            (
                [
                    "ca-cert.pem",
                    "ca-key.pem",
                    "root-cert.pem",
                    "cert-chain.pem",
                ],
                false,
            )
        };
        let [certificate, key, root, chain] = names.map(|name| dir.join(name));
        let missing: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| !dir.join(name).exists())
            .collect();
        let nothing = ["ca-cert.pem", "ca-key.pem", "cert-chain.pem"];
        if nothing.iter().all(|name| missing.contains(name)) {
            return Ok(None);
        }
        if !missing.is_empty() {
            return Err(StoreError::Incomplete {
                path: dir.display().to_string(),
                missing: missing.join(", "),
            });
        }
        Ok(Some(Self {
            certificate,
            key,
            chain: Some(chain),
            root,
            chain_from_both,
        }))
    }

    /// Reads and validates all files.
    ///
    /// # Errors
    /// If a file cannot be read or the set cannot be used.
    pub fn load(&self, now: SystemTime) -> Result<Bundle, StoreError> {
        let read = |path: &Path| fs::read(path).map_err(io("read", path));
        let certificate = read(&self.certificate)?;
        let key = Zeroizing::new(read(&self.key)?);
        let roots = read(&self.root)?;
        let chain = match &self.chain {
            None => Vec::new(),
            Some(_) if self.chain_from_both => [certificate.as_slice(), b"\n", &roots].concat(),
            Some(path) => read(path)?,
        };
        let material = Material {
            certificate: &certificate,
            chain: &chain,
            roots: &roots,
        };
        Bundle::new(&material, &key, now).map_err(|reason| StoreError::Unusable {
            path: self
                .certificate
                .parent()
                .unwrap_or(&self.certificate)
                .display()
                .to_string(),
            reason,
            advice: ADVICE,
        })
    }

    /// Loads the files to replace `current`. `None` if they have not changed.
    ///
    /// Changed anchors are refused, unless `multi_root` is set and one set contains the other:
    /// otherwise workloads would stop trusting each other.
    ///
    /// # Errors
    /// As [`load`](Self::load), and [`StoreError::Refused`] for changed anchors.
    pub fn reload(
        &self,
        current: &Bundle,
        multi_root: bool,
        now: SystemTime,
    ) -> Result<Option<Bundle>, StoreError> {
        let next = self.load(now)?;
        let same = next.certificate() == current.certificate()
            && next.chain() == current.chain()
            && next.roots() == current.roots();
        if same {
            return Ok(None);
        }
        if next.roots() != current.roots() {
            let holds =
                |a: &Bundle, b: &Bundle| b.roots().iter().all(|root| a.roots().contains(root));
            if !multi_root {
                return Err(StoreError::Refused(format!(
                    "{}: the root certificates have changed, which needs --multi-root",
                    self.root.display()
                )));
            }
            if !holds(&next, current) && !holds(current, &next) {
                return Err(StoreError::Refused(format!(
                    "{}: the new root certificates neither contain all current ones nor are part \
                     of them; add the new ones first, remove the old ones later",
                    self.root.display()
                )));
            }
        }
        Ok(Some(next))
    }

    /// All paths, for watching.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        [&self.certificate, &self.key, &self.root]
            .into_iter()
            .chain(&self.chain)
            .cloned()
            .collect()
    }
}

/// Additional anchors for a self-signed authority: `root-cert.pem` of the directory, if it exists.
///
/// # Errors
/// If it cannot be read or holds invalid certificates.
pub fn extra_roots(dir: &Path) -> Result<Vec<u8>, StoreError> {
    let path = dir.join("root-cert.pem");
    match fs::read(&path) {
        Ok(pem) => {
            tls::certificates(&pem).map_err(|error| {
                StoreError::Refused(format!("{}: invalid certificate: {error}", path.display()))
            })?;
            Ok(pem)
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(io("read", &path)(error)),
    }
}

#[cfg(test)]
mod tests;
