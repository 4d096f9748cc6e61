//! The command line. Unknown flags of the root and of `proxy` are dropped first ([`known`]), so that an
//! old injection template does not stop a new agent.

use clap::{Args, Command, CommandFactory as _, Parser, Subcommand, ValueEnum};

/// Envoy bootstrap and life, workload certificates, probes and traffic capture of one Pod.
#[derive(Debug, Clone, Parser)]
#[command(name = "pilot-agent", disable_version_flag = true)]
pub struct Cli {
    /// Log flags, valid for every command.
    #[command(flatten)]
    pub log: mesh_common::args::LogArgs,
    /// What to do.
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
    /// Exit 0 if a URL answers 200, for images without a shell.
    Probe(ProbeFlags),
    /// Install the capture rules of this network namespace.
    IstioIptables(Box<IptablesFlags>),
    /// Remove the capture rules of this network namespace.
    IstioCleanIptables(Box<IptablesFlags>),
    /// Print the version.
    Version(mesh_common::version::Command),
    /// Become Envoy, dying with the agent. For the agent's own use.
    #[command(hide = true)]
    ExecEnvoy(ExecFlags),
}

/// Kind of proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Beside an application.
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

/// Flags of `proxy`. A flag that is given overrides the proxy configuration of the mesh.
#[derive(Debug, Clone, Args, Default)]
pub struct ProxyFlags {
    /// Kind of proxy.
    #[arg(value_enum)]
    pub role: Option<Role>,
    /// DNS domain of the proxy; default $POD_NAMESPACE.svc.cluster.local.
    #[arg(long)]
    pub domain: Option<String>,
    /// Name part of the node id; default $POD_NAME.$POD_NAMESPACE.
    #[arg(long)]
    pub id: Option<String>,
    /// Address of the proxy; default $INSTANCE_IP.
    #[arg(long)]
    pub ip: Option<String>,
    /// SPIFFE trust domain of the workload; default $TRUST_DOMAIN.
    #[arg(long = "trust-domain")]
    pub trust_domain: Option<String>,
    /// File with the mesh configuration; a missing file is no error.
    #[arg(long = "meshConfig", default_value = "/etc/istio/config/mesh")]
    pub mesh_config: String,
    /// Port of the status server.
    #[arg(long = "statusPort")]
    pub status_port: Option<u16>,
    /// Directory of the generated bootstrap.
    #[arg(long = "configPath")]
    pub config_path: Option<String>,
    /// The Envoy program.
    #[arg(long = "binaryPath")]
    pub binary_path: Option<String>,
    /// Node cluster, unless the proxy configuration names one.
    #[arg(long = "serviceCluster")]
    pub service_cluster: Option<String>,
    /// Time over which Envoy drains connections.
    #[arg(long = "drainDuration")]
    pub drain_duration: Option<String>,
    /// host:port of pilot.
    #[arg(long = "discoveryAddress")]
    pub discovery_address: Option<String>,
    /// Connect timeout towards pilot.
    #[arg(long = "connectTimeout")]
    pub connect_timeout: Option<String>,
    /// NONE or MUTUAL_TLS towards pilot.
    #[arg(long = "controlPlaneAuthPolicy")]
    pub control_plane_auth_policy: Option<String>,
    /// host:port of a Zipkin collector.
    #[arg(long = "zipkinAddress")]
    pub zipkin_address: Option<String>,
    /// host:port of a Datadog agent.
    #[arg(long = "datadogAgentAddress")]
    pub datadog_agent_address: Option<String>,
    /// Refused: Envoy has no such tracer any more.
    #[arg(long = "lightstepAddress")]
    pub lightstep_address: Option<String>,
    /// host:port of a statsd receiver.
    #[arg(long = "statsdUdpAddress")]
    pub statsd_udp_address: Option<String>,
    /// host:port of an Envoy metrics service.
    #[arg(long = "envoyMetricsServiceAddress")]
    pub envoy_metrics_service_address: Option<String>,
    /// Port of Envoy's admin interface.
    #[arg(long = "proxyAdminPort")]
    pub proxy_admin_port: Option<u16>,
    /// A bootstrap file that is used as it is.
    #[arg(long = "customConfigFile")]
    pub custom_config_file: Option<String>,
    /// A bootstrap template in Go's text/template syntax.
    #[arg(long = "templateFile")]
    pub template_file: Option<String>,
    /// Envoy's log level, optionally with levels by component: info,misc:error.
    #[arg(long = "proxyLogLevel", default_value = "warning")]
    pub proxy_log_level: String,
    /// Envoy's log levels by component, unless --proxyLogLevel has some.
    #[arg(long = "proxyComponentLogLevel", default_value = "")]
    pub proxy_component_log_level: String,
    /// Worker threads of Envoy; 0 = one for each CPU.
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
    /// Give up after this many seconds.
    #[arg(long = "timeoutSeconds", default_value_t = 60)]
    pub timeout_seconds: u64,
    /// Limit of one request, in milliseconds.
    #[arg(long = "requestTimeoutMillis", default_value_t = 500)]
    pub request_timeout_millis: u64,
    /// Pause before each request, in milliseconds.
    #[arg(long = "periodMillis", default_value_t = 500)]
    pub period_millis: u64,
    /// What to ask.
    #[arg(long, default_value = "http://localhost:15021/healthz/ready")]
    pub url: String,
}

