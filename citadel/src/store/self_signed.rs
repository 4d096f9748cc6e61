//! The self-signed authority in a directory: `ca-key.pem`, `ca-cert.pem` and, for other processes,
//! `root-cert.pem`.
//!
//! The key is written first and the certificate last. A crash in between leaves a key alone: no
//! root with that key was ever published, so its certificate is created at the next start. Any
//! other incomplete or invalid state is refused, since a new root would cut off every workload.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mesh_core::spiffe::TrustDomain;
use rcgen::KeyPair;
use zeroize::Zeroizing;

use super::{StoreError, atomic, io, root};
use crate::ca::{Bundle, BundleError, Kind, Material};

const ADVICE: &str = "restore the files, or move the directory away to start with a new root, \
                      which must then be distributed to all workloads";

/// How a root is created.
#[derive(Clone, Debug)]
pub struct Options {
    /// Organization in the subject of a new root.
    pub trust_domain: TrustDomain,
    /// Type of a new key.
    pub kind: Kind,
    /// Lifetime of a new root.
    pub lifetime: Duration,
    /// A root with less than this percentage of its lifetime left is renewed.
    pub grace_percent: u8,
    /// Additional trust anchors to distribute, as PEM.
    pub extra_roots: Vec<u8>,
    /// Never creates an authority, only uses an existing one.
    pub read_only: bool,
}

impl Options {
    /// The bundle of a self-signed root and its key, followed by the additional anchors.
    pub(super) fn bundle(
        &self,
        key: &[u8],
        certificate: &[u8],
        now: SystemTime,
    ) -> Result<Bundle, BundleError> {
        let mut roots = certificate.to_vec();
        if !roots.ends_with(b"\n") {
            roots.push(b'\n');
        }
        roots.extend_from_slice(&self.extra_roots);
        let material = Material {
            certificate,
            chain: b"",
            roots: &roots,
        };
        Bundle::new(&material, key, now)
    }

    /// Whether a root is due for renewal.
    pub(super) fn is_due(&self, bundle: &Bundle, now: SystemTime) -> bool {
        is_due(bundle.validity(), self.grace_percent, now)
    }
}

/// The directory.
#[derive(Debug)]
pub struct SelfSigned {
    dir: PathBuf,
    options: Options,
}

/// What [`SelfSigned::renew_if_due`] did.
#[derive(Debug)]
pub enum Renewal {
    /// The root is not due for renewal.
    NotDue,
    /// Another process had renewed it already.
    Adopted(Bundle),
    /// This process renewed it.
    Renewed(Bundle),
}

impl SelfSigned {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(dir: PathBuf, options: Options) -> Self {
        Self { dir, options }
    }

    fn certificate_path(&self) -> PathBuf {
        self.dir.join("ca-cert.pem")
    }

    fn key_path(&self) -> PathBuf {
        self.dir.join("ca-key.pem")
    }

    /// The authority in the directory, created if there is none. `None` if there is none and it may
    /// not be created.
    ///
    /// # Errors
    /// If the files cannot be used; they are left unchanged.
    pub fn open(&self, now: SystemTime) -> Result<Option<Bundle>, StoreError> {
        let key = read(&self.key_path())?.map(Zeroizing::new);
        let certificate = read(&self.certificate_path())?;
        let (key, certificate) = match (key, certificate) {
            (Some(key), Some(certificate)) => (key, certificate),
            (None, Some(_)) => {
                return Err(StoreError::Incomplete {
                    path: self.dir.display().to_string(),
                    missing: "ca-key.pem".to_owned(),
                });
            }
            (_, None) if self.options.read_only => return Ok(None),
            (key, None) => self.make(key, now)?,
        };
        self.bundle(&key, &certificate, now).map(Some)
    }

