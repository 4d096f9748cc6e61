//! Build information, as shown by `/version` and the `version` command.

use serde::Serialize;

/// Build information, with the field names of Istio. Set at compile time through `BUILD_*`
/// variables.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Info {
    /// Version of the workspace, e.g. `0.1.0`.
    pub version: &'static str,
    /// Commit of the build, `unknown` in a plain build.
    pub revision: &'static str,
    /// Who built it.
    pub user: &'static str,
    /// Where it was built.
    pub host: &'static str,
    /// Always empty, as readers of Istio's format expect the field.
    pub golang_version: &'static str,
    /// Image registry.
    pub hub: &'static str,
    /// `Clean`, or `Modified` if the sources differed from `revision`.
    pub status: &'static str,
    /// Tag of the build.
    pub tag: &'static str,
}

const fn or_default(value: Option<&'static str>, default: &'static str) -> &'static str {
    match value {
        Some(value) => value,
        None => default,
    }
}

/// Information about this build.
pub const INFO: Info = Info {
    version: env!("CARGO_PKG_VERSION"),
    revision: or_default(option_env!("BUILD_REVISION"), "unknown"),
    user: or_default(option_env!("BUILD_USER"), "keelson"),
    host: or_default(option_env!("BUILD_HOST"), "local"),
    golang_version: "",
    hub: or_default(option_env!("BUILD_HUB"), "keelson"),
    status: or_default(option_env!("BUILD_STATUS"), "Clean"),
    tag: or_default(option_env!("BUILD_TAG"), env!("CARGO_PKG_VERSION")),
};

/// `<user>@<host>-<hub>-<version>-<revision>-<status>`, as Istio 1.1 answers `/version`.
#[must_use]
pub fn text() -> String {
    let Info {
        version,
        revision,
        user,
        host,
        hub,
        status,
        ..
    } = INFO;
    format!("{user}@{host}-{hub}-{version}-{revision}-{status}")
}

/// [`INFO`] as a JSON object.
#[must_use]
pub fn json() -> serde_json::Value {
    let Info {
        version,
        revision,
        user,
        host,
        golang_version,
        hub,
        status,
        tag,
    } = INFO;
    serde_json::json!({
        "version": version,
        "revision": revision,
        "user": user,
        "host": host,
        "golang_version": golang_version,
        "hub": hub,
        "status": status,
        "tag": tag,
    })
}

/// Options of the `version` subcommand, the same in every process.
#[derive(Clone, Debug, clap::Args)]
pub struct Command {
    /// Print the version only.
    #[arg(short, long)]
    pub short: bool,
    /// Output format: json or yaml instead of text.
    #[arg(short, long, value_parser = ["json", "yaml"])]
    pub output: Option<String>,
}

impl Command {
    /// Output of the command, without the final newline.
    #[must_use]
    pub fn render(&self) -> String {
        match self.output.as_deref() {
            Some("json") => format!("{:#}", serde_json::json!({ "clientVersion": json() })),
            Some(_) => {
                let mut out = String::from("clientVersion:");
                for (key, value) in json().as_object().into_iter().flatten() {
                    // JSON strings are also valid YAML.
                    out.push_str(&format!("\n  {key}: {value}"));
                }
                out
            }
            None if self.short => INFO.version.to_owned(),
            None => {
                let Info {
                    version,
                    revision,
                    user,
                    host,
                    hub,
                    status,
                    tag,
                    ..
                } = INFO;
                format!(
                    "version.BuildInfo{{Version:{version:?}, GitRevision:{revision:?}, User:{user:?}, \
                     Host:{host:?}, GolangVersion:\"\", DockerHub:{hub:?}, BuildStatus:{status:?}, \
                     GitTag:{tag:?}}}"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_the_parts_of_1_1() {
        let (builder, rest) = text()
            .split_once('@')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        assert!(!builder.is_empty());
        assert!(
            rest.contains(INFO.version) && rest.ends_with(INFO.status),
            "{rest}"
        );
    }

    #[test]
    fn version_command_prints_each_form() {
        let command = |short, output: Option<&str>| {
            Command {
                short,
                output: output.map(Into::into),
            }
            .render()
        };
        assert_eq!(command(true, None), INFO.version);
        assert!(command(false, None).starts_with("version.BuildInfo{Version:\""));
        assert!(command(false, Some("json")).contains("\"clientVersion\""));
        assert!(command(false, Some("yaml")).starts_with("clientVersion:\n  "));
    }
}
