//! Command line.

use clap::{Parser, Subcommand, ValueEnum};
use mesh_common::args::{KubeArgs, LogArgs, MonitoringArgs};
use std::path::PathBuf;
use std::time::Duration;

/// Command line of the injector.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "sidecar-injector",
    about = "Kubernetes webhook that injects the proxy into Pods"
)]
#[command(disable_version_flag = true, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Settings of the webhook.
    #[command(flatten)]
    pub serve: Serve,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
    /// Subcommand; without one the webhook is served.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Settings of the webhook.
#[derive(Clone, Debug, clap::Args)]
pub struct Serve {
    /// Injection configuration: policy, selectors, templates
    #[arg(long = "injectConfig", default_value = "/etc/istio/inject/config")]
    pub inject_config: PathBuf,
    /// Values for the templates
    #[arg(long = "injectValues", default_value = "/etc/istio/inject/values")]
    pub inject_values: PathBuf,
    /// Mesh configuration
    #[arg(long = "meshConfig", default_value = "/etc/istio/config/mesh")]
    pub mesh_config: PathBuf,
    /// Certificate chain of the webhook, PEM
    #[arg(
        long = "tlsCertFile",
        default_value = "/etc/istio/certs/cert-chain.pem"
    )]
    pub tls_cert_file: PathBuf,
    /// Private key of the webhook, PEM
    #[arg(long = "tlsKeyFile", default_value = "/etc/istio/certs/key.pem")]
    pub tls_key_file: PathBuf,
    /// Certificates that verify the webhook's certificate, PEM
    #[arg(long = "caCertFile", default_value = "/etc/istio/certs/root-cert.pem")]
    pub ca_cert_file: PathBuf,
    /// Port of the webhook; 0 for any free port
    #[arg(long, default_value_t = 443)]
    pub port: u16,
    /// Port of /metrics, /ready, /healthz and /version; 0 for any free port
    #[arg(long = "monitoringPort", default_value_t = 15014)]
    pub monitoring_port: u16,
    /// How often to write the health file; 0s for never
    #[arg(long = "healthCheckInterval", default_value = "0s", value_parser = mesh_core::duration::parse)]
    pub health_check_interval: Duration,
    /// File that is written while the injector is ready
    #[arg(long = "healthCheckFile", default_value = "")]
    pub health_check_file: String,
    /// Revision of this injector
    #[arg(long, default_value = "default")]
    pub revision: String,
    /// Run the proxy as a native sidecar unless the Pod says otherwise; auto means true, as every
    /// supported Kubernetes has native sidecars
    #[arg(
        long = "nativeSidecars",
        env = "ENABLE_NATIVE_SIDECARS",
        default_value = "auto"
    )]
    pub native_sidecars: NativeSidecars,
    /// MutatingWebhookConfiguration whose caBundle is kept up to date
    #[arg(long = "webhookConfigName", default_value = "istio-sidecar-injector")]
    pub webhook_config_name: String,
    /// Suffix of the names of the webhooks in it that belong to this injector
    #[arg(long = "webhookName", default_value = "sidecar-injector.istio.io")]
    pub webhook_name: String,
    /// Keep the caBundle up to date; false if something else does
    #[arg(
        long = "reconcileWebhookConfig",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub reconcile_webhook_config: bool,
    /// Connection to the API server.
    #[command(flatten)]
    pub kube: KubeArgs,
    /// Introspection.
    #[command(flatten)]
    pub monitoring: MonitoringArgs,
}

/// Use of native sidecars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NativeSidecars {
    /// If supported.
    Auto,
    /// Always.
    True,
    /// Never.
    False,
}

/// Subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Check that the health file was written recently
    Probe(Probe),
    /// Print the version
    Version(mesh_common::version::Command),
    /// Inject the Pod in a file and print the result, to try out templates
    Render(Render),
}

/// Settings of `probe`.
#[derive(Clone, Debug, clap::Args)]
pub struct Probe {
    /// Path of the health file
    #[arg(long = "probe-path")]
    pub path: PathBuf,
    /// Interval at which it is written
    #[arg(long, value_parser = mesh_core::duration::parse)]
    pub interval: Duration,
}

/// Settings of `render`.
#[derive(Clone, Debug, clap::Args)]
pub struct Render {
    /// Injection configuration [default: built in]
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Values for the templates
    #[arg(long)]
    pub values: Option<PathBuf>,
    /// Mesh configuration
    #[arg(long)]
    pub mesh: Option<PathBuf>,
    /// The Pod, YAML or JSON
    #[arg(long)]
    pub pod: PathBuf,
    /// Namespace of a Pod that does not name one
    #[arg(long, default_value = "default")]
    pub namespace: String,
    /// Print the JSON patch instead of the Pod
    #[arg(long)]
    pub patch: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_has_a_default() {
        let args = Args::try_parse_from(["sidecar-injector"]).unwrap();
        assert!(args.serve.health_check_file.is_empty());
        assert_eq!((args.serve.port, args.serve.monitoring_port), (443, 15014));
    }

    #[test]
    fn commands_have_their_own_arguments() {
        for line in [
            &["sidecar-injector", "version", "-s"][..],
            &["sidecar-injector", "render", "--pod", "p.yaml"],
            &[
                "sidecar-injector",
                "probe",
                "--probe-path",
                "/health",
                "--interval",
                "2s",
            ],
        ] {
            assert!(Args::try_parse_from(line).unwrap().command.is_some());
        }
        for line in [
            &["sidecar-injector", "extra"][..],
            &["sidecar-injector", "--unknown"],
            &["sidecar-injector", "probe"],
            &["sidecar-injector", "render"],
        ] {
            assert!(Args::try_parse_from(line).is_err(), "{line:?}");
        }
    }
}