    /// Creates the missing files. If another process is faster, its files are used.
    fn make(
        &self,
        key: Option<Zeroizing<Vec<u8>>>,
        now: SystemTime,
    ) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), StoreError> {
        atomic::make_dir(&self.dir, 0o700).map_err(io("create directory", &self.dir))?;
        let key_path = self.key_path();
        if key.is_none() {
            let made = self
                .options
                .kind
                .generate()
                .map_err(|error| StoreError::Make(error.to_string()))?;
            let pem = Zeroizing::new(made.serialize_pem());
            atomic::create(&key_path, pem.as_bytes(), atomic::PRIVATE)
                .map_err(io("write", &key_path))?;
        }
        let key = Zeroizing::new(fs::read(&key_path).map_err(io("read", &key_path))?);
        let pair = std::str::from_utf8(&key)
            .ok()
            .and_then(|pem| KeyPair::from_pem(pem).ok())
            .ok_or_else(|| self.unusable(BundleError::Key("it cannot be parsed".to_owned())))?;
        let certificate = root::make(
            &pair,
            &self.options.trust_domain,
            self.options.lifetime,
            now,
        )?;
        let path = self.certificate_path();
        if atomic::create(&path, certificate.as_bytes(), atomic::PUBLIC)
            .map_err(io("write", &path))?
        {
            tracing::info!(dir = %self.dir.display(), trust_domain = %self.options.trust_domain, "created a self-signed root");
        }
        let certificate = fs::read(&path).map_err(io("read", &path))?;
        Ok((key, certificate))
    }

    fn unusable(&self, reason: BundleError) -> StoreError {
        StoreError::Unusable {
            path: self.dir.display().to_string(),
            reason,
            advice: ADVICE,
        }
    }

    fn bundle(
        &self,
        key: &[u8],
        certificate: &[u8],
        now: SystemTime,
    ) -> Result<Bundle, StoreError> {
        let bundle = self.options.bundle(key, certificate, now);
        let bundle = bundle.map_err(|reason| self.unusable(reason))?;
        let path = self.dir.join("root-cert.pem");
        if read(&path)?.as_deref() != Some(bundle.root_pem().as_bytes()) && !self.options.read_only
        {
            atomic::replace(&path, bundle.root_pem().as_bytes(), atomic::PUBLIC)
                .map_err(io("write", &path))?;
        }
        Ok(bundle)
    }

    /// Renews the root of `current` with the same key if it is due.
    ///
    /// # Errors
    /// If the files cannot be read or written, or the new root cannot be used; in that case the old
    /// one is restored.
    pub fn renew_if_due(&self, current: &Bundle, now: SystemTime) -> Result<Renewal, StoreError> {
        let (key_path, path) = (self.key_path(), self.certificate_path());
        let on_disk = fs::read(&path).map_err(io("read", &path))?;
        let key = Zeroizing::new(fs::read(&key_path).map_err(io("read", &key_path))?);
        if !same_certificate(&on_disk, current.certificate()) {
            return self.bundle(&key, &on_disk, now).map(Renewal::Adopted);
        }
        if !self.options.is_due(current, now) || self.options.read_only {
            return Ok(Renewal::NotDue);
        }
        let renewed = root::renew(
            current.certificate(),
            current.key(),
            self.options.lifetime,
            now,
        )?;
        // Validated before it is written: the directory never holds an unusable root.
        let checked = self.options.bundle(&key, renewed.as_bytes(), now);
        checked.map_err(|reason| self.unusable(reason))?;
        atomic::replace(&path, renewed.as_bytes(), atomic::PUBLIC).map_err(io("write", &path))?;
        self.bundle(&key, renewed.as_bytes(), now)
            .map(Renewal::Renewed)
    }
}

pub(super) fn same_certificate(pem: &[u8], der: &[u8]) -> bool {
    mesh_common::tls::certificates(pem)
        .ok()
        .and_then(|found| found.into_iter().next())
        .is_some_and(|found| found.as_ref() == der)
}

