//! Standard output that may be a pipe whose reader has gone, as in `cargo mesh status | head -1`.

use std::fmt::Arguments;
use std::io::Write as _;

/// Writes a line. A reader that has gone needs none, and what the command does goes on.
pub(crate) fn line(text: Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// `println!` that does not panic when the reader has gone.
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::cli::output::line(format_args!($($argument)*))
    };
}

pub(crate) use say;
