//! The command line, with the flags of Istio 1.1.

use std::{path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Parser, Subcommand};
use mesh_common::args::{KeepaliveArgs, KubeArgs, LogArgs, MonitoringArgs};
use mesh_core::duration;

/// Computes the configuration of the mesh's proxies and serves it over xDS.
#[derive(Clone, Debug, Parser)]
#[command(name = "pilot-discovery", disable_version_flag = true)]
pub struct Cli {
    #[command(flatten)]
    pub log: LogArgs,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Starts the discovery server.
    Discovery(Box<Args>),
    /// Sends a request to a running server's monitoring port and prints the answer.
    Request(RequestArgs),
    /// Prints the version.
    Version(mesh_common::version::Command),
}

/// Flags of `discovery`.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    /// Platform registries, comma-separated: MCP or none. Services always come from the
    /// configuration.
    #[arg(long, default_value = "", value_delimiter = ',')]
    pub registries: Vec<String>,
    /// Directory tree of YAML files to read the configuration from, instead of or beside MCP.
    #[arg(long = "configDir")]
    pub config_dir: Option<PathBuf>,
    /// Directory of Kubernetes Secrets as YAML files: credentials that gateways refer to by name.
    #[arg(long = "secretsDir")]
    pub secrets_dir: Option<PathBuf>,
    /// MeshConfig as a YAML file; changes are followed.
    #[arg(long = "meshConfig", default_value = "/etc/istio/config/mesh")]
    pub mesh_config: PathBuf,
    /// Namespace of this process.
    #[arg(
        short = 'n',
        long,
        env = "POD_NAMESPACE",
        default_value = "istio-system"
    )]
    pub namespace: String,
    /// Name of this process's Pod.
    #[arg(long, env = "POD_NAME", default_value = "pilot", hide = true)]
    pub pod_name: String,
    /// DNS suffix of the cluster.
    #[arg(long, default_value = "cluster.local")]
    pub domain: String,
    /// SPIFFE trust domain; that of the MeshConfig takes precedence.
    #[arg(long = "trust-domain", default_value = "")]
    pub trust_domain: String,
    /// Address for readiness and debug pages over HTTP; empty disables it.
    #[arg(long = "httpAddr", default_value = ":8080")]
    pub http: String,
    /// Address for metrics, health and debug pages over HTTP; empty disables it.
    #[arg(long = "monitoringAddr", default_value = ":15014")]
    pub monitoring: String,
    /// Address for plain-text xDS without authentication; empty disables it.
    #[arg(long = "grpcAddr", default_value = "127.0.0.1:15010")]
    pub grpc: String,
    /// Address for xDS over TLS with client certificates; empty disables it.
    #[arg(long = "secureGrpcAddr", default_value = ":15012")]
    pub secure_grpc: String,
    /// Certificate chain for xDS over TLS and towards MCP servers, PEM.
    #[arg(long = "certFile", default_value = "/etc/certs/cert-chain.pem")]
    pub cert: PathBuf,
    /// Private key of the certificate, PEM.
    #[arg(long = "keyFile", default_value = "/etc/certs/key.pem")]
    pub key: PathBuf,
    /// Roots that verify the certificates of peers, PEM.
    #[arg(long = "caCertFile", default_value = "/etc/certs/root-cert.pem")]
    pub ca_cert: PathBuf,
    /// MCP servers, comma-separated: `mcp://host:port` or `mcps://host:port` (mutual TLS).
    #[arg(long = "mcpServerAddrs", value_delimiter = ',')]
    pub mcp_servers: Vec<String>,
    /// Maximum size of an MCP message, in bytes.
    #[arg(long = "mcpMaxMsgSize", default_value_t = 256 << 20)]
    pub mcp_max_message: usize,
    /// Galleys that receive reports of which proxies hold each object: `mcp://host:port` or
    /// `mcps://host:port` (mutual TLS); reports go to every address of a host. Empty: no reports.
    #[arg(long = "statusReportAddr", value_delimiter = ',')]
    pub status_reports: Vec<String>,
    /// Name in the certificates of these galleys, if it is not the host of the address.
    #[arg(long = "statusReportServerName", default_value = "")]
    pub status_report_server_name: String,
    /// Minimum time between two reports.
    #[arg(long = "statusReportInterval", default_value = "1s", value_parser = duration::parse, hide = true)]
    pub status_report_interval: Duration,
    /// How long open streams may continue after the signal to stop.
    #[arg(long = "shutdownDuration", default_value = "10s", value_parser = duration::parse)]
    pub shutdown: Duration,
    /// How long no change must arrive before changes are pushed.
    #[arg(long, env = "PILOT_DEBOUNCE_AFTER", default_value = "10ms", value_parser = duration::parse, hide = true)]
    pub debounce_after: Duration,
    /// Maximum delay of changes while more keep arriving.
    #[arg(long, env = "PILOT_DEBOUNCE_MAX", default_value = "1s", value_parser = duration::parse, hide = true)]
    pub debounce_max: Duration,
    /// New xDS streams per second; 0 = 200 per core.
    #[arg(
        long,
        env = "PILOT_MAX_REQUESTS_PER_SECOND",
        default_value_t = 0,
        hide = true
    )]
    pub streams_per_second: u32,
    /// Check that the certificate of a proxy belongs to the workload in its node ID.
    #[arg(long, env = "PILOT_ENABLE_XDS_IDENTITY_CHECK", default_value_t = true, action = clap::ArgAction::Set, hide = true)]
    pub identity_check: bool,
    /// How long Secrets of a namespace are followed after its last gateway disconnected.
    #[arg(long = "secretsLinger", default_value = "60s", value_parser = duration::parse, hide = true)]
    pub secrets_linger: Duration,
    #[command(flatten)]
    pub kube: KubeArgs,
    #[command(flatten)]
    pub keepalive: KeepaliveArgs,
    #[command(flatten)]
    pub introspection: MonitoringArgs,
}

/// Flags of `request`.
#[derive(Clone, Debug, ClapArgs)]
pub struct RequestArgs {
    /// HTTP method, e.g. GET.
    pub method: String,
    /// Path, e.g. /debug/syncz.
    pub path: String,
    #[arg(default_value = "")]
    pub body: String,
}

/// `:port` means all addresses.
pub fn listen_address(flag: &str) -> Option<String> {
    if flag.is_empty() {
        return None;
    }
    Some(if flag.starts_with(':') {
        format!("0.0.0.0{flag}")
    } else {
        flag.to_owned()
    })
}
