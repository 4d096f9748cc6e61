//! One function a way in for bytes of somebody else. Each holds for every input: it returns, in
//! bounded time and memory, and what it promises is asserted.
//!
//! `libfuzzer/` feeds them with inputs that it makes up, `tests/corpus.rs` with those in `corpus/`.

mod admission;
mod configuration;
mod mcp;

/// A way in.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of the target, of its folder in `corpus/` and of its program in `libfuzzer/`.
    pub name: &'static str,
    /// Takes an input.
    pub run: fn(&[u8]),
}

/// Every way in.
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
