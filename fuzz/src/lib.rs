//! One function per entry point for untrusted bytes. For every input it returns in bounded time and
//! memory, and asserts what the entry point guarantees.
//!
//! `libfuzzer/` calls them with generated inputs, `tests/corpus.rs` with those in `corpus/`.

mod admission;
mod configuration;
mod mcp;

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of the target, of its folder in `corpus/` and of its program in `libfuzzer/`.
    pub name: &'static str,
    /// Runs an input.
    pub run: fn(&[u8]),
}

/// All fuzz targets.
pub const TARGETS: [Target; 4] = [
    Target {
        name: "admission",
        run: admission::review,
    },
    Target {
        name: "configuration",
        run: configuration::file,
    },
    Target {
        name: "mcp-sink",
        run: mcp::sink,
    },
    Target {
        name: "mcp-source",
        run: mcp::source,
    },
];
