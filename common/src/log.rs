//! Logging in the form of Istio: levels by scope, text or JSON lines, changeable at run time.
//!
//! The scope of a line is the top-level module that it comes from (`pilot_discovery::xds::push` →
//! `xds`), or its target if that is a single word. Lines of libraries have the library's name as
//! scope; only their warnings are shown unless a level names that scope.

mod layer;
mod levels;
mod sink;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::LogArgs;
use levels::Levels;
use sink::Sink;

static HANDLE: OnceLock<Handle> = OnceLock::new();

/// Changes levels at run time and flushes waiting lines.
#[derive(Clone, Debug)]
pub struct Handle {
    levels: Arc<ArcSwap<Levels>>,
    sink: Sink,
}

impl Handle {
    /// Current levels, in the form of `--log_output_level`.
    #[must_use]
    pub fn levels(&self) -> String {
        self.levels.load().to_string()
    }

    /// Sets the levels of the scopes in `spec`; others keep theirs.
    ///
    /// # Errors
    /// If a level is unknown; nothing is changed then.
    pub fn set_levels(&self, spec: &str) -> anyhow::Result<()> {
        let mut levels = Levels::clone(&self.levels.load());
        levels.update(spec)?;
        self.levels.store(Arc::new(levels));
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// Number of lines dropped because the writer could not keep up.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.sink.dropped()
    }

    /// Waits until all lines are written, at most for a second.
    pub fn flush(&self) {
        self.sink.flush();
    }
}

/// Installs the subscriber of the process. A second call only sets the levels.
///
/// # Errors
/// If a level is unknown, a target cannot be opened, or another subscriber is installed.
pub fn init(args: &LogArgs) -> anyhow::Result<Handle> {
    if let Some(handle) = HANDLE.get() {
        handle.set_levels(&args.output_level)?;
        return Ok(handle.clone());
    }
    let mut levels = Levels::default();
    levels.update(&args.output_level)?;
    let levels = Arc::new(ArcSwap::from_pointee(levels));
    let sink = Sink::start(&args.target)?;
    let handle = Handle {
        levels: Arc::clone(&levels),
        sink: sink.clone(),
    };
    let form = if args.as_json {
        layer::Form::Json
    } else {
        layer::Form::Text
    };
    tracing_subscriber::registry()
        .with(layer::Lines::new(form, levels, sink))
        .try_init()?;
    Ok(HANDLE.get_or_init(|| handle).clone())
}

/// The handle of [`init`], if it was called.
#[must_use]
pub fn handle() -> Option<Handle> {
    HANDLE.get().cloned()
}
