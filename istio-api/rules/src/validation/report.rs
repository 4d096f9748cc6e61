//! Paths in a document, and the list of problems.

use std::fmt;

use super::{Problem, Severity, Shadow};
use istio_api::object::Meta;

/// More problems than this are counted but not listed: no one reads them.
pub(super) const MAX_PROBLEMS: usize = 100;

/// Text of a document is shown up to this many characters.
const MAX_QUOTED: usize = 80;

/// A path in a document: a linked list on the stack, formatted only if there is a problem.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Item(&'a str, usize),
    Entry(&'a str, &'a str),
}

impl<'a> At<'a> {
    /// A member of the whole document, such as `spec`.
    pub(super) const fn root(name: &'a str) -> Self {
        Self {
            parent: None,
            step: Step::Field(name),
        }
    }

    /// A member: `.name`.
    pub(super) const fn field(&'a self, name: &'a str) -> Self {
        self.step(Step::Field(name))
    }

    /// An element of a list: `.name[index]`.
    pub(super) const fn item(&'a self, name: &'a str, index: usize) -> Self {
        self.step(Step::Item(name, index))
    }

    /// A value of a map: `.name[key]`.
    pub(super) const fn entry(&'a self, name: &'a str, key: &'a str) -> Self {
        self.step(Step::Entry(name, key))
    }

    const fn step(&'a self, step: Step<'a>) -> Self {
        Self {
            parent: Some(self),
            step,
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}.")?;
        }
        match self.step {
            Step::Field(name) => f.write_str(name),
            Step::Item(name, index) => write!(f, "{name}[{index}]"),
            Step::Entry(name, key) => write!(f, "{name}[{}]", shorten(key)),
        }
    }
}

/// The text in quotes, shortened.
pub(super) fn quote(text: &str) -> String {
    format!("{:?}", shorten(text))
}

pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// The object's metadata, and the problems found so far.
pub(super) struct Check<'a> {
    pub(super) meta: &'a Meta,
    errors: Listed,
    warnings: Listed,
}

#[derive(Default)]
struct Listed {
    problems: Vec<Problem>,
    more: usize,
}

impl Listed {
    fn add(&mut self, problem: impl FnOnce() -> Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem());
        } else {
            self.more += 1;
        }
    }
}

impl<'a> Check<'a> {
    pub(super) fn new(meta: &'a Meta) -> Self {
        Self {
            meta,
            errors: Listed::default(),
            warnings: Listed::default(),
        }
    }

    /// Adds an error: the object is refused.
    pub(super) fn error(&mut self, rule: &'static str, at: &At<'_>, message: impl Into<String>) {
        self.errors.add(|| Problem {
            rule,
            path: at.to_string(),
            message: message.into(),
            severity: Severity::Error,
            shadow: None,
        });
    }

    /// Adds a warning: the object is accepted, but somebody should look at it.
    pub(super) fn warn(&mut self, rule: &'static str, at: &At<'_>, message: impl Into<String>) {
        self.warnings.add(|| Problem {
            rule,
            path: at.to_string(),
            message: message.into(),
            severity: Severity::Warning,
            shadow: None,
        });
    }

    /// Adds a warning about a rule or match that is never used.
    pub(super) fn shadow(
        &mut self,
        rule: &'static str,
        at: &At<'_>,
        message: String,
        shadow: impl FnOnce() -> Shadow,
    ) {
        self.warnings.add(|| Problem {
            rule,
            path: at.to_string(),
            message,
            severity: Severity::Warning,
            shadow: Some(shadow()),
        });
    }

    /// Adds an error unless the value there passed.
    pub(super) fn test(&mut self, rule: &'static str, at: &At<'_>, outcome: Result<(), String>) {
        if let Err(message) = outcome {
            self.error(rule, at, message);
        }
    }

    /// Adds an error if `wrong`.
    pub(super) fn refuse(&mut self, wrong: bool, rule: &'static str, at: &At<'_>, message: &str) {
        if wrong {
            self.error(rule, at, message);
        }
    }

    /// All problems in order of path; errors go before warnings if not all can be listed.
    pub(super) fn finish(self) -> Vec<Problem> {
        let mut more = self.errors.more + self.warnings.more;
        let severity = if self.errors.more > 0 {
            Severity::Error
        } else {
            Severity::Warning
        };
        let mut problems = self.errors.problems;
        let mut warnings = self.warnings.problems;
        let room = MAX_PROBLEMS - problems.len();
        more += warnings.len().saturating_sub(room);
        warnings.truncate(room);
        problems.append(&mut warnings);
        problems.sort_by(|a, b| in_order(&a.path, &b.path));
        if more > 0 {
            problems.push(Problem {
                rule: "",
                path: String::new(),
                message: format!("{more} more problems are not listed"),
                severity,
                shadow: None,
            });
        }
        problems
    }
}

/// Paths by text, numbers in them by value: `http[9]` is before `http[10]`.
fn in_order(a: &str, b: &str) -> std::cmp::Ordering {
    let number = |text: &str| {
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        text.get(..end)
            .and_then(|digits| digits.parse::<u64>().ok())
    };
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    // Back to the start of a number that differs.
    let start = a.get(..same).map_or(0, |same| {
        same.trim_end_matches(|c: char| c.is_ascii_digit()).len()
    });
    match (
        a.get(start..).and_then(number),
        b.get(start..).and_then(number),
    ) {
        (Some(x), Some(y)) if x != y => x.cmp(&y),
        _ => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_users_write_them() {
        let spec = At::root("spec");
        let http = spec.item("http", 1);
        assert_eq!(
            http.field("match").entry("headers", "x-a").to_string(),
            "spec.http[1].match.headers[x-a]"
        );
    }

    #[test]
    fn numbers_in_paths_are_ordered_by_value() {
        let mut paths = ["a[10].b", "a[9].z", "a[9]", "a[10]", "a", "b"];
        paths.sort_by(|a, b| in_order(a, b));
        assert_eq!(paths, ["a", "a[9]", "a[9].z", "a[10]", "a[10].b", "b"]);
    }

    #[test]
    fn a_long_list_is_cut_and_errors_stay() {
        let meta = Meta::default();
        let mut check = Check::new(&meta);
        let spec = At::root("spec");
        for i in 0..150 {
            check.warn("W", &spec.item("w", i), "odd");
        }
        check.error("E", &spec.field("z"), "wrong");
        let problems = check.finish();
        assert_eq!(problems.len(), MAX_PROBLEMS + 1);
        assert!(problems.iter().any(|problem| problem.rule == "E"));
        let last = problems.last().unwrap();
        assert_eq!(last.message, "51 more problems are not listed");
        assert_eq!(last.severity, Severity::Warning);
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(quote(&"é".repeat(100)).chars().count(), MAX_QUOTED + 3);
        assert_eq!(quote("a\"b"), r#""a\"b""#);
    }
}
