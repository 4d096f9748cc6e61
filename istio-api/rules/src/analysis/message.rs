//! Messages of the analysis, and how they are written.

use std::fmt;
use std::sync::Arc;

use super::catalogue::Code;
use super::origin::Origin;

/// Release whose documentation explains the codes.
const RELEASE: &str = "1.30";

/// One finding.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its code.
    pub code: &'static Code,
    /// Values of [`Code::parameters`].
    pub parameters: Vec<String>,
    /// The object that it is about, if any.
    pub origin: Option<Arc<Origin>>,
    /// Field that it is about, as users write it; empty for the whole object.
    pub field: String,
    /// Line of the field from 1, if the object was read from a document.
    pub line: Option<usize>,
}

impl Message {
    /// The sentence, without level, code and origin.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut rest = self.code.text;
        // One pass, so that braces in a parameter are not replaced.
        while let Some((before, after)) = rest.split_once('{') {
            text.push_str(before);
            let (number, after) = after.split_once('}').unwrap_or((after, ""));
            let index = number.parse::<usize>().unwrap_or_default();
            if let Some(parameter) = self.parameters.get(index.wrapping_sub(1)) {
                text.push_str(parameter);
            }
            rest = after;
        }
        text.push_str(rest);
        text
    }

    /// `file:line`, or the file if no line is known; `None` for objects from a cluster.
    #[must_use]
    pub fn reference(&self) -> Option<String> {
        let place = self.origin.as_ref()?.place.as_ref()?;
        Some(match self.line {
            Some(line) => format!("{}:{line}", place.file),
            None => place.file.to_string(),
        })
    }

    /// Page that explains the code.
    #[must_use]
    pub fn documentation_url(&self) -> String {
        let code = self.code.code.to_ascii_lowercase();
        format!(
            "https://istio.io/v{RELEASE}/docs/reference/config/analysis/{code}/?ref=istioctl-analyze"
        )
    }

    /// By level, then code, messages about no object first, then kind, name, namespace, text.
    pub(super) fn order(&self) -> impl Ord + use<> {
        let origin = self.origin.as_ref();
        (
            self.code.level,
            self.code.code,
            origin.map(|origin| (origin.kind, origin.name.clone(), origin.namespace.clone())),
            self.text(),
            self.reference().is_some(),
            origin.and_then(|origin| Some(origin.place.as_ref()?.file.clone())),
            self.line,
        )
    }
}

/// `Level [code] (origin file:line) text`.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}] ", self.code.level, self.code.code)?;
        if let Some(origin) = &self.origin {
            write!(f, "({origin}")?;
            if let Some(reference) = self.reference() {
                write!(f, " {reference}")?;
            }
            f.write_str(") ")?;
        }
        f.write_str(&self.text())
    }
}

/// Most names that are written out in one message.
const MAX_NAMES: usize = 20;

/// Names with commas; of a long list the beginning and how many more there are.
pub(super) fn names<I>(all: I) -> String
where
    I: IntoIterator,
    I::Item: fmt::Display,
{
    let mut listed: Vec<String> = Vec::new();
    let mut more = 0;
    for name in all {
        if listed.len() < MAX_NAMES {
            listed.push(name.to_string());
        } else {
            more += 1;
        }
    }
    let mut text = listed.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::catalogue;
    use super::*;

    #[test]
    fn braces_in_a_parameter_are_only_text() {
        let message = Message {
            code: &catalogue::REFERENCED_RESOURCE_NOT_FOUND,
            parameters: vec!["{2}".into(), "b".into()],
            origin: Some(Arc::new(Origin::new(
                "Gateway",
                "ns".into(),
                "gw".into(),
                &BTreeMap::new(),
            ))),
            field: String::new(),
            line: None,
        };
        assert_eq!(
            message.to_string(),
            "Error [IST0101] (Gateway ns/gw) {2} \"b\" does not exist"
        );
        assert_eq!(
            message.documentation_url(),
            "https://istio.io/v1.30/docs/reference/config/analysis/ist0101/?ref=istioctl-analyze"
        );
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(names(["a", "b"]), "a, b");
        assert!(names(0..30).ends_with("18, 19 and 10 more"));
    }
}
