//! The MeshConfig file.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use istio_api::{
    json::{self, Unknown},
    mesh::v1alpha1::MeshConfig,
};
use mesh_common::drain;
use mesh_common::fswatch::{self, WatchDied};
use pilot_model::mesh::Mesh;

use crate::world::{self, Command};

/// Maximum size of the file, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// How long to wait after a change, until the file is written completely.
const SETTLE: Duration = Duration::from_millis(100);

/// Fields that 1.1 uses and that have no effect here, as JSON pointers.
const WITHOUT_EFFECT: &[&str] = &[
    "/authPolicy",
    "/defaultConfig/connectTimeout",
    "/defaultConfig/parentShutdownDuration",
    "/disablePolicyChecks",
    "/enableClientSidePolicyCheck",
    "/enableSdsTokenMount",
    "/mixerAddress",
    "/mixerCheckServer",
    "/mixerReportServer",
    "/policyCheckFailOpen",
    "/rdsRefreshDelay",
    "/sdsRefreshDelay",
    "/sdsUdsPath",
    "/sdsUseK8sSaJwt",
    "/sidecarToTelemetrySessionAffinity",
];

/// Defaults from flags.
#[derive(Clone, Debug)]
pub struct Defaults {
    pub domain: String,
    pub trust_domain: String,
}

/// Reads the file. A missing file means an empty mesh config.
///
/// # Errors
/// If it cannot be read or is not a valid MeshConfig; the error says what and where.
pub fn read(path: &Path, defaults: &Defaults) -> anyhow::Result<Mesh> {
    let text = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        Ok(meta) => {
            anyhow::ensure!(
                meta.len() <= MAX_BYTES,
                "{} has {} bytes: want at most {MAX_BYTES}",
                path.display(),
                meta.len()
            );
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?
        }
    };
    parse(&text, defaults).with_context(|| format!("in {}", path.display()))
}

/// Parses YAML text.
///
/// # Errors
/// If it is not a valid MeshConfig.
pub fn parse(text: &str, defaults: &Defaults) -> anyhow::Result<Mesh> {
    let value: serde_json::Value = if text.trim().is_empty() {
        serde_json::json!({})
    } else {
        serde_yaml::from_str(text)?
    };
    let (mut config, ignored) = json::read::<MeshConfig>(&value, Unknown::Prune)
        .map_err(|issues| anyhow::anyhow!("not a valid MeshConfig: {}", list(&issues)))?;
    if !ignored.is_empty() {
        tracing::warn!(
            fields = list(&ignored),
            "unknown fields of the mesh config are ignored"
        );
    }
    let without_effect: Vec<&str> = without_effect(&value).collect();
    if !without_effect.is_empty() {
        tracing::info!(
            fields = without_effect.join(", "),
            "fields of the mesh config that only Istio 1.1 uses are ignored"
        );
    }
    if config.trust_domain.is_empty() {
        config.trust_domain.clone_from(&defaults.trust_domain);
    }
    Ok(Mesh::new(config, &defaults.domain))
}

fn without_effect(config: &serde_json::Value) -> impl Iterator<Item = &'static str> {
    let paths = WITHOUT_EFFECT.iter().copied();
    paths.filter(|path| config.pointer(path).is_some_and(|value| !value.is_null()))
}

fn list(issues: &[json::FieldIssue]) -> String {
    let lines: Vec<String> = issues
        .iter()
        .map(|issue| format!("{}: {}", issue.path, issue.message))
        .collect();
    lines.join("; ")
}

/// Follows the file until the process drains. If it is invalid, the last good one stays in force.
///
/// # Errors
/// When the file is no longer watched.
pub async fn follow(
    path: std::path::PathBuf,
    defaults: Defaults,
    world: world::Handle,
    drain: drain::Watch,
) -> Result<(), WatchDied> {
    let mut changes = fswatch::watch(vec![path.clone()], SETTLE);
    loop {
        tokio::select! {
            () = drain.signaled() => return Ok(()),
            change = changes.next() => change?,
        }
        match read(&path, &defaults) {
            Ok(mesh) if *mesh.config == *world.published().snapshot.mesh.config => {}
            Ok(mesh) => {
                tracing::info!(path = %path.display(), "mesh config changed");
                if world.send(Command::Mesh(Box::new(mesh))).await.is_err() {
                    return Ok(());
                }
            }
            Err(error) => tracing::warn!(
                error = format!("{error:#}"),
                "mesh config is invalid; the last good one stays in force"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Defaults {
        Defaults {
            domain: "cluster.local".into(),
            trust_domain: String::new(),
        }
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let mesh = parse("", &defaults()).unwrap();
        assert_eq!((mesh.outbound_port, mesh.inbound_port), (15001, 15006));
        assert_eq!(&*mesh.trust_domain, "cluster.local");
        assert!(mesh.auto_mtls);
    }

    #[test]
    fn a_wrong_type_is_named_with_its_field() {
        let error = parse("connectTimeout: soon", &defaults())
            .unwrap_err()
            .to_string();
        assert!(error.contains("connectTimeout"), "{error}");
        assert!(parse("a: [", &defaults()).is_err());
    }

    #[test]
    fn fields_of_1_1_are_taken_and_named() {
        let text = "mixerCheckServer: istio-policy:9091\nsdsUdsPath: null\n\
                    defaultConfig: {parentShutdownDuration: 60s, drainDuration: 45s}\n";
        assert!(parse(text, &defaults()).is_ok());
        let value = serde_yaml::from_str(text).unwrap();
        let named: Vec<&str> = without_effect(&value).collect();
        assert_eq!(
            named,
            ["/defaultConfig/parentShutdownDuration", "/mixerCheckServer"]
        );
        let other = serde_json::json!({"other": null});
        assert!(json::read::<MeshConfig>(&other, Unknown::Refuse).is_err());
        for path in WITHOUT_EFFECT {
            let names = path.trim_start_matches('/').split('/').rev();
            let document = names.fold(
                serde_json::Value::Null,
                |inner, name| serde_json::json!({name: inner}),
            );
            let (_, unknown) = json::read::<MeshConfig>(&document, Unknown::Refuse).unwrap();
            assert!(unknown.is_empty(), "{path}");
        }
    }
}
