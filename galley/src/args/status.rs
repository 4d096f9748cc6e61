//! Flags of statuses.

use clap::{ArgAction, Args, value_parser};
use mesh_common::args::OwnerArgs;

/// Flags of statuses.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Analyze the configuration, receive reports of pilots, and write the result into the status
    /// of each object.
    #[arg(long = "enable-status", default_value_t = false, default_missing_value = "true",
          num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    pub enable_status: bool,
    /// Average number of statuses written per second; the burst is twice as many.
    #[arg(long = "status-writes-per-second", default_value_t = 10,
          value_parser = value_parser!(u32).range(1..=1000))]
    pub writes_per_second: u32,
    /// Owner of the Lease.
    #[command(flatten)]
    pub owner: OwnerArgs,
}
