//! Command line, with the names and spelling of 1.1.

mod sink;
mod status;
mod validation;

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand};
use mesh_common::args::{KubeArgs, LogArgs, MonitoringArgs};
use mesh_common::{validate, version};
use mesh_core::duration;

pub use sink::{SinkArgs, SinkAuth};
pub use status::StatusArgs;
pub use validation::ValidationArgs;

/// Reads, validates and distributes mesh configuration.
#[derive(Debug, Parser)]
#[command(
    name = "galley",
    disable_version_flag = true,
    args_override_self = true
)]
pub struct Args {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
    /// Logging flags.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves configuration to its sinks over MCP, and the admission webhook.
    Server(Box<ServerArgs>),
    /// Checks the age of a probe file: exits 0 if it is fresh, else 1.
    Probe(ProbeArgs),
    /// Checks files with the rules of `server`, without a cluster.
    Validate(ValidateArgs),
    /// Prints the version.
    Version(version::Command),
}

/// `galley validate`.
#[derive(Debug, Clone, ClapArgs)]
pub struct ValidateArgs {
    /// Namespace of objects that do not name one.
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// Namespace of the control plane.
    #[arg(short, long, default_value = "istio-system")]
    pub istio_namespace: String,
    /// Files to check.
    #[command(flatten)]
    pub inputs: validate::Args,
}

/// Arguments of `galley server`. If a flag is given twice, the last one counts.
#[derive(Debug, Clone, ClapArgs)]
#[command(args_override_self = true)]
pub struct ServerArgs {
    /// Directory (or single file) with configuration, instead of Kubernetes.
    #[arg(long = "configPath", default_value = "", hide_default_value = true,
          value_parser = any_path)]
    pub config_path: PathBuf,
    /// Connection to the API server with the configuration.
    #[command(flatten)]
    pub kube: KubeArgs,
    /// Kinds that are not read from Kubernetes, comma separated.
    // 1.1 also excluded Service, Pod and Node, which its pilot read itself. EndpointSlices hold
    // what Endpoints do.
    #[arg(
        long = "excludedResourceKinds",
        default_value = "Endpoints",
        value_delimiter = ','
    )]
    pub excluded_resource_kinds: Vec<String>,
    /// Accepted without effect: watches are resumed and need no periodic lists.
    #[arg(long = "resyncPeriod", default_value = "0s", value_parser = duration::parse, hide = true)]
    pub resync_period: Duration,
    /// Accepted without effect: kinds that the cluster does not have are never waited for.
    #[arg(long = "disableResourceReadyCheck", default_value_t = false,
          default_missing_value = "true", num_args = 0..=1, require_equals = true,
          action = ArgAction::Set, hide = true)]
    pub disable_resource_ready_check: bool,
    /// Address of the server: tcp://host:port, or unix:///path together with --insecure.
    #[arg(long = "server-address", default_value = "tcp://0.0.0.0:9901")]
    pub server_address: String,
    /// Serve plaintext to every client.
    #[arg(long, default_value_t = false, default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set)]
    pub insecure: bool,
    /// Certificate chain of the server.
    #[arg(long = "tlsCertFile", default_value = "/etc/certs/cert-chain.pem")]
    pub tls_cert_file: PathBuf,
    /// Private key of the certificate.
    #[arg(long = "tlsKeyFile", default_value = "/etc/certs/key.pem")]
    pub tls_key_file: PathBuf,
    /// CA certificates that verify the certificates of sinks.
    #[arg(long = "caCertFile", default_value = "/etc/certs/root-cert.pem")]
    pub ca_cert_file: PathBuf,
    /// YAML file with the identities that may connect; without it, every client with a verified
    /// certificate may.
    #[arg(long = "accessListFile", default_value = "/etc/config/accesslist.yaml")]
    pub access_list_file: PathBuf,
    /// Maximum size of a request, in bytes.
    #[arg(long = "server-maxReceivedMessageSize", default_value_t = 1 << 20)]
    pub max_received_message_size: usize,
    /// Maximum number of concurrent streams per connection.
    #[arg(long = "server-maxConcurrentStreams", default_value_t = 1024)]
    pub max_concurrent_streams: u32,
    /// Idle time after which a connection is pinged.
    #[arg(long = "keepaliveInterval", default_value = "30s", value_parser = duration::parse)]
    pub keepalive_interval: Duration,
    /// Time to wait for the answer to a ping.
    #[arg(long = "keepaliveTimeout", default_value = "10s", value_parser = duration::parse)]
    pub keepalive_timeout: Duration,
    /// Maximum age of a stream, ± 10 %, so that sinks spread over replicas.
    #[arg(long = "keepaliveMaxServerConnectionAge", default_value = "30m",
          value_parser = duration::parse)]
    pub max_connection_age: Duration,
    /// Mesh configuration file; without it, the defaults apply.
    #[arg(long = "meshConfigFile", default_value = "/etc/mesh-config/mesh")]
    pub mesh_config_file: PathBuf,
    /// DNS suffix of services.
    #[arg(long, default_value = "cluster.local")]
    pub domain: String,
    /// Port of metrics, readiness and debug pages; 0 to disable.
    #[arg(long = "monitoringPort", default_value_t = 15014)]
    pub monitoring_port: u16,
    /// Serve configuration.
    #[arg(long = "enable-server", default_value_t = true, default_missing_value = "true",
          num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    pub enable_server: bool,
    /// A sink that galley calls.
    #[command(flatten)]
    pub sink: SinkArgs,
    /// Flags of the admission webhook.
    #[command(flatten)]
    pub validation: ValidationArgs,
    /// Flags of statuses.
    #[command(flatten)]
    pub status: StatusArgs,
    /// File that is touched while the process is alive; empty for none.
    #[arg(long = "livenessProbePath", default_value = "", hide_default_value = true,
          value_parser = any_path)]
    pub liveness_probe_path: PathBuf,
    /// Maximum age of the file; it is written twice in this time.
    #[arg(long = "livenessProbeInterval", default_value = "2s", value_parser = duration::parse)]
    pub liveness_probe_interval: Duration,
    /// File that is touched while configuration is served; empty for none.
    #[arg(long = "readinessProbePath", default_value = "", hide_default_value = true,
          value_parser = any_path)]
    pub readiness_probe_path: PathBuf,
    /// Maximum age of the file; it is written twice in this time.
    #[arg(long = "readinessProbeInterval", default_value = "2s", value_parser = duration::parse)]
    pub readiness_probe_interval: Duration,
    /// Introspection flags of 1.1.
    #[command(flatten)]
    pub introspection: MonitoringArgs,
}

