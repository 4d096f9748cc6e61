//! Where changes of configuration go.

use mesh_core::mcp::sink::Change;

/// Receives changes.
pub trait Updater: Send + 'static {
    /// Applies one change. Nothing else is received meanwhile, so that this may wait for a bounded
    /// channel. `Err` rejects the whole message: the source gets the text, and nothing of the
    /// change counts as held.
    fn apply(&mut self, change: Change) -> impl Future<Output = Result<(), String>> + Send;
}