/// Flags of `probe`.
#[derive(Debug, Clone, Args)]
pub struct ProbeFlags {
    /// What to ask.
    #[arg(long)]
    pub url: String,
    /// Limit of the request, in milliseconds.
    #[arg(long = "requestTimeoutMillis", default_value_t = 1000)]
    pub request_timeout_millis: u64,
}

/// Arguments of the hidden launcher.
#[derive(Debug, Clone, Args)]
pub struct ExecFlags {
    /// Process id of the agent.
    #[arg(long)]
    pub parent: i32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// Flags of `istio-iptables`. Each one can also be given as a variable: upper case, `-` as `_`.
#[derive(Debug, Clone, Args, Default)]
pub struct IptablesFlags {
    /// Outbound capture port (15001).
    #[arg(short = 'p', long = "envoy-port")]
    pub envoy_port: Option<String>,
    /// Inbound capture port (15006).
    #[arg(short = 'z', long = "inbound-capture-port")]
    pub inbound_capture_port: Option<String>,
    /// Tunnel port, never captured inbound (15008).
    #[arg(short = 'e', long = "inbound-tunnel-port")]
    pub inbound_tunnel_port: Option<String>,
    /// User ids of the proxy, comma list; default the user $ENVOY_USER, else 1337.
    #[arg(short = 'u', long = "proxy-uid")]
    pub proxy_uid: Option<String>,
    /// Group ids of the proxy, comma list; default the user ids.
    #[arg(short = 'g', long = "proxy-gid")]
    pub proxy_gid: Option<String>,
    /// Socket mark of the proxy, where it has no id of its own; replaces the default user id.
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
    /// Inbound ports: * or a comma list; empty captures nothing.
    #[arg(short = 'b', long = "istio-inbound-ports")]
    pub inbound_ports: Option<String>,
    /// Inbound ports to leave alone, with -b '*'.
    #[arg(short = 'd', long = "istio-local-exclude-ports")]
    pub local_exclude_ports: Option<String>,
    /// Interfaces to leave alone in both directions.
    #[arg(short = 'c', long = "istio-exclude-interfaces")]
    pub exclude_interfaces: Option<String>,
    /// Outbound destinations: * or a comma list of ranges; empty captures nothing.
    #[arg(short = 'i', long = "istio-service-cidr")]
    pub service_cidr: Option<String>,
    /// Outbound ranges to leave alone.
    #[arg(short = 'x', long = "istio-service-exclude-cidr")]
    pub service_exclude_cidr: Option<String>,
    /// Outbound ports to capture besides -i.
    #[arg(short = 'q', long = "istio-outbound-ports")]
    pub outbound_ports: Option<String>,
    /// Outbound ports to leave alone.
    #[arg(short = 'o', long = "istio-local-outbound-ports-exclude")]
    pub local_outbound_ports_exclude: Option<String>,
    /// Interfaces whose incoming traffic is treated as outbound.
    #[arg(short = 'k', long = "kube-virt-interfaces")]
    pub kube_virt_interfaces: Option<String>,
    /// Print the rules, change nothing.
    #[arg(short = 'n', long = "dry-run")]
    pub dry_run: bool,
    /// Do not install rules.
    #[arg(long = "skip-rule-apply")]
    pub skip_rule_apply: bool,
    /// Check by a test connection that the rules work.
    #[arg(long = "run-validation")]
    pub run_validation: bool,
    /// Port of the test connection.
    #[arg(long = "iptables-probe-port", default_value_t = 15002)]
    pub iptables_probe_port: u16,
    /// Limit of the test (5s).
    #[arg(long = "probe-timeout")]
    pub probe_timeout: Option<String>,
    /// Send name lookups to the agent.
    #[arg(long = "redirect-dns")]
    pub redirect_dns: bool,
    /// Send name lookups to any server to the agent.
    #[arg(long = "capture-all-dns")]
    pub capture_all_dns: bool,
    /// Drop packets in an invalid connection state.
    #[arg(long = "drop-invalid")]
    pub drop_invalid: bool,
    /// Rules for both families if both have addresses.
    #[arg(long = "dual-stack")]
    pub dual_stack: bool,
    /// Refused: enter the namespace before the call.
    #[arg(long = "network-namespace")]
    pub network_namespace: Option<String>,
    /// Refused: used by the CNI plugin only.
    #[arg(long = "cni-mode")]
    pub cni_mode: bool,
    /// Replace rules that differ.
    #[arg(long)]
    pub reconcile: bool,
    /// Only remove rules.
    #[arg(long = "cleanup-only")]
    pub cleanup_only: bool,
    /// Install the rules even if they seem to be in force.
    #[arg(long = "force-apply")]
    pub force_apply: bool,
    /// Refused: rules are written by iptables.
    #[arg(long = "native-nftables")]
    pub native_nftables: bool,
    /// legacy or nft.
    #[arg(long = "force-iptables-binary")]
    pub force_iptables_binary: Option<String>,
}

/// Drops flags that the root and `proxy` do not know. `--flag value` loses its value too, unless the next
/// word is a flag. Other commands keep every word, so that a mistake there is told.
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

/// Whether a command knows the flag, and then whether a value follows it.
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
