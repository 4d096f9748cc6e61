//! Command line: the flags of Istio 1.1 and those of this project.

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
    /// Subcommand; without one the process serves.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
    /// Introspection.
    #[command(flatten)]
    pub monitoring: MonitoringArgs,
    /// Connection to the API server.
    #[command(flatten)]
    pub kube: KubeArgs,
    /// Duties in a cluster.
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
    /// Flags of 1.1 that have no effect here.
    #[command(flatten)]
    pub unused: UnusedArgs,
}

/// Subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Prints the version.
    Version(version::Command),
    /// Checks how long ago a running citadel touched its probe file.
    Probe {
        /// Path of the probe file.
        #[arg(long = "probe-path")]
        path: PathBuf,
        /// Highest accepted age of the file.
        #[arg(long, value_parser = duration)]
        interval: Duration,
    },
}

/// Duties in a Kubernetes cluster. A cluster is used when --kubeconfig is given or the process runs
/// in a Pod, unless a directory is given for the data that the cluster would hold.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterArgs {
    /// Keep the certificates of galley, pilot and the sidecar injector as Secrets in the namespace
    /// of the control plane.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set)]
    pub control_plane_secrets: bool,
    /// Refuse client certificates whose ServiceAccount no longer exists.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set)]
    pub renewal_requires_service_account: bool,
    /// Name of the ConfigMap that holds the root certificates in every namespace.
    #[arg(
        long,
        env = "PILOT_CA_CERT_CONFIGMAP",
        default_value = "istio-ca-root-cert"
    )]
    pub root_cert_configmap: String,
    /// Owner of the ConfigMaps and the Lease.
    #[command(flatten)]
    pub owner: OwnerArgs,
    /// Spelling of --kubeconfig in 1.1.
    #[arg(long, default_value = "", hide = true)]
    pub kube_config: String,
    /// Set by Kubernetes in every container.
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", default_value = "", hide = true)]
    pub kubernetes_service_host: String,
    /// Name of this replica in the leader election; the host name if empty.
    #[arg(long, env = "POD_NAME", default_value = "", hide = true)]
    pub pod_name: String,
}

