//! Arguments of the commands.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

/// Flags of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Namespace of objects that name none [default: default]
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

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// File, directory, or - for standard input; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub filename: Vec<PathBuf>,
    /// The same without a flag
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Also look into the directories of a directory
    #[arg(short = 'R', long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set)]
    pub recursive: bool,
    /// Taken for the sake of scripts; it has had no effect since Istio 1.5
    #[arg(short = 'x', long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set)]
    pub referential: bool,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Lines for people.
    Text,
    /// One JSON document.
    Json,
}
