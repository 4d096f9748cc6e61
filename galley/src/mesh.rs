//! The part of the mesh configuration that galley uses, updated as its file changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use istio_api::json::{self, Unknown};
use istio_api::mesh::v1alpha1::MeshConfig;
use mesh_common::drain;
use mesh_common::fswatch::{self, WatchDied};
use mesh_core::yaml;
use tokio::sync::watch;

use galley_engine::processing::synthesis::Names;
use galley_engine::settings::Settings;

/// Maximum size of the file, in bytes.
const MAX_BYTES: u64 = 4 << 20;
const SETTLE: Duration = Duration::from_millis(50);
const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// Reads the settings from the mesh configuration. Unknown fields are logged and ignored; without
/// the file the defaults apply.
pub fn load(path: &Path, domain: &str) -> Result<Settings, String> {
    parse(path, contents(path)?.as_deref(), domain)
}

/// The text of the file; `None` if it does not exist.
fn contents(path: &Path) -> Result<Option<String>, String> {
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| error.to_string())?,
    };
    if metadata.len() > MAX_BYTES {
        return Err(format!(
            "the file has {} bytes, the limit is {MAX_BYTES}",
            metadata.len()
        ));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    Ok(Some(text))
}

fn parse(path: &Path, text: Option<&str>, domain: &str) -> Result<Settings, String> {
    let mut settings = Settings::from(Names {
        domain: domain.to_owned(),
        trust_domain: DEFAULT_TRUST_DOMAIN.to_owned(),
    });
    let Some(text) = text else {
        tracing::info!(
            file = %path.display(),
            "the mesh configuration file does not exist; using defaults"
        );
        return Ok(settings);
    };
    let Some(document) = yaml::split(text).first().copied() else {
        return Ok(settings);
    };
    let read = yaml::read(&document).map_err(|error| error.message)?;
    let Some(value) = read else {
        return Ok(settings);
    };
    let (mesh, unknown) = json::read::<MeshConfig>(&value, Unknown::Prune).map_err(|issues| {
        let text = issues
            .iter()
            .map(|issue| format!("{}: {}", issue.path, issue.message));
        text.collect::<Vec<_>>().join("; ")
    })?;
    for issue in unknown {
        tracing::warn!(
            file = %path.display(),
            field = issue.path,
            error = issue.message,
            "ignored a field of the mesh configuration"
        );
    }
    settings.take(&mesh);
    Ok(settings)
}

/// Sends the settings after every change until the process drains. If the file cannot be read, the
/// last settings stay in force.
///
/// # Errors
/// When the file is no longer watched.
pub async fn follow(
    path: PathBuf,
    domain: String,
    settings: watch::Sender<Settings>,
    drain: drain::Watch,
) -> Result<(), WatchDied> {
    let mut changes = fswatch::watch(vec![path.clone()], SETTLE);
    let mut last = None;
    loop {
        tokio::select! {
            () = drain.signaled() => return Ok(()),
            change = changes.next() => change?,
        }
        // Any change in the directory of the file is reported.
        let contents = contents(&path);
        if last.as_ref() == Some(&contents) {
            continue;
        }
        let read = contents
            .clone()
            .and_then(|text| parse(&path, text.as_deref(), &domain));
        last = Some(contents);
        match read {
            Ok(new) => {
                settings.send_if_modified(|settings| {
                    let changed = *settings != new;
                    *settings = new;
                    changed
                });
            }
            Err(error) => tracing::warn!(
                file = %path.display(),
                error,
                "cannot read the mesh configuration; the last one stays in force"
            ),
        }
    }
}
