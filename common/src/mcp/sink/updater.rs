//! Where changes of configuration go.

use mesh_core::mcp::sink::Change;

/// Receives what changes.
pub trait Updater: Send + 'static {
    /// Applies one change. Nothing else is received meanwhile, so this may wait for a bounded
    /// channel. `Err` refuses the message as a whole; the source is told the text, and nothing of
    /// the change counts as held.
    fn apply(&mut self, change: Change) -> impl Future<Output = Result<(), String>> + Send;
}
