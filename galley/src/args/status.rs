//! Flags of statuses.

use clap::{ArgAction, Args, value_parser};
use mesh_common::args::OwnerArgs;

/// Flags of statuses.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Analyzes the configuration, takes reports of pilots, and writes what becomes of each object
    /// into its status.
    #[arg(long = "enable-status", default_value_t = false, default_missing_value = "true",
          num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    pub enable_status: bool,
    /// Statuses written in a second, on average; twice as many at once.
    #[arg(long = "status-writes-per-second", default_value_t = 10,
          value_parser = value_parser!(u32).range(1..=1000))]
    pub writes_per_second: u32,
    /// Who owns the Lease.
    #[command(flatten)]
    pub owner: OwnerArgs,
}
