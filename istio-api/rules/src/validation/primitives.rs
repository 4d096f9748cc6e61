//! Rules for single values that several kinds share.
//!
//! Each function says what is wrong with a value and what would be right; its caller adds where.

pub(super) mod access;
pub(super) mod export;
pub(crate) mod header;
pub(crate) mod host;
pub(super) mod label;
pub(super) mod number;
pub(crate) mod protocol;
pub(super) mod re2;
pub(super) mod text;
pub(super) mod tls;
pub(super) mod url;

/// `Ok` or what is wrong.
pub(super) type Outcome = Result<(), String>;

/// `Ok` if `right`, else the message.
pub(super) fn ensure(right: bool, message: impl FnOnce() -> String) -> Outcome {
    if right { Ok(()) } else { Err(message()) }
}