impl ServerArgs {
    /// Whether configuration is read from files instead of Kubernetes.
    #[must_use]
    pub fn reads_files(&self) -> bool {
        !self.config_path.as_os_str().is_empty()
    }
}

/// A path; the empty string is `None`.
fn any_path(text: &str) -> Result<PathBuf, Infallible> {
    Ok(PathBuf::from(text))
}

/// Arguments of `galley probe`.
#[derive(Debug, Clone, ClapArgs)]
pub struct ProbeArgs {
    /// Path of the probe file.
    #[arg(long = "probe-path")]
    pub probe_path: PathBuf,
    /// Maximum age of the file.
    #[arg(long, value_parser = duration::parse)]
    pub interval: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_take_a_value_or_none() {
        let parse = |flags: &[&str]| {
            let args = ["galley", "server"].iter().chain(flags).copied();
            match Args::try_parse_from(args).unwrap().command {
                Command::Server(args) => *args,
                other => panic!("{other:?}"),
            }
        };
        assert!(!parse(&[]).insecure);
        assert!(parse(&["--insecure"]).insecure);
        assert!(!parse(&["--insecure=false"]).insecure);
        assert!(!parse(&["--enable-server=false"]).enable_server);
        let args = parse(&[
            "--kubeconfig=",
            "--resyncPeriod=0s",
            "--disableResourceReadyCheck",
            "--excludedResourceKinds=Pod,Node",
            "--excludedResourceKinds=Service",
        ]);
        assert_eq!(args.excluded_resource_kinds, ["Pod", "Node", "Service"]);
        assert_eq!(parse(&[]).excluded_resource_kinds, ["Endpoints"]);
        let args = parse(&["--configPath=/c", "--keepaliveInterval=1m30s"]);
        assert_eq!(args.config_path, PathBuf::from("/c"));
        assert_eq!(args.keepalive_interval, Duration::from_secs(90));
    }

    #[test]
    fn positional_arguments_are_an_error() {
        assert!(Args::try_parse_from(["galley", "server", "x"]).is_err());
        assert!(Args::try_parse_from(["galley", "validator"]).is_err());
    }
}
