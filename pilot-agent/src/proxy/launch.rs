//! Inputs of Envoy: its bootstrap file and command line.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::plan::Plan;
use crate::{
    bootstrap::{self, Channel},
    envoy::command,
    proxy_config::AuthPolicy,
    secret::output,
    settings::XdsMode,
};

impl Plan<'_> {
    pub(super) fn channel(&self) -> Channel {
        let directory = self.settings.certificates.provisioned.as_ref();
        let file = |directory: &Path, name: &str| directory.join(name).display().to_string();
        match (
            self.config().control_plane_auth_policy,
            self.settings.xds_mode,
            directory,
        ) {
            (AuthPolicy::None, _, _) => Channel::Plain,
            (AuthPolicy::MutualTls, XdsMode::Direct, None) => Channel::Mtls,
            (AuthPolicy::MutualTls, XdsMode::Direct, Some(directory)) => Channel::MtlsFiles {
                chain: file(directory, output::CHAIN),
                key: file(directory, output::KEY),
                root: self
                    .settings
                    .xds_root
                    .clone()
                    .unwrap_or_else(|| file(directory, output::ROOT)),
            },
            (AuthPolicy::MutualTls, XdsMode::DirectToken, _) => {
                Channel::Token {
                    root: self.settings.xds_root.clone().unwrap_or_else(|| {
                        self.surroundings.paths.mesh_root().display().to_string()
                    }),
                    token: self.surroundings.paths.token().display().to_string(),
                }
            }
        }
    }

    pub(super) fn bootstrap_inputs(&self) -> bootstrap::Inputs<'_> {
        let (config, settings) = (self.config(), &self.settings);
        bootstrap::Inputs {
            node: &self.node,
            config,
            families: self.families,
            addresses: &self.addresses,
            annotations: &self.annotations,
            discovery: self.discovery.clone(),
            discovery_name: self.discovery_name.clone(),
            discovery_sans: &self.sans,
            channel: self.channel(),
            delta: settings.delta,
            sds_socket: self.socket().display().to_string(),
            status_port: config.status_port,
            envoy_status_port: settings.envoy_status_port,
            envoy_prometheus_port: settings.envoy_prometheus_port,
            count_connections: settings.exit_on_zero_connections,
            status_proxy_protocol: settings.status_proxy_protocol,
            metrics_local_only: settings.metrics_local_only,
            log_as_json: self.surroundings.log_as_json,
            outlier_log_path: self.flags.outlier_log_path.as_deref().unwrap_or_default(),
            statsd: self.statsd,
            host_ip: settings.host_ip.as_deref(),
            socket_mark: settings.socket_mark,
        }
    }

    /// Writes the bootstrap file, unless a custom one is configured, and returns its path.
    pub(super) fn write_bootstrap(&self) -> anyhow::Result<PathBuf> {
        let config = self.config();
        let template = self.settings.bootstrap_template.as_deref();
        if template.is_none() && !config.custom_config_file.is_empty() {
            return Ok(PathBuf::from(&config.custom_config_file));
        }
        let template = template.unwrap_or(&config.proxy_bootstrap_template_path);
        let inputs = self.bootstrap_inputs();
        let (name, text) = if template.is_empty() {
            let (json, warnings) = bootstrap::build(&inputs).map_err(anyhow::Error::msg)?;
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            ("envoy-rev.json", serde_json::to_string_pretty(&json)?)
        } else {
            let source = fs::read_to_string(template)
                .with_context(|| format!("cannot read the bootstrap template {template}"))?;
            let text = bootstrap::template::render(&source, &inputs)
                .map_err(|error| anyhow::anyhow!("bootstrap template {template}: {error}"))?;
            let yaml = template.ends_with(".yaml") || template.ends_with(".yaml.tmpl");
            (
                if yaml {
                    "envoy-rev.yaml"
                } else {
                    "envoy-rev.json"
                },
                text,
            )
        };
        let directory = Path::new(&config.config_path);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("cannot create configPath {}", directory.display()))?;
        let path = directory.join(name);
        output::replace(directory, &path, text.as_bytes(), 0o600)
            .with_context(|| format!("cannot write the bootstrap to {}", path.display()))?;
        Ok(path)
    }

    pub(super) fn arguments(&self, bootstrap: &Path) -> anyhow::Result<Vec<String>> {
        let (config, settings) = (self.config(), &self.settings);
        let cpus = std::thread::available_parallelism()
            .map_or(0, |cpus| u32::try_from(cpus.get()).unwrap_or(0));
        if config.concurrency == Some(0) && settings.cpu_limit > 0 && settings.cpu_limit < cpus {
            tracing::warn!(
                limit = settings.cpu_limit,
                cpus,
                "with concurrency 0 Envoy runs one worker thread per CPU of the machine"
            );
        }
        let override_json = settings
            .bootstrap_override
            .as_deref()
            .and_then(|path| self.read_override(path));
        Ok(command::arguments(&command::Options {
            bootstrap,
            config,
            only_v6: self.families.only_v6,
            log_level: &self.flags.proxy_log_level,
            component_log_level: &self.flags.proxy_component_log_level,
            cpu_limit: settings.cpu_limit,
            skip_deprecated_logs: settings.skip_deprecated_logs,
            core_dump: settings.core_dump,
            override_json: override_json.as_deref(),
        }))
    }

    /// An unusable override must not leave the Pod without a proxy.
    pub(super) fn read_override(&self, path: &str) -> Option<String> {
        let read = || -> anyhow::Result<String> {
            let text = fs::read_to_string(path)?;
            let value: serde_json::Value = serde_yaml::from_str(&text)?;
            Ok(bootstrap::substitute_host_ip(
                &value.to_string(),
                self.settings.host_ip.as_deref(),
            ))
        };
        read()
            .inspect_err(|error| tracing::warn!(path, %error, "ignoring the bootstrap override"))
            .ok()
    }
}
