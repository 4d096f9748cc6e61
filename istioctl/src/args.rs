//! Arguments of the commands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use istio_rules::analysis::{Level, Suppression};

/// Flags of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Kubeconfig file [default: $KUBECONFIG, ~/.kube/config, or the service account of the Pod]
    #[arg(
        short = 'c',
        long,
        global = true,
        env = "ISTIOCTL_KUBECONFIG",
        value_name = "FILE"
    )]
    pub kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig [default: the current context]
    #[arg(long, global = true, env = "ISTIOCTL_CONTEXT")]
    pub context: Option<String>,
    /// Namespace of objects without one [default: that of the context, or default]
    #[arg(short, long, global = true, env = "ISTIOCTL_NAMESPACE")]
    pub namespace: Option<String>,
    /// Namespace of the control plane
    #[arg(
        short,
        long,
        global = true,
        env = "ISTIOCTL_ISTIONAMESPACE",
        default_value = "istio-system"
    )]
    pub istio_namespace: String,
}

/// Arguments of `analyze`.
#[derive(Debug, Args)]
pub struct Analyze {
    /// Files, directories, or - for standard input
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Analyze the cluster, too; files replace its objects with the same names
    #[arg(short = 'k', long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set)]
    pub use_kube: bool,
    /// Show messages about all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Form::Log)]
    pub output: Form,
    /// Lowest level of messages to show: Info, Warning or Error
    #[arg(long, default_value = "Info", value_parser = level)]
    pub output_threshold: Level,
    /// Lowest level of messages that end with exit status 79: Info, Warning or Error
    #[arg(long, default_value = "Error", value_parser = level)]
    pub failure_threshold: Level,
    /// Suppress messages: CODE=KIND NAMESPACE/NAME, where * matches any text
    #[arg(short = 'S', long, value_name = "CODE=OBJECT", value_parser = Suppression::parse)]
    pub suppress: Vec<Suppression>,
    /// List the analyzers and the kinds that they need
    #[arg(short = 'L', long)]
    pub list_analyzers: bool,
    /// Run only this analyzer; may be repeated
    #[arg(long = "analyzer", value_name = "NAME")]
    pub analyzers: Vec<String>,
    /// Mesh configuration file, instead of the cluster's configuration
    #[arg(long = "meshConfigFile", value_name = "FILE")]
    pub mesh_config_file: Option<PathBuf>,
    /// Timeout of reading the cluster
    #[arg(long, default_value = "30s", value_parser = time)]
    pub timeout: Duration,
    /// Do not fail because of documents that cannot be read
    #[arg(long)]
    pub ignore_unknown: bool,
    /// Revision of the control plane whose configuration is used
    #[arg(short, long, default_value = "default")]
    pub revision: String,
    /// No effect, accepted for compatibility: directories are always read recursively
    #[arg(short = 'R', long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set)]
    pub recursive: bool,
    /// Colored output [default: on a terminal]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          action = ArgAction::Set)]
    pub color: Option<bool>,
    /// Print which analyzers ran and which were skipped
    #[arg(short, long)]
    pub verbose: bool,
}

/// Arguments of `kube-inject`.
#[derive(Debug, Args)]
pub struct KubeInject {
    /// Manifest: a file, or - for standard input
    #[arg(short, long, value_name = "FILE", required = true)]
    pub filename: PathBuf,
    /// Output file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// File with the injection configuration, instead of the cluster's
    #[arg(
        long = "injectConfigFile",
        value_name = "FILE",
        conflicts_with = "inject_config_map"
    )]
    pub inject_config_file: Option<PathBuf>,
    /// ConfigMap with the injection configuration and the values
    #[arg(
        long = "injectConfigMapName",
        value_name = "NAME",
        default_value = "istio-sidecar-injector"
    )]
    pub inject_config_map: String,
    /// File with the values of the templates, instead of the cluster's
    #[arg(long = "valuesFile", value_name = "FILE")]
    pub values_file: Option<PathBuf>,
    /// Mesh configuration file, instead of the cluster's
    #[arg(
        long = "meshConfigFile",
        value_name = "FILE",
        conflicts_with = "mesh_config_map"
    )]
    pub mesh_config_file: Option<PathBuf>,
    /// ConfigMap with the mesh configuration
    #[arg(
        long = "meshConfigMapName",
        value_name = "NAME",
        default_value = "istio"
    )]
    pub mesh_config_map: String,
    /// Revision of the control plane: suffix of the ConfigMaps' names, and revision of the Pods
    #[arg(short, long, default_value = "default")]
    pub revision: String,
}

/// Output format of `analyze`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Text lines.
    Log,
    /// A JSON list.
    Json,
    /// A YAML list.
    Yaml,
}

fn level(text: &str) -> Result<Level, String> {
    Level::parse(text).ok_or_else(|| "want Info, Warning or Error".to_owned())
}

fn time(text: &str) -> Result<Duration, String> {
    let time = istio_api::duration::parse(text).map_err(|error| error.to_string())?;
    Duration::try_from(time)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "want a duration above zero, such as 30s".to_owned())
}
