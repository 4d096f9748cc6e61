//! Probe files: their age shows another process in the container whether this one is healthy.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mesh_common::drain;
use mesh_common::readiness::Readiness;

use crate::args::ProbeArgs;

/// Tolerance beyond the interval.
const SLACK: Duration = Duration::from_millis(10);

/// `galley probe`: checks the age of a probe file.
pub fn check(args: &ProbeArgs, now: SystemTime) -> Result<(), String> {
    let path = args.probe_path.display();
    let metadata = std::fs::metadata(&args.probe_path)
        .map_err(|error| format!("cannot read probe file {path}: {error}"))?;
    let modified = metadata
        .modified()
        .map_err(|error| format!("cannot get the age of probe file {path}: {error}"))?;
    let age = now.duration_since(modified).unwrap_or_default();
    if age > args.interval + SLACK {
        return Err(format!(
            "the probe file {path} is {} ms old: want at most {} ms",
            age.as_millis(),
            args.interval.as_millis()
        ));
    }
    Ok(())
}

/// Writes the file twice per interval while `ready` is open, and removes it otherwise and at the
/// end. `None` is always ready.
pub async fn keep(
    path: PathBuf,
    interval: Duration,
    ready: Option<Readiness>,
    drain: drain::Watch,
) {
    if path.as_os_str().is_empty() || interval.is_zero() {
        return;
    }
    let mut ticks = tokio::time::interval(interval / 2);
    let mut failed = false;
    loop {
        tokio::select! {
            () = drain.signaled() => break,
            _ = ticks.tick() => {}
        }
        let done = if ready.as_ref().is_none_or(Readiness::is_ready) {
            std::fs::write(&path, "")
        } else {
            remove(&path)
        };
        match done {
            Ok(()) => failed = false,
            Err(error) if !failed => {
                failed = true;
                tracing::warn!(
                    file = %path.display(),
                    error = %error,
                    "cannot write the probe file"
                );
            }
            Err(_) => {}
        }
    }
    if let Err(error) = remove(&path) {
        tracing::warn!(file = %path.display(), error = %error, "cannot remove the probe file");
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_file_must_be_there_and_fresh() {
        let dir = tempfile::tempdir().unwrap();
        let args = ProbeArgs {
            probe_path: dir.path().join("p"),
            interval: Duration::from_secs(1),
        };
        assert!(
            check(&args, SystemTime::now())
                .unwrap_err()
                .contains("cannot read probe file")
        );
        std::fs::write(&args.probe_path, "").unwrap();
        let written = std::fs::metadata(&args.probe_path)
            .unwrap()
            .modified()
            .unwrap();
        assert_eq!(check(&args, written + Duration::from_secs(1)), Ok(()));
        let late = written + Duration::from_secs(2);
        assert!(check(&args, late).unwrap_err().contains("is 2000 ms old"));
    }

    #[tokio::test]
    async fn a_probe_file_follows_readiness() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let readiness = Readiness::new();
        let gate = readiness.gate("x");
        let (trigger, drain) = drain::channel();
        let interval = Duration::from_millis(10);
        let keeper = tokio::spawn(keep(path.clone(), interval, Some(readiness), drain));
        let until = async |there: bool| {
            while path.exists() != there {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(!path.exists());
        gate.open();
        until(true).await;
        gate.close();
        until(false).await;
        gate.open();
        until(true).await;
        assert!(trigger.drain(Duration::from_secs(5)).await);
        keeper.await.unwrap();
        assert!(!path.exists());
    }
}
