//! Arguments of the commands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use istio_rules::analysis::{Level, Suppression};

/// Flags of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// File that says how to reach the cluster [default: $KUBECONFIG, ~/.kube/config, the own pod]
    #[arg(
        short = 'c',
        long,
        global = true,
        env = "ISTIOCTL_KUBECONFIG",
        value_name = "FILE"
    )]
    pub kubeconfig: Option<PathBuf>,
    /// Context of that file [default: its current one]
    #[arg(long, global = true, env = "ISTIOCTL_CONTEXT")]
    pub context: Option<String>,
    /// Namespace of objects that name none [default: that of the context, or default]
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
    /// Look at the cluster, too; files count instead of its objects of the same names
    #[arg(short = 'k', long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set)]
    pub use_kube: bool,
    /// Show messages about all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Form::Log)]
    pub output: Form,
    /// Show messages that are at least so bad: Info, Warning or Error
    #[arg(long, default_value = "Info", value_parser = level)]
    pub output_threshold: Level,
    /// Exit with code 79 for messages that are at least so bad
    #[arg(long, default_value = "Error", value_parser = level)]
    pub failure_threshold: Level,
    /// Leave messages out: CODE=KIND NAMESPACE/NAME, where * stands for any text
    #[arg(short = 'S', long, value_name = "CODE=OBJECT", value_parser = Suppression::parse)]
    pub suppress: Vec<Suppression>,
    /// List the analyzers and the kinds that they look at
    #[arg(short = 'L', long)]
    pub list_analyzers: bool,
    /// Run only this analyzer; may be given several times
    #[arg(long = "analyzer", value_name = "NAME")]
    pub analyzers: Vec<String>,
    /// Settings of the mesh, instead of those of the cluster
    #[arg(long = "meshConfigFile", value_name = "FILE")]
    pub mesh_config_file: Option<PathBuf>,
    /// Longest time that reading the cluster may take
    #[arg(long, default_value = "30s", value_parser = time)]
    pub timeout: Duration,
    /// Do not fail for documents that cannot be read
    #[arg(long)]
    pub ignore_unknown: bool,
    /// Revision of the control plane whose settings count
    #[arg(short, long, default_value = "default")]
    pub revision: String,
    /// Taken for the sake of scripts: directories of directories are always looked into
    #[arg(short = 'R', long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set)]
    pub recursive: bool,
    /// Colours [default: on a terminal]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          action = ArgAction::Set)]
    pub color: Option<bool>,
    /// Say which analyzers ran and which did not
    #[arg(short, long)]
    pub verbose: bool,
}

/// Arguments of `kube-inject`.
#[derive(Debug, Args)]
pub struct KubeInject {
    /// Manifests: a file, or - for standard input
    #[arg(short, long, value_name = "FILE", required = true)]
    pub filename: PathBuf,
    /// Where the result goes [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Injection configuration, instead of the cluster's
    #[arg(
        long = "injectConfigFile",
        value_name = "FILE",
        conflicts_with = "inject_config_map"
    )]
    pub inject_config_file: Option<PathBuf>,
    /// ConfigMap of the cluster with the injection configuration and the values
    #[arg(
        long = "injectConfigMapName",
        value_name = "NAME",
        default_value = "istio-sidecar-injector"
    )]
    pub inject_config_map: String,
    /// Values of the templates, instead of the cluster's
    #[arg(long = "valuesFile", value_name = "FILE")]
    pub values_file: Option<PathBuf>,
    /// Settings of the mesh, instead of the cluster's
    #[arg(
        long = "meshConfigFile",
        value_name = "FILE",
        conflicts_with = "mesh_config_map"
    )]
    pub mesh_config_file: Option<PathBuf>,
    /// ConfigMap of the cluster with the settings of the mesh
    #[arg(
        long = "meshConfigMapName",
        value_name = "NAME",
        default_value = "istio"
    )]
    pub mesh_config_map: String,
    /// Revision of the control plane: the ConfigMaps of that name, and the mark of the Pods
    #[arg(short, long, default_value = "default")]
    pub revision: String,
}

/// Form of the answer of `analyze`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Lines for people.
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
        .ok_or_else(|| "want a time above zero, such as 30s".to_owned())
}
