//! Line numbers of fields in a document, also in lists of thousands of objects.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use istio_rules::analysis::Locate;
use mesh_core::yaml::{self, Document};

/// Maximum number of bytes that are parsed again for the line numbers of one document: each lookup
/// parses the text up to the field. After that, messages show only the line of the document.
const BUDGET: usize = 64 << 20;

/// A document in which line numbers are looked up.
#[derive(Debug)]
pub(super) struct Lines {
    line: usize,
    text: String,
    /// Number of elements in `items`, if the document is a list.
    count: usize,
    /// Whether paths can be located; not if several values share the text.
    is_located: bool,
    spent: AtomicUsize,
    items: OnceLock<Vec<Piece>>,
}

/// A part of the text and the number of lines before it.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: usize,
    end: usize,
    lines: usize,
}

impl Lines {
    /// A document that begins on `line` of its file and has `count` elements in `items`.
    pub(super) const fn new(line: usize, text: String, count: usize, is_located: bool) -> Self {
        Self {
            line,
            text,
            count,
            is_located,
            spent: AtomicUsize::new(0),
            items: OnceLock::new(),
        }
    }

    const fn whole(&self) -> Document<'_> {
        Document {
            index: 1,
            line: self.line,
            text: self.text.as_str(),
        }
    }

    /// The part of the text with an element, if the list is in block style.
    fn item(&self, index: usize) -> Option<Document<'_>> {
        let items = self.items.get_or_init(|| {
            let pieces = pieces(&self.text);
            if pieces.len() == self.count {
                pieces
            } else {
                Vec::new()
            }
        });
        let piece = items.get(index)?;
        Some(Document {
            index: 1,
            line: self.line + piece.lines,
            text: self.text.get(piece.start..piece.end)?,
        })
    }
}

impl Locate for Lines {
    fn line(&self, path: &str) -> Option<usize> {
        let whole = self.whole();
        let in_item = path.strip_prefix("items[").and_then(|rest| {
            let (index, rest) = rest.split_once(']')?;
            let item = self.item(index.parse().ok()?)?;
            Some((item, format!("[0]{rest}")))
        });
        let (document, path) = in_item.unwrap_or_else(|| (whole, path.to_owned()));
        let size = document.text.len();
        let spent = self.spent.fetch_add(size, Ordering::Relaxed);
        let can_look = self.is_located && spent.saturating_add(size) <= BUDGET.max(size);
        let found = if path.is_empty() || path == "[0]" || !can_look {
            None
        } else {
            yaml::line_of(&document, &path)
        };
        Some(found.unwrap_or_else(|| document.content_line()))
    }
}

/// The elements of `items:` at the left margin. Everything in an element is indented further than
/// its dash.
fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut dash: Option<usize> = None;
    let mut is_inside = false;
    let mut offset = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let content = line.trim_start_matches(' ');
        let indent = line.len() - content.len();
        let is_element = content.starts_with("- ") || content.trim_end() == "-";
        let is_blank = content.trim().is_empty() || content.starts_with('#');
        if !is_inside {
            is_inside = line.trim_end() == "items:";
        } else if is_element && dash.is_none_or(|dash| dash == indent) {
            dash = Some(indent);
            pieces.push(Piece {
                start: offset,
                end: offset,
                lines: number,
            });
        } else if !is_blank && indent == 0 {
            is_inside = false;
        }
        offset += line.len();
        if is_inside && let Some(last) = pieces.last_mut() {
            last.end = offset;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str =
        "kind: List\nitems:\n- a: 1\n  b:\n  - c\n  - |\n    - d\n# note\n-\n  a: 2\nlast: 3\n";

    #[test]
    fn elements_of_a_list_are_looked_up_alone() {
        let lines = Lines::new(10, LIST.to_owned(), 2, true);
        for (path, line) in [
            ("items[0]", 12),
            ("items[0].b[0]", 14),
            ("items[0].b[1]", 15),
            ("items[1].a", 19),
            ("last", 20),
        ] {
            assert_eq!(lines.line(path), Some(line), "{path}");
        }
        assert_eq!(lines.items.get().unwrap().len(), 2);
        assert!(lines.spent.load(Ordering::Relaxed) < 3 * LIST.len());
    }

    #[test]
    fn other_styles_are_looked_up_as_a_whole() {
        let text = "items: [{a: 1},\n {a: 2}]\n";
        let lines = Lines::new(1, text.to_owned(), 2, true);
        assert_eq!(lines.line("items[1].a"), Some(2));
        let shared = Lines::new(1, text.to_owned(), 2, false);
        assert_eq!(shared.line("items[1].a"), Some(1));
    }

    #[test]
    fn lookups_end_with_the_budget() {
        let lines = Lines::new(1, "a: 1\nb: 2\n".to_owned(), 0, true);
        assert_eq!(lines.line("b"), Some(2));
        lines.spent.store(BUDGET, Ordering::Relaxed);
        assert_eq!(lines.line("b"), Some(1));
    }
}
