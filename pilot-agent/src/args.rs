//! The command line. Unknown flags of the root command and of `proxy` are dropped first
//! ([`known`]), so that an old injection template does not break a new agent.

use clap::{Args, Command, CommandFactory as _, Parser, Subcommand, ValueEnum};

/// Envoy's bootstrap and lifecycle, workload certificates, probes and traffic capture of one Pod.
#[derive(Debug, Clone, Parser)]
#[command(name = "pilot-agent", disable_version_flag = true)]
pub struct Cli {
    /// Log flags of all commands.
    #[command(flatten)]
    pub log: mesh_common::args::LogArgs,
    /// The command to run.
    #[command(subcommand)]
    pub command: Action,
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Run Envoy with its certificates, probes and metrics.
    Proxy(Box<ProxyFlags>),
    /// Send a request to Envoy or the agent and print the body.
    Request(RequestFlags),
    /// Wait until the proxy is ready.
    Wait(WaitFlags),
    /// Exit 0 if a URL responds with status 200, for images without a shell.
    Probe(ProbeFlags),
    /// Install the capture rules in this network namespace.
    IstioIptables(Box<IptablesFlags>),
    /// Remove the capture rules from this network namespace.
    IstioCleanIptables(Box<IptablesFlags>),
    /// Print the version.
    Version(mesh_common::version::Command),
    /// Execute Envoy so that it dies with the agent. For internal use.
    #[command(hide = true)]
    ExecEnvoy(ExecFlags),
}

/// Kind of proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// A proxy beside an application.
    Sidecar,
    /// A gateway.
    Router,
}

impl Role {
    /// The name in the node id.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Router => "router",
        }
    }
}

/// Flags of `proxy`. They override the proxy configuration of the mesh.
#[derive(Debug, Clone, Args, Default)]
pub struct ProxyFlags {
    /// Kind of proxy.
    #[arg(value_enum)]
    pub role: Option<Role>,
    /// DNS domain of the proxy; $POD_NAMESPACE.svc.cluster.local by default.
    #[arg(long)]
    pub domain: Option<String>,
    /// Name part of the node id; $POD_NAME.$POD_NAMESPACE by default.
    #[arg(long)]
    pub id: Option<String>,
    /// Address of the proxy; $INSTANCE_IP by default.
    #[arg(long)]
    pub ip: Option<String>,
    /// SPIFFE trust domain of the workload; $TRUST_DOMAIN by default.
    #[arg(long = "trust-domain")]
    pub trust_domain: Option<String>,
    /// File with the mesh configuration; may be missing.
    #[arg(long = "meshConfig", default_value = "/etc/istio/config/mesh")]
    pub mesh_config: String,
    /// Port of the status server.
    #[arg(long = "statusPort")]
    pub status_port: Option<u16>,
    /// Directory of the generated bootstrap.
    #[arg(long = "configPath")]
    pub config_path: Option<String>,
    /// Path of the Envoy binary.
    #[arg(long = "binaryPath")]
    pub binary_path: Option<String>,
    /// Node cluster, unless the proxy configuration names one.
    #[arg(long = "serviceCluster")]
    pub service_cluster: Option<String>,
    /// Time that Envoy takes to drain connections.
    #[arg(long = "drainDuration")]
    pub drain_duration: Option<String>,
    /// Address of pilot, host:port.
    #[arg(long = "discoveryAddress")]
    pub discovery_address: Option<String>,
    /// Timeout of connections to pilot.
    #[arg(long = "connectTimeout")]
    pub connect_timeout: Option<String>,
    /// Authentication of connections to pilot: NONE or MUTUAL_TLS.
    #[arg(long = "controlPlaneAuthPolicy")]
    pub control_plane_auth_policy: Option<String>,
    /// Address of a Zipkin collector, host:port.
    #[arg(long = "zipkinAddress")]
    pub zipkin_address: Option<String>,
    /// Address of a Datadog agent, host:port.
    #[arg(long = "datadogAgentAddress")]
    pub datadog_agent_address: Option<String>,
    /// Refused: Envoy has no LightStep tracer any more.
    #[arg(long = "lightstepAddress")]
    pub lightstep_address: Option<String>,
    /// Address of a statsd receiver, host:port.
    #[arg(long = "statsdUdpAddress")]
    pub statsd_udp_address: Option<String>,
    /// Address of an Envoy metrics service, host:port.
    #[arg(long = "envoyMetricsServiceAddress")]
    pub envoy_metrics_service_address: Option<String>,
    /// Port of Envoy's admin interface.
    #[arg(long = "proxyAdminPort")]
    pub proxy_admin_port: Option<u16>,
    /// Bootstrap file to use unchanged.
    #[arg(long = "customConfigFile")]
    pub custom_config_file: Option<String>,
    /// Bootstrap template in Go's text/template syntax.
    #[arg(long = "templateFile")]
    pub template_file: Option<String>,
    /// Envoy's log level, optionally with levels by component, such as info,misc:error.
    #[arg(long = "proxyLogLevel", default_value = "warning")]
    pub proxy_log_level: String,
    /// Envoy's log levels by component, unless --proxyLogLevel contains some.
    #[arg(long = "proxyComponentLogLevel", default_value = "")]
    pub proxy_component_log_level: String,
    /// Number of Envoy's worker threads; 0 for one per CPU.
    #[arg(long)]
    pub concurrency: Option<u32>,
    /// File for outlier detection events.
    #[arg(long = "outlierLogPath")]
    pub outlier_log_path: Option<String>,
}

