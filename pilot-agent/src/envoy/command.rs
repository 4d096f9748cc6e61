//! Envoy's command line. Pure.

use std::path::Path;

use crate::proxy_config::ProxyConfig;

/// Inputs of the command line.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The bootstrap file.
    pub bootstrap: &'a Path,
    /// The effective proxy configuration.
    pub config: &'a ProxyConfig,
    /// All addresses of the Pod are IPv6.
    pub only_v6: bool,
    /// `--proxyLogLevel`.
    pub log_level: &'a str,
    /// `--proxyComponentLogLevel`.
    pub component_log_level: &'a str,
    /// CPU limit of the container in whole CPUs; 0 for no limit.
    pub cpu_limit: u32,
    /// Do not log uses of deprecated fields.
    pub skip_deprecated_logs: bool,
    /// Enable core dumps.
    pub core_dump: bool,
    /// JSON to merge into the bootstrap.
    pub override_json: Option<&'a str>,
}

/// The arguments of Envoy, without the program's name.
#[must_use]
pub fn arguments(options: &Options<'_>) -> Vec<String> {
    let config = options.config;
    let mut arguments: Vec<String> = vec!["-c".to_owned(), options.bootstrap.display().to_string()];
    let mut pair = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
    // Envoy takes whole seconds.
    pair(
        "--drain-time-s",
        config.drain_duration.as_millis().div_ceil(1000).to_string(),
    );
    pair("--drain-strategy", "immediate".to_owned());
    pair(
        "--local-address-ip-version",
        if options.only_v6 { "v6" } else { "v4" }.to_owned(),
    );
    let flush = config
        .file_flush_interval
        .map_or(1000, |interval| interval.as_millis());
    pair("--file-flush-interval-msec", flush.to_string());
    if let Some(size) = config.file_flush_min_size_kb {
        pair("--file-flush-min-size-kb", size.to_string());
    }
    let (level, components) = log_levels(options.log_level, options.component_log_level);
    pair("-l", level);
    if !components.is_empty() {
        pair("--component-log-level", components);
    }
    if let Some(json) = options.override_json {
        pair("--config-yaml", json.to_owned());
    }
    if let Some(threads) = concurrency(config.concurrency, options.cpu_limit) {
        pair("--concurrency", threads.to_string());
    }
    let switches = [
        ("--disable-hot-restart", true),
        ("--allow-unknown-static-fields", true),
        ("--skip-deprecated-logs", options.skip_deprecated_logs),
        ("--enable-core-dump", options.core_dump),
    ];
    arguments.extend(
        switches
            .into_iter()
            .filter(|(_, on)| *on)
            .map(|(flag, _)| flag.to_owned()),
    );
    arguments
}

/// Number of worker threads: as configured, else the CPU limit; `None` for one per CPU of the
/// machine.
#[must_use]
pub fn concurrency(configured: Option<u32>, cpu_limit: u32) -> Option<u32> {
    Some(configured.unwrap_or(cpu_limit)).filter(|threads| *threads > 0)
}

/// Splits `info,misc:error` into a level and levels by component, which take precedence over
/// `components`.
fn log_levels(text: &str, components: &str) -> (String, String) {
    let (scoped, plain): (Vec<&str>, Vec<&str>) = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .partition(|item| item.contains(':'));
    let level = plain
        .last()
        .map_or_else(|| "warning".to_owned(), |level| (*level).to_owned());
    let components = if scoped.is_empty() {
        components.to_owned()
    } else {
        scoped.join(",")
    };
    (level, components)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy_config::{Layers, effective};

    #[test]
    fn the_default_command_line() {
        let config = effective(&Layers {
            environment: Some("concurrency: 2"),
            ..Layers::default()
        })
        .unwrap()
        .config;
        let options = Options {
            bootstrap: Path::new("/etc/istio/proxy/envoy-rev.json"),
            config: &config,
            only_v6: false,
            log_level: "warning",
            component_log_level: "misc:error",
            cpu_limit: 4,
            skip_deprecated_logs: true,
            core_dump: false,
            override_json: None,
        };
        assert_eq!(
            arguments(&options).join(" "),
            "-c /etc/istio/proxy/envoy-rev.json --drain-time-s 45 --drain-strategy immediate \
             --local-address-ip-version v4 --file-flush-interval-msec 1000 -l warning --component-log-level misc:error \
             --concurrency 2 --disable-hot-restart --allow-unknown-static-fields --skip-deprecated-logs"
        );
    }

    #[test]
    fn levels_and_threads() {
        assert_eq!(
            log_levels("info,misc:error,rbac:debug", "x:y"),
            ("info".to_owned(), "misc:error,rbac:debug".to_owned())
        );
        assert_eq!(
            log_levels("", "x:y"),
            ("warning".to_owned(), "x:y".to_owned())
        );
        assert_eq!(concurrency(None, 3), Some(3));
        assert_eq!(concurrency(Some(0), 3), None);
        assert_eq!(concurrency(None, 0), None);
    }
}
