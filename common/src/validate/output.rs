//! Lists of errors as Istio prints them.

use std::fmt::Write as _;

/// A single error as it is; several after their number, one per line.
pub(super) fn errors(errors: &[String]) -> String {
    match errors {
        [] => String::new(),
        [error] => format!("Error: {error}\n"),
        errors => {
            let mut text = format!("Error: {} errors occurred:\n", errors.len());
            for error in errors {
                // Writing to a String does not fail.
                let _ = writeln!(text, "\t* {error}");
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::errors;

    #[test]
    fn several_errors_are_counted() {
        assert_eq!(errors(&[]), "");
        assert_eq!(errors(&["a".into()]), "Error: a\n");
        assert_eq!(
            errors(&["a".into(), "b".into()]),
            "Error: 2 errors occurred:\n\t* a\n\t* b\n"
        );
    }
}
