//! Messages that a user suppresses: `IST0101=VirtualService shop/web`.

use super::catalogue::{self, Code};
use super::origin::Origin;

/// A code and the objects for which it is suppressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    code: String,
    pattern: String,
}

/// Error of parsing a [`Suppression`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a valid suppression: want CODE=KIND NAMESPACE/NAME, \
     such as IST0101=VirtualService shop/*"
)]
pub struct SuppressionError(String);

impl Suppression {
    /// Reads `<code>=<Kind> <namespace>/<name>` or `<code>=<Kind> <name>.<namespace>`; a `*` in the
    /// second part stands for any text.
    ///
    /// # Errors
    /// If there are not two parts.
    pub fn parse(text: &str) -> Result<Self, SuppressionError> {
        match text.split_once('=') {
            Some((code, pattern)) if !code.trim().is_empty() && !pattern.trim().is_empty() => {
                Ok(Self {
                    code: code.trim().to_owned(),
                    pattern: pattern.trim().to_owned(),
                })
            }
            _ => Err(SuppressionError(text.to_owned())),
        }
    }

    /// The code, as it was written.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Whether there is such a code.
    #[must_use]
    pub fn is_known(&self) -> bool {
        catalogue::by_code(&self.code).is_some()
    }

    pub(super) fn covers(&self, code: &Code, origin: &Origin) -> bool {
        self.code.eq_ignore_ascii_case(code.code)
            && (glob(&self.pattern, &origin.to_string())
                || glob(
                    &self.pattern,
                    &format!("{} {}.{}", origin.kind, origin.name, origin.namespace),
                ))
    }
}

/// Whether a text fits a pattern in which a star stands for any text.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    // Matching each part as early as possible leaves the most room for the later ones.
    for part in middle.split('*') {
        match text.split_once(part) {
            Some((_, after)) => text = after,
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*", "", true),
            ("*b", "ab", true),
            ("*b", "ba", false),
            ("a*b*c", "axbxc", true),
            ("a*b*c", "axc", false),
            ("a**c", "ac", true),
            ("ab*b", "ab", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn both_forms_of_a_name() {
        let code = &catalogue::UNKNOWN_ANNOTATION;
        let origin = Origin::new("Pod", "shop".into(), "web".into(), &BTreeMap::new());
        for text in [
            "IST0108=Pod shop/web",
            "ist0108=Pod web.shop",
            "IST0108=Pod */web",
            "IST0108=*",
        ] {
            assert!(
                Suppression::parse(text).unwrap().covers(code, &origin),
                "{text}"
            );
        }
        for text in [
            "IST0107=Pod shop/web",
            "IST0108=Pod shop/other",
            "IST0108=Service *",
        ] {
            assert!(
                !Suppression::parse(text).unwrap().covers(code, &origin),
                "{text}"
            );
        }
        assert!(Suppression::parse("IST0108").is_err());
        assert!(!Suppression::parse("IST9999=*").unwrap().is_known());
    }
}
