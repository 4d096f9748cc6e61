//! Command line: the flags of Istio 1.1 and ours.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand};
use mesh_common::args::{KubeArgs, LogArgs, MonitoringArgs, OwnerArgs};
use mesh_common::version;
use mesh_core::duration::parse as duration;

/// Certificate authority of the mesh.
#[derive(Clone, Debug, Parser)]
#[command(name = "citadel", args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Something else than to run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
    /// Introspection.
    #[command(flatten)]
    pub monitoring: MonitoringArgs,
    /// Which API server.
    #[command(flatten)]
    pub kube: KubeArgs,
    /// What is done in a cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Where the authority's key comes from.
    #[command(flatten)]
    pub authority: AuthorityArgs,
    /// Who may have a certificate, and for how long.
    #[command(flatten)]
    pub issuance: IssuanceArgs,
    /// Ports and names of this process.
    #[command(flatten)]
    pub serving: ServingArgs,
    /// Flags of 1.1 that this process has no use for.
    #[command(flatten)]
    pub unused: UnusedArgs,
}

/// Subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Prints what was built.
    Version(version::Command),
    /// Checks the age of the file that a running citadel touches.
    Probe {
        /// The file.
        #[arg(long = "probe-path")]
        path: PathBuf,
        /// Oldest age that is good.
        #[arg(long, value_parser = duration)]
        interval: Duration,
    },
}

/// What is done in a cluster of Kubernetes. There is one when --kubeconfig names it, or in a
/// container of Kubernetes, unless a directory is given for what the cluster would keep.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterArgs {
    /// Keeps certificates of galley, pilot and the sidecar injector in Secrets of the control
    /// plane's namespace.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set)]
    pub control_plane_secrets: bool,
    /// Refuses callers with a certificate whose ServiceAccount is gone.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set)]
    pub renewal_requires_service_account: bool,
    /// ConfigMap, in every namespace, with the roots.
    #[arg(
        long,
        env = "PILOT_CA_CERT_CONFIGMAP",
        default_value = "istio-ca-root-cert"
    )]
    pub root_cert_configmap: String,
    /// Who owns the ConfigMaps and the Lease.
    #[command(flatten)]
    pub owner: OwnerArgs,
    /// As 1.1 spelled --kubeconfig.
    #[arg(long, default_value = "", hide = true)]
    pub kube_config: String,
    /// Every container of Kubernetes has it in its environment.
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", default_value = "", hide = true)]
    pub kubernetes_service_host: String,
    /// Name of this process in the election; empty for that of the host.
    #[arg(long, env = "POD_NAME", default_value = "", hide = true)]
    pub pod_name: String,
}

/// Key and certificates of the authority.
#[derive(Clone, Debug, clap::Args)]
pub struct AuthorityArgs {
    /// Keeps an own root, in a cluster in Secret istio-ca-secret, else in --self-signed-ca-dir.
    /// Files in --root-ca-dir go first.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, action = ArgAction::Set)]
    pub self_signed_ca: bool,
    /// Directory of the self-signed root: ca-cert.pem, ca-key.pem and root-cert.pem. Without a
    /// cluster: ./etc/self-signed-ca.
    #[arg(long)]
    pub self_signed_ca_dir: Option<PathBuf>,
    /// Lifetime of the self-signed root.
    #[arg(long, env = "CITADEL_SELF_SIGNED_CA_CERT_TTL", default_value = "87600h", value_parser = duration)]
    pub self_signed_ca_cert_ttl: Duration,
    /// Key of a new self-signed root.
    #[arg(long, default_value = "rsa2048", value_parser = ["rsa2048", "rsa3072", "rsa4096", "p256", "p384"])]
    pub self_signed_ca_key: String,
    /// How often the end of the self-signed root is looked at; 0s for never.
    #[arg(long, env = "CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL", default_value = "1h", value_parser = duration)]
    pub root_cert_check_interval: Duration,
    /// The self-signed root is renewed when less than this share of its lifetime is left.
    #[arg(long, env = "CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE", default_value_t = 20,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub root_cert_grace_percent: u8,
    /// Delays the first look at the root by a random part of the interval.
    #[arg(long, env = "CITADEL_ENABLE_JITTER_FOR_ROOT_CERT_ROTATOR", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value_t = true, action = ArgAction::Set)]
    pub root_cert_check_jitter: bool,
    /// Never makes a self-signed root: waits until another process has made it.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, action = ArgAction::Set)]
    pub read_signing_cert_only: bool,
    /// Directory of an authority that others provide: ca-cert.pem, ca-key.pem, cert-chain.pem and
    /// root-cert.pem, or tls.crt, tls.key and ca.crt.
    #[arg(long, env = "ROOT_CA_DIR", default_value = "./etc/cacerts")]
    pub root_ca_dir: PathBuf,
    /// Provided signing certificate.
    #[arg(long, default_value = "")]
    pub signing_cert: String,
    /// Provided signing key.
    #[arg(long, default_value = "")]
    pub signing_key: String,
    /// Provided intermediates; may be empty.
    #[arg(long, default_value = "")]
    pub cert_chain: String,
    /// Provided trust anchors.
    #[arg(long, default_value = "")]
    pub root_cert: String,
    /// Accepts other anchors from changed files, when they are added to or taken from the current.
    #[arg(long, env = "ISTIO_MULTIROOT_MESH", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value_t = false, action = ArgAction::Set)]
    pub multi_root: bool,
}