/// Key and certificates of the authority.
#[derive(Clone, Debug, clap::Args)]
pub struct AuthorityArgs {
    /// Use a self-signed root, kept in the Secret istio-ca-secret or, without a cluster, in
    /// --self-signed-ca-dir. Files in --root-ca-dir take precedence.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, action = ArgAction::Set)]
    pub self_signed_ca: bool,
    /// Directory of the self-signed root: ca-cert.pem, ca-key.pem and root-cert.pem. Default
    /// without a cluster: ./etc/self-signed-ca.
    #[arg(long)]
    pub self_signed_ca_dir: Option<PathBuf>,
    /// Lifetime of the self-signed root.
    #[arg(long, env = "CITADEL_SELF_SIGNED_CA_CERT_TTL", default_value = "87600h", value_parser = duration)]
    pub self_signed_ca_cert_ttl: Duration,
    /// Key type of a new self-signed root.
    #[arg(long, default_value = "rsa2048", value_parser = ["rsa2048", "rsa3072", "rsa4096", "p256", "p384"])]
    pub self_signed_ca_key: String,
    /// How often to check whether the self-signed root is due for renewal; 0s for never.
    #[arg(long, env = "CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL", default_value = "1h", value_parser = duration)]
    pub root_cert_check_interval: Duration,
    /// Renew the self-signed root when less than this percentage of its lifetime is left.
    #[arg(long, env = "CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE", default_value_t = 20,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub root_cert_grace_percent: u8,
    /// Delay the first check of the root by a random part of the interval.
    #[arg(long, env = "CITADEL_ENABLE_JITTER_FOR_ROOT_CERT_ROTATOR", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value_t = true, action = ArgAction::Set)]
    pub root_cert_check_jitter: bool,
    /// Never create a self-signed root; wait until another process has created it.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, action = ArgAction::Set)]
    pub read_signing_cert_only: bool,
    /// Directory of a provided certificate authority: ca-cert.pem, ca-key.pem, cert-chain.pem and
    /// root-cert.pem, or tls.crt, tls.key and ca.crt.
    #[arg(long, env = "ROOT_CA_DIR", default_value = "./etc/cacerts")]
    pub root_ca_dir: PathBuf,
    /// File with the provided signing certificate.
    #[arg(long, default_value = "")]
    pub signing_cert: String,
    /// File with the provided signing key.
    #[arg(long, default_value = "")]
    pub signing_key: String,
    /// File with the provided intermediate certificates; optional.
    #[arg(long, default_value = "")]
    pub cert_chain: String,
    /// File with the provided root certificates.
    #[arg(long, default_value = "")]
    pub root_cert: String,
    /// Accept changed root certificates in the files when they add to the current ones or remove
    /// some.
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
    /// Former names of the trust domain; a certificate with such a name is renewed under the
    /// current name.
    #[arg(long, value_delimiter = ',')]
    pub trust_domain_aliases: Vec<String>,
    /// Lifetime of a certificate when the caller does not request one.
    #[arg(long, env = "DEFAULT_WORKLOAD_CERT_TTL", default_value = "24h", value_parser = duration)]
    pub workload_cert_ttl: Duration,
    /// Longest lifetime that a caller may request.
    #[arg(long, env = "MAX_WORKLOAD_CERT_TTL", default_value = "2160h", value_parser = duration)]
    pub max_workload_cert_ttl: Duration,
    /// Shortest lifetime that a caller may request; 0s for no limit.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub min_workload_cert_ttl: Duration,
    /// Also put the identity into the common name, if it fits.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, action = ArgAction::Set)]
    pub experimental_dual_use: bool,
    /// Public keys (JWKS) of the issuer of ServiceAccount tokens. In a cluster the API server
    /// checks tokens as well; with neither, only client certificates are accepted.
    #[arg(long)]
    pub jwks_file: Option<PathBuf>,
    /// Required issuer of tokens.
    #[arg(
        long,
        visible_alias = "oidc-issuer",
        env = "TOKEN_ISSUER",
        default_value = ""
    )]
    pub jwt_issuer: String,
    /// Accepted audiences; a token must name at least one of them.
    #[arg(
        long,
        visible_alias = "oidc-audience",
        env = "TOKEN_AUDIENCES",
        default_value = "istio-ca",
        value_delimiter = ','
    )]
    pub token_audiences: Vec<String>,
    /// Name of this cluster as callers give it in their metadata.
    #[arg(long, default_value = "Kubernetes")]
    pub cluster_id: String,
    /// Serve HandleCSR of 1.1, for callers with a certificate.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set)]
    pub enable_legacy_csr_api: bool,
    /// Node agents that may request certificates for others. Refused: impersonation needs
    /// Kubernetes.
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
    /// Port of the certificate services; 0 or less to disable them.
    #[arg(long, default_value_t = 8060, allow_negative_numbers = true)]
    pub grpc_port: i32,
    /// Address to listen on, for all ports.
    #[arg(long, default_value = "0.0.0.0")]
    pub listen_address: std::net::IpAddr,
    /// Additional DNS names in the certificate of --grpc-port.
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
    /// Directory for the certificates of the other control-plane processes, with one subdirectory
    /// each, and for root-cert.pem. Without it no files are written.
    #[arg(long)]
    pub control_plane_certs_dir: Option<PathBuf>,
    /// Put DNS names into the certificates of the control plane.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set)]
    pub append_dns_names: bool,
    /// Additional DNS names of those certificates, as ACCOUNT.NAMESPACE:DOMAIN,…
    #[arg(long, default_value = "")]
    pub custom_dns_names: String,
    /// Probe file, touched while this process is healthy; see `citadel probe`.
    #[arg(long, default_value = "")]
    pub liveness_probe_path: String,
    /// Age of the probe file at which `probe` fails; 0s for no file.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub liveness_probe_interval: Duration,
    /// How often this process requests a certificate from itself.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub probe_check_interval: Duration,
}

/// Accepted for command lines of 1.1, some of them only with the default value.
#[derive(Clone, Debug, clap::Args)]
pub struct UnusedArgs {
    /// Must stay true: certificates reach workloads over SDS, not as Secrets.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set, hide = true)]
    pub server_only: bool,
    /// Must stay false: workloads cannot become certificate authorities.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, action = ArgAction::Set, hide = true)]
    pub sign_ca_certs: bool,
    /// Must stay empty.
    #[arg(long, default_value = "", hide = true)]
    pub upstream_ca_address: String,
    /// Tokens are always accepted when there are keys, or a cluster, to check them.
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