/// Flags of `request`.
#[derive(Debug, Clone, Args)]
pub struct RequestFlags {
    /// Port on localhost: 15000, 15004, 15020 or 15021.
    #[arg(long = "debug-port", default_value_t = 15000)]
    pub debug_port: u16,
    /// HTTP method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Request body.
    pub body: Option<String>,
}

/// Flags of `wait`.
#[derive(Debug, Clone, Args)]
pub struct WaitFlags {
    /// Give up after this time, in seconds.
    #[arg(long = "timeoutSeconds", default_value_t = 60)]
    pub timeout_seconds: u64,
    /// Timeout of one request, in milliseconds.
    #[arg(long = "requestTimeoutMillis", default_value_t = 500)]
    pub request_timeout_millis: u64,
    /// Pause before each request, in milliseconds.
    #[arg(long = "periodMillis", default_value_t = 500)]
    pub period_millis: u64,
    /// URL to request.
    #[arg(long, default_value = "http://localhost:15021/healthz/ready")]
    pub url: String,
}

/// Flags of `probe`.
#[derive(Debug, Clone, Args)]
pub struct ProbeFlags {
    /// URL to request.
    #[arg(long)]
    pub url: String,
    /// Timeout of the request, in milliseconds.
    #[arg(long = "requestTimeoutMillis", default_value_t = 1000)]
    pub request_timeout_millis: u64,
}

