//! Namespaces that an object is visible in.

use std::collections::BTreeSet;

use super::super::report::{At, Check, quote};
use super::host;

/// What a kind accepts in `exportTo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Export {
    /// Names, `.` and `*`.
    Usual,
    /// `~` as well, which means nowhere.
    OrNowhere,
}

/// Checks `exportTo`.
pub(in super::super) fn export_to(
    check: &mut Check<'_>,
    rule: &'static str,
    spec: &At<'_>,
    names: &[String],
    kind: Export,
) {
    let meta = check.meta;
    let mut seen = BTreeSet::new();
    for (i, name) in names.iter().enumerate() {
        let at = spec.item("exportTo", i);
        let special =
            matches!(name.as_str(), "." | "*") || (name == "~" && kind == Export::OrNowhere);
        if !special && !host::is_label(name) {
            check.error(rule, &at, format!(
                "{} is not a valid namespace: want the name of one, \".\" for the object's own or \"*\" for all",
                quote(name)
            ));
        }
        let full = if name == "." { &meta.namespace } else { name };
        if !seen.insert(full.as_str()) {
            check.error(
                rule,
                &at,
                format!("{} is listed twice: want each namespace once", quote(name)),
            );
        }
        if matches!(name.as_str(), "*" | "~") && names.len() > 1 && special {
            let meaning = if name == "*" {
                "all namespaces"
            } else {
                "no namespace"
            };
            check.error(
                rule,
                &at,
                format!(
                    "{} means {meaning}: want it alone, or only names of namespaces",
                    quote(name)
                ),
            );
        }
    }
}