/// Callers and lifetimes.
#[derive(Clone, Debug, clap::Args)]
pub struct IssuanceArgs {
    /// Trust domain of all identities.
    #[arg(long, default_value = "")]
    pub trust_domain: String,
    /// Earlier names of the trust domain; callers with such certificates get current ones.
    #[arg(long, value_delimiter = ',')]
    pub trust_domain_aliases: Vec<String>,
    /// Lifetime for callers that ask for none.
    #[arg(long, env = "DEFAULT_WORKLOAD_CERT_TTL", default_value = "24h", value_parser = duration)]
    pub workload_cert_ttl: Duration,
    /// Longest lifetime.
    #[arg(long, env = "MAX_WORKLOAD_CERT_TTL", default_value = "2160h", value_parser = duration)]
    pub max_workload_cert_ttl: Duration,
    /// Shortest lifetime; 0s for none.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub min_workload_cert_ttl: Duration,
    /// Puts the identity into the common name, too, where it fits.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, action = ArgAction::Set)]
    pub experimental_dual_use: bool,
    /// Keys (JWKS) of the issuer of ServiceAccount tokens. In a cluster the API server checks
    /// tokens, too; without both only certificates count.
    #[arg(long)]
    pub jwks_file: Option<PathBuf>,
    /// Issuer that tokens must name.
    #[arg(
        long,
        visible_alias = "oidc-issuer",
        env = "TOKEN_ISSUER",
        default_value = ""
    )]
    pub jwt_issuer: String,
    /// Audiences of which a token must name one.
    #[arg(
        long,
        visible_alias = "oidc-audience",
        env = "TOKEN_AUDIENCES",
        default_value = "istio-ca",
        value_delimiter = ','
    )]
    pub token_audiences: Vec<String>,
    /// Name of this cluster in the metadata of callers.
    #[arg(long, default_value = "Kubernetes")]
    pub cluster_id: String,
    /// Serves HandleCSR of 1.1, for callers with a certificate.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set)]
    pub enable_legacy_csr_api: bool,
    /// Would let node agents act for others; refused, as it needs Kubernetes.
    #[arg(
        long,
        env = "CA_TRUSTED_NODE_ACCOUNTS",
        default_value = "",
        hide = true
    )]
    pub ca_trusted_node_accounts: String,
}