/// Arguments of the hidden command that starts Envoy.
#[derive(Debug, Clone, Args)]
pub struct ExecFlags {
    /// Process id of the agent.
    #[arg(long)]
    pub parent: i32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// Flags of `istio-iptables`. Each can also be set by an environment variable: upper case, `-` as
/// `_`.
#[derive(Debug, Clone, Args, Default)]
pub struct IptablesFlags {
    /// Outbound capture port (15001).
    #[arg(short = 'p', long = "envoy-port")]
    pub envoy_port: Option<String>,
    /// Inbound capture port (15006).
    #[arg(short = 'z', long = "inbound-capture-port")]
    pub inbound_capture_port: Option<String>,
    /// Tunnel port, excluded from inbound capture (15008).
    #[arg(short = 'e', long = "inbound-tunnel-port")]
    pub inbound_tunnel_port: Option<String>,
    /// User ids of the proxy, comma-separated; by default the user $ENVOY_USER, else 1337.
    #[arg(short = 'u', long = "proxy-uid")]
    pub proxy_uid: Option<String>,
    /// Group ids of the proxy, comma-separated; the user ids by default.
    #[arg(short = 'g', long = "proxy-gid")]
    pub proxy_gid: Option<String>,
    /// Socket mark of the proxy, for proxies without a user id of their own; replaces the default
    /// user id.
    #[arg(long = "proxy-mark")]
    pub proxy_mark: Option<String>,
    /// REDIRECT (default) or TPROXY.
    #[arg(short = 'm', long = "istio-inbound-interception-mode")]
    pub inbound_interception_mode: Option<String>,
    /// Packet mark of TPROXY (1337).
    #[arg(short = 't', long = "istio-inbound-tproxy-mark")]
    pub tproxy_mark: Option<String>,
    /// Routing table of TPROXY (133).
    #[arg(short = 'r', long = "istio-inbound-tproxy-route-table")]
    pub tproxy_route_table: Option<String>,
    /// Inbound ports to capture: * or a comma-separated list; empty for none.
    #[arg(short = 'b', long = "istio-inbound-ports")]
    pub inbound_ports: Option<String>,
    /// Inbound ports to exclude, with -b '*'.
    #[arg(short = 'd', long = "istio-local-exclude-ports")]
    pub local_exclude_ports: Option<String>,
    /// Interfaces to exclude in both directions.
    #[arg(short = 'c', long = "istio-exclude-interfaces")]
    pub exclude_interfaces: Option<String>,
    /// Outbound destinations to capture: * or a comma-separated list of CIDR ranges; empty for
    /// none.
    #[arg(short = 'i', long = "istio-service-cidr")]
    pub service_cidr: Option<String>,
    /// Outbound CIDR ranges to exclude.
    #[arg(short = 'x', long = "istio-service-exclude-cidr")]
    pub service_exclude_cidr: Option<String>,
    /// Outbound ports to capture in addition to -i.
    #[arg(short = 'q', long = "istio-outbound-ports")]
    pub outbound_ports: Option<String>,
    /// Outbound ports to exclude.
    #[arg(short = 'o', long = "istio-local-outbound-ports-exclude")]
    pub local_outbound_ports_exclude: Option<String>,
    /// Interfaces whose incoming traffic is treated as outbound.
    #[arg(short = 'k', long = "kube-virt-interfaces")]
    pub kube_virt_interfaces: Option<String>,
    /// Print the rules without applying them.
    #[arg(short = 'n', long = "dry-run")]
    pub dry_run: bool,
    /// Do not apply the rules.
    #[arg(long = "skip-rule-apply")]
    pub skip_rule_apply: bool,
    /// Verify with a test connection that the rules work.
    #[arg(long = "run-validation")]
    pub run_validation: bool,
    /// Port of the test connection.
    #[arg(long = "iptables-probe-port", default_value_t = 15002)]
    pub iptables_probe_port: u16,
    /// Timeout of the test connection (5s).
    #[arg(long = "probe-timeout")]
    pub probe_timeout: Option<String>,
    /// Redirect DNS queries to the agent.
    #[arg(long = "redirect-dns")]
    pub redirect_dns: bool,
    /// Redirect DNS queries to any server to the agent.
    #[arg(long = "capture-all-dns")]
    pub capture_all_dns: bool,
    /// Drop packets in an invalid connection state.
    #[arg(long = "drop-invalid")]
    pub drop_invalid: bool,
    /// Write rules for both address families if the Pod has addresses of both.
    #[arg(long = "dual-stack")]
    pub dual_stack: bool,
    /// Refused: enter the network namespace before the call.
    #[arg(long = "network-namespace")]
    pub network_namespace: Option<String>,
    /// Refused: only the CNI plugin uses it.
    #[arg(long = "cni-mode")]
    pub cni_mode: bool,
    /// Replace existing rules that differ.
    #[arg(long)]
    pub reconcile: bool,
    /// Only remove the rules.
    #[arg(long = "cleanup-only")]
    pub cleanup_only: bool,
    /// Apply the rules even if they seem to be in place.
    #[arg(long = "force-apply")]
    pub force_apply: bool,
    /// Refused: rules are written with iptables.
    #[arg(long = "native-nftables")]
    pub native_nftables: bool,
    /// Variant of iptables to use: legacy or nft.
    #[arg(long = "force-iptables-binary")]
    pub force_iptables_binary: Option<String>,
}

/// Drops flags that the root command and `proxy` do not know, together with the value of `--flag
/// value` unless the next word is a flag. Other commands keep all words, so that mistakes there are
/// reported.
#[must_use]
pub fn known(words: impl IntoIterator<Item = String>) -> Vec<String> {
    let root = Cli::command();
    let Some(proxy) = root.find_subcommand("proxy") else {
        return words.into_iter().collect();
    };
    let mut words = words.into_iter().peekable();
    let mut kept: Vec<String> = words.next().into_iter().collect();
    let mut in_proxy = false;
    let mut in_other = false;
    while let Some(word) = words.next() {
        if in_other || !word.starts_with('-') || word == "-" {
            if !word.starts_with('-') && !in_proxy && !in_other {
                in_proxy = word == "proxy";
                in_other = !in_proxy;
            }
            kept.push(word);
            continue;
        }
        let name = word.split('=').next().unwrap_or_default();
        let takes = [Some(&root), in_proxy.then_some(proxy)]
            .into_iter()
            .flatten()
            .find_map(|of| takes_value(of, name));
        match takes {
            Some(takes_value) => {
                let separate = takes_value && !word.contains('=');
                kept.push(word);
                if separate {
                    kept.extend(words.next());
                }
            }
            None => {
                if !word.contains('=') && words.peek().is_some_and(|next| !next.starts_with('-')) {
                    words.next();
                }
            }
        }
    }
    kept
}

/// `None` for unknown flags, else whether the flag takes a value.
fn takes_value(command: &Command, flag: &str) -> Option<bool> {
    if matches!(flag, "--help" | "-h") {
        return Some(false);
    }
    let found = command
        .get_arguments()
        .find(|arg| match flag.strip_prefix("--") {
            Some(long) => arg.get_long() == Some(long),
            None => flag
                .strip_prefix('-')
                .is_some_and(|short| arg.get_short().is_some_and(|c| short.starts_with(c))),
        })?;
    Some(
        found.get_action().takes_values()
            && found
                .get_num_args()
                .is_none_or(|range| range.min_values() > 0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(line: &str) -> String {
        known(line.split(' ').map(str::to_owned)).join(" ")
    }

    #[test]
    fn unknown_flags_of_root_and_proxy_are_dropped_with_their_values() {
        assert_eq!(
            keep(
                "pilot-agent --future x proxy sidecar --domain d --parentShutdownDuration 1m0s --stsPort=1 --id i"
            ),
            "pilot-agent proxy sidecar --domain d --id i"
        );
        assert_eq!(
            keep("pilot-agent proxy --applicationPorts --concurrency 2"),
            "pilot-agent proxy --concurrency 2"
        );
    }

    #[test]
    fn other_commands_keep_every_word() {
        assert_eq!(
            keep("pilot-agent wait --nonsense 1"),
            "pilot-agent wait --nonsense 1"
        );
        assert_eq!(
            keep("pilot-agent istio-iptables -x  -b *"),
            "pilot-agent istio-iptables -x  -b *"
        );
    }

    #[test]
    fn role_is_checked() {
        let parse = |line: &str| Cli::try_parse_from(known(line.split(' ').map(str::to_owned)));
        assert!(parse("pilot-agent proxy ingress").is_err());
        assert!(parse("pilot-agent proxy router --whatever 1").is_ok());
    }
}
