//! Arguments of the command.

use std::path::PathBuf;

use clap::{ArgAction, ValueEnum};

/// Arguments of `validate`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// File, directory, or - for standard input; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub filename: Vec<PathBuf>,
    /// File, directory, or - without the flag
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Also read the subdirectories of directories
    #[arg(short = 'R', long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set)]
    pub recursive: bool,
    /// Accepted without effect, as since Istio 1.5
    #[arg(short = 'x', long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = ArgAction::Set)]
    pub referential: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Form::Text)]
    pub output: Form,
}

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Text for people.
    Text,
    /// A single JSON document.
    Json,
}