/// Ports, names and files of this process and of the control plane.
#[derive(Clone, Debug, clap::Args)]
pub struct ServingArgs {
    /// Port of the CSR services; 0 or less for none.
    #[arg(long, default_value_t = 8060, allow_negative_numbers = true)]
    pub grpc_port: i32,
    /// Address that all ports are bound to.
    #[arg(long, default_value = "0.0.0.0")]
    pub listen_address: std::net::IpAddr,
    /// Further DNS names of the certificate of the CSR port.
    #[arg(
        long,
        visible_alias = "grpc-hostname",
        default_value = "istio-ca,istio-citadel",
        value_delimiter = ','
    )]
    pub grpc_host_identities: Vec<String>,
    /// Port of /metrics, /ready, /healthz and /version.
    #[arg(long, default_value_t = 15014)]
    pub monitoring_port: u16,
    /// Namespace of the control plane.
    #[arg(long, env = "POD_NAMESPACE", default_value = "istio-system")]
    pub citadel_storage_namespace: String,
    /// DNS domain of the cluster.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Directory for certificates of the other control-plane processes, one subdirectory each,
    /// and for root-cert.pem. Without it no files are written.
    #[arg(long)]
    pub control_plane_certs_dir: Option<PathBuf>,
    /// Puts DNS names into the certificates of the control plane.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set)]
    pub append_dns_names: bool,
    /// Further DNS names of them, as ACCOUNT.NAMESPACE:DOMAIN,…
    #[arg(long, default_value = "")]
    pub custom_dns_names: String,
    /// File that is touched while this process is healthy, for `probe`.
    #[arg(long, default_value = "")]
    pub liveness_probe_path: String,
    /// Age of that file at which `probe` fails; 0s for no file.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub liveness_probe_interval: Duration,
    /// How often this process asks itself for a certificate.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub probe_check_interval: Duration,
}

/// Accepted for command lines of 1.1; some of them only with their default.
#[derive(Clone, Debug, clap::Args)]
pub struct UnusedArgs {
    /// Must stay true: certificates reach workloads over SDS, not as Secrets.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set, hide = true)]
    pub server_only: bool,
    /// Must stay false: workloads do not become authorities.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, action = ArgAction::Set, hide = true)]
    pub sign_ca_certs: bool,
    /// Must stay empty.
    #[arg(long, default_value = "", hide = true)]
    pub upstream_ca_address: String,
    /// Tokens are always accepted when there are keys, or a cluster, to check them with.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, action = ArgAction::Set, hide = true)]
    pub sds_enabled: bool,
    /// No effect.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, action = ArgAction::Set, hide = true)]
    pub enable_profiling: bool,
    /// No effect.
    #[arg(long, default_value_t = 2048, hide = true)]
    pub key_size: u32,
    /// No effect.
    #[arg(long, default_value = "", hide = true)]
    pub listened_namespace: String,
    /// No effect.
    #[arg(long, default_value = "", hide = true)]
    pub listened_namespaces: String,
    /// No effect.
    #[arg(long, default_value = "", hide = true)]
    pub org: String,
    /// No effect.
    #[arg(long, default_value = "8760h", value_parser = duration, hide = true)]
    pub requested_ca_cert_ttl: Duration,
    /// No effect.
    #[arg(long, default_value_t = 0.5, hide = true)]
    pub workload_cert_grace_period_ratio: f64,
    /// No effect.
    #[arg(long, default_value = "10m", value_parser = duration, hide = true)]
    pub workload_cert_min_grace_period: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults() {
        let args = Args::parse_from(["citadel"]);
        assert_eq!(args.serving.grpc_port, 8060);
        assert_eq!(args.serving.monitoring_port, 15014);
        assert_eq!(
            args.issuance.workload_cert_ttl,
            Duration::from_secs(24 * 3600)
        );
        assert_eq!(args.issuance.token_audiences, ["istio-ca"]);
        assert!(args.issuance.enable_legacy_csr_api && args.unused.server_only);
    }

    #[test]
    fn command_line_of_the_1_1_chart_is_accepted() {
        let args = Args::parse_from([
            "citadel",
            "--sds-enabled=true",
            "--append-dns-names=true",
            "--grpc-port=8060",
            "--grpc-hostname=citadel",
            "--citadel-storage-namespace=istio-system",
            "--custom-dns-names=istio-pilot-service-account.istio-system:istio-pilot.istio-system",
            "--monitoring-port=15014",
            "--self-signed-ca=true",
        ]);
        assert!(args.authority.self_signed_ca);
        assert_eq!(args.serving.grpc_host_identities, ["citadel"]);
    }

    #[test]
    fn subcommands() {
        let args = Args::parse_from([
            "citadel",
            "probe",
            "--probe-path",
            "/x",
            "--interval",
            "10s",
        ]);
        assert!(
            matches!(args.command, Some(Command::Probe { interval, .. }) if interval.as_secs() == 10)
        );
        assert!(Args::try_parse_from(["citadel", "probe", "--probe-path", "/x"]).is_err());
        assert!(matches!(
            Args::parse_from(["citadel", "version", "-s"]).command,
            Some(Command::Version(_))
        ));
    }
}
