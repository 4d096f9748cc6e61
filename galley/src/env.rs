//! Environment variables. Invalid values are treated as unset.

use std::time::Duration;

use mesh_core::duration;

/// Burst of logged rejections of sinks.
const REFUSAL_LOG_BURST: &str = "AUTHZ_FAILURE_LOG_BURST_SIZE";
/// Interval between further ones after the burst.
const REFUSAL_LOG_INTERVAL: &str = "AUTHZ_FAILURE_LOG_FREQ";
/// Burst of new streams.
const CONNECT_BURST: &str = "NEW_CONNECTION_BURST_SIZE";
/// Interval between further ones after the burst.
const CONNECT_INTERVAL: &str = "NEW_CONNECTION_FREQ";

/// Name of this Pod; if unset …
const POD: &str = "POD_NAME";
/// … the host name, which is the same in its containers.
const HOST: &str = "HOSTNAME";

/// Name of this Pod, or else of the host or process.
pub fn pod_name() -> String {
    let set = |name: &&str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    let name = [POD, HOST].into_iter().find(|name| set(name));
    name.and_then(|name| std::env::var(name).ok())
        .unwrap_or_else(|| format!("galley-{}", std::process::id()))
}

/// The settings of the environment, merged over the defaults of `options`.
pub fn over(mut options: mesh_common::mcp::source::Options) -> mesh_common::mcp::source::Options {
    options.refusal_log_burst = number(REFUSAL_LOG_BURST).unwrap_or(options.refusal_log_burst);
    options.refusal_log_interval =
        time(REFUSAL_LOG_INTERVAL).unwrap_or(options.refusal_log_interval);
    options.connect_burst = number(CONNECT_BURST).unwrap_or(options.connect_burst);
    options.connect_interval = time(CONNECT_INTERVAL).unwrap_or(options.connect_interval);
    options
}

fn number(name: &str) -> Option<u32> {
    std::env::var(name).ok()?.parse().ok()
}

fn time(name: &str) -> Option<Duration> {
    duration::parse(&std::env::var(name).ok()?).ok()
}
