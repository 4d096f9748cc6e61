//! Copies of the certificates as files, for programs that read files (`OUTPUT_CERTS`).

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::Secrets;

/// File name of the private key; those of the chain and the roots follow.
pub const KEY: &str = "key.pem";
/// Certificate chain.
pub const CHAIN: &str = "cert-chain.pem";
/// Roots.
pub const ROOT: &str = "root-cert.pem";

/// Writes the changed files, each by a rename, so that a reader sees either the old or the new
/// content.
///
/// # Errors
/// If a file cannot be written; the message names the first one.
pub fn write(directory: &Path, secrets: &Secrets, mode: u32) -> io::Result<()> {
    let workload = secrets.workload.as_deref();
    let files = [
        (KEY, workload.map(|workload| workload.key.as_str())),
        (CHAIN, workload.map(|workload| workload.chain.as_str())),
        (ROOT, secrets.trust.as_deref()),
    ];
    for (name, content) in files {
        let Some(content) = content else { continue };
        let path = directory.join(name);
        if fs::read(&path).is_ok_and(|present| present == content.as_bytes()) {
            continue;
        }
        replace(directory, &path, content.as_bytes(), mode).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
    }
    Ok(())
}

/// Writes `content` to `path` atomically, by renaming a temporary file in `directory`.
///
/// # Errors
/// If the directory is not writable.
pub fn replace(directory: &Path, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    // Left over from a crash: its mode may be wrong.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{MetadataExt as _, PermissionsExt as _},
        sync::Arc,
        time::SystemTime,
    };

    use zeroize::Zeroizing;

    use super::*;
    use crate::secret::Workload;

    #[test]
    fn only_changed_files_are_replaced_with_the_mode() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("new");
        let workload = |key: &str| Workload {
            key: Zeroizing::new(key.to_owned()),
            chain: "chain".to_owned(),
            not_after: SystemTime::now(),
            created: SystemTime::now(),
        };
        let mut secrets = Secrets {
            workload: Some(Arc::new(workload("k1"))),
            trust: Some("root".into()),
            ..Secrets::default()
        };
        write(&out, &secrets, 0o600).unwrap();
        let inode = |name: &str| fs::metadata(out.join(name)).unwrap().ino();
        let (key, chain) = (inode(KEY), inode(CHAIN));
        assert_eq!(
            fs::metadata(out.join(KEY)).unwrap().permissions().mode() & 0o777,
            0o600
        );
        secrets.workload = Some(Arc::new(workload("k2")));
        write(&out, &secrets, 0o600).unwrap();
        assert_eq!(fs::read_to_string(out.join(KEY)).unwrap(), "k2");
        assert_ne!(inode(KEY), key);
        assert_eq!(inode(CHAIN), chain);
        assert_eq!(fs::read_dir(&out).unwrap().count(), 3);
    }
}
