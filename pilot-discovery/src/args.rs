//! The command line; flags as in Istio 1.1.

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
    /// Platform registries, a comma list: MCP, or nothing. Services always come from the
    /// configuration.
    #[arg(long, default_value = "", value_delimiter = ',')]
    pub registries: Vec<String>,
    /// Directory tree of YAML to read the configuration from, instead of MCP.
    #[arg(long = "configDir")]
    pub config_dir: Option<PathBuf>,
    /// Directory of Kubernetes Secrets as YAML: credentials that gateways ask for by name.
    #[arg(long = "secretsDir")]
    pub secrets_dir: Option<PathBuf>,
    /// MeshConfig as YAML; followed when it changes.
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
    /// SPIFFE trust domain; the MeshConfig's wins.
    #[arg(long = "trust-domain", default_value = "")]
    pub trust_domain: String,
    /// HTTP: readiness and debug pages. Empty turns it off.
    #[arg(long = "httpAddr", default_value = ":8080")]
    pub http: String,
    /// HTTP: metrics, health and debug pages. Empty turns it off.
    #[arg(long = "monitoringAddr", default_value = ":15014")]
    pub monitoring: String,
    /// Plaintext xDS without authentication. Empty turns it off.
    #[arg(long = "grpcAddr", default_value = "127.0.0.1:15010")]
    pub grpc: String,
    /// xDS over TLS with client certificates. Empty turns it off.
    #[arg(long = "secureGrpcAddr", default_value = ":15012")]
    pub secure_grpc: String,
    /// Own certificate chain, for xDS over TLS and towards MCP servers.
    #[arg(long = "certFile", default_value = "/etc/certs/cert-chain.pem")]
    pub cert: PathBuf,
    /// Key of the certificate.
    #[arg(long = "keyFile", default_value = "/etc/certs/key.pem")]
    pub key: PathBuf,
    /// Roots that peers are checked against.
    #[arg(long = "caCertFile", default_value = "/etc/certs/root-cert.pem")]
    pub ca_cert: PathBuf,
    /// MCP servers, `mcp://host:port` or `mcps://host:port` (mutual TLS).
    #[arg(long = "mcpServerAddrs", value_delimiter = ',')]
    pub mcp_servers: Vec<String>,
    /// Largest MCP message taken, in bytes.
    #[arg(long = "mcpMaxMsgSize", default_value_t = 256 << 20)]
    pub mcp_max_message: usize,
    /// Galleys that receive reports of which proxies hold each object, `mcp://host:port` or
    /// `mcps://host:port` (mutual TLS); every address of a host. Empty: none.
    #[arg(long = "statusReportAddr", value_delimiter = ',')]
    pub status_reports: Vec<String>,
    /// Name that the certificates of these galleys must have, if not the host of the address.
    #[arg(long = "statusReportServerName", default_value = "")]
    pub status_report_server_name: String,
    /// Shortest time between two reports.
    #[arg(long = "statusReportInterval", default_value = "1s", value_parser = duration::parse, hide = true)]
    pub status_report_interval: Duration,
    /// Time for open streams to end after the signal to stop.
    #[arg(long = "shutdownDuration", default_value = "10s", value_parser = duration::parse)]
    pub shutdown: Duration,
    /// Quiet time before changes are pushed.
    #[arg(long, env = "PILOT_DEBOUNCE_AFTER", default_value = "10ms", value_parser = duration::parse, hide = true)]
    pub debounce_after: Duration,
    /// Longest time that changes wait while more keep coming.
    #[arg(long, env = "PILOT_DEBOUNCE_MAX", default_value = "1s", value_parser = duration::parse, hide = true)]
    pub debounce_max: Duration,
    /// New xDS streams per second; 0 = 200 for each core.
    #[arg(
        long,
        env = "PILOT_MAX_REQUESTS_PER_SECOND",
        default_value_t = 0,
        hide = true
    )]
    pub streams_per_second: u32,
    /// Check that a proxy's certificate fits the workload that it says it is.
    #[arg(long, env = "PILOT_ENABLE_XDS_IDENTITY_CHECK", default_value_t = true, action = clap::ArgAction::Set, hide = true)]
    pub identity_check: bool,
    /// Time for which Secrets of a namespace are followed after its last gateway left.
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

/// `:port` means every address.
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