/// Whether less than `percent` of the lifetime is left.
fn is_due((from, to): (SystemTime, SystemTime), percent: u8, now: SystemTime) -> bool {
    let lifetime = to.duration_since(from).unwrap_or_default();
    let left = to.duration_since(now).unwrap_or_default();
    left <= lifetime.mul_f64(f64::from(percent.min(100)) / 100.0)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);

    fn options(lifetime: Duration) -> Options {
        Options {
            trust_domain: TrustDomain::new("cluster.local").unwrap(),
            kind: Kind::P256,
            lifetime,
            grace_percent: 20,
            extra_roots: Vec::new(),
            read_only: false,
        }
    }

    fn store(dir: &Path) -> SelfSigned {
        SelfSigned::new(dir.join("ca"), options(YEARS))
    }

    #[test]
    fn a_restart_keeps_key_and_root() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let first = store(dir.path()).open(now).unwrap().unwrap();
        let key = fs::read(dir.path().join("ca/ca-key.pem")).unwrap();
        let second = store(dir.path()).open(now).unwrap().unwrap();
        assert_eq!(first.certificate(), second.certificate());
        assert_eq!(key, fs::read(dir.path().join("ca/ca-key.pem")).unwrap());
        let mode = |name: &str| {
            fs::metadata(dir.path().join("ca").join(name))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(
            (
                mode("ca-key.pem"),
                mode("ca-cert.pem"),
                mode("root-cert.pem")
            ),
            (0o600, 0o644, 0o644)
        );
        assert_eq!(first.subject(), "O=cluster.local");
        assert_eq!(
            fs::read_to_string(dir.path().join("ca/root-cert.pem")).unwrap(),
            first.root_pem()
        );
    }

    #[test]
    fn every_kind_of_key_makes_a_root() {
        for kind in ["rsa2048", "p256", "p384"] {
            let dir = tempfile::tempdir().unwrap();
            let options = Options {
                kind: Kind::parse(kind).unwrap(),
                ..options(YEARS)
            };
            let bundle = SelfSigned::new(dir.path().join("ca"), options)
                .open(SystemTime::now())
                .unwrap();
            assert!(bundle.is_some(), "{kind}");
        }
        assert_eq!(Kind::parse("rsa1024"), None);
    }

    #[test]
    fn a_key_without_certificate_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        store(dir.path()).open(now).unwrap();
        let key = fs::read(dir.path().join("ca/ca-key.pem")).unwrap();
        fs::remove_file(dir.path().join("ca/ca-cert.pem")).unwrap();
        store(dir.path()).open(now).unwrap();
        assert_eq!(key, fs::read(dir.path().join("ca/ca-key.pem")).unwrap());
    }

    #[test]
    fn damage_is_refused_and_left_alone() {
        let now = SystemTime::now();
        for (name, content, said) in [
            ("ca-cert.pem", "garbage", "no PEM certificate found"),
            ("ca-key.pem", "garbage", "signing key"),
            ("ca-key.pem", "", "signing key"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            store(dir.path()).open(now).unwrap();
            let path = dir.path().join("ca").join(name);
            fs::write(&path, content).unwrap();
            let error = store(dir.path()).open(now).unwrap_err().to_string();
            assert!(
                error.contains(said) && error.contains("new root"),
                "{error}"
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_lost_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        store(dir.path()).open(now).unwrap();
        fs::remove_file(dir.path().join("ca/ca-key.pem")).unwrap();
        let error = store(dir.path()).open(now).unwrap_err().to_string();
        assert!(error.contains("ca-key.pem is missing"), "{error}");
        assert!(!dir.path().join("ca/ca-key.pem").exists());
    }

    #[test]
    fn a_foreign_key_is_refused() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = SystemTime::now();
        store(dir.path()).open(now).unwrap();
        store(other.path()).open(now).unwrap();
        fs::copy(
            other.path().join("ca/ca-key.pem"),
            dir.path().join("ca/ca-key.pem"),
        )
        .unwrap();
        let error = store(dir.path()).open(now).unwrap_err().to_string();
        assert!(
            error.contains("does not match the signing certificate"),
            "{error}"
        );
    }

    #[test]
    fn an_expired_root_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        store(dir.path()).open(now).unwrap();
        let error = store(dir.path())
            .open(now + YEARS * 2)
            .unwrap_err()
            .to_string();
        assert!(error.contains("expired at"), "{error}");
    }

    #[test]
    fn read_only_makes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            read_only: true,
            ..options(YEARS)
        };
        let store = SelfSigned::new(dir.path().join("ca"), options);
        assert!(store.open(SystemTime::now()).unwrap().is_none());
        assert!(!dir.path().join("ca").exists());
    }

    #[test]
    fn processes_that_start_together_share_one_root() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_path_buf();
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || {
                    store(&path)
                        .open(SystemTime::now())
                        .unwrap()
                        .unwrap()
                        .certificate()
                        .to_vec()
                })
            })
            .collect();
        let roots: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert!(roots.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn a_root_near_its_end_is_renewed_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let minute = Duration::from_secs(60);
        let store = SelfSigned::new(dir.path().join("ca"), options(minute));
        let other = SelfSigned::new(dir.path().join("ca"), options(minute));
        let first = store.open(now).unwrap().unwrap();
        assert!(matches!(
            store.renew_if_due(&first, now),
            Ok(Renewal::NotDue)
        ));

        let near_end = now + Duration::from_secs(50);
        let Ok(Renewal::Renewed(second)) = store.renew_if_due(&first, near_end) else {
            panic!("not renewed");
        };
        assert_ne!(first.certificate(), second.certificate());
        assert_eq!(first.subject(), second.subject());
        assert!(second.validity().1 > first.validity().1);
        let Ok(Renewal::Adopted(adopted)) = other.renew_if_due(&first, near_end) else {
            panic!("not adopted");
        };
        assert_eq!(adopted.certificate(), second.certificate());
        assert_eq!(
            fs::read_to_string(dir.path().join("ca/root-cert.pem")).unwrap(),
            second.root_pem()
        );
    }

    #[test]
    fn ten_years_do_not_overflow() {
        let from = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let to = from + Duration::from_secs(3650 * 86_400);
        let at = |days: u64| from + Duration::from_secs(days * 86_400);
        assert!(!is_due((from, to), 20, at(2919)));
        assert!(is_due((from, to), 20, at(2920)));
    }
}
