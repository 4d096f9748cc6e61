//! An analyzer that fails takes nobody with it.

use super::analyzers::{Analyzer, Run};
use super::*;

static FAILING: [Analyzer; 2] = [
    Analyzer {
        name: "failing",
        inputs: &[],
        run: Run::All(|_, _| std::panic::resume_unwind(Box::new("on purpose"))),
    },
    Analyzer {
        name: "needy",
        inputs: &["Pod"],
        run: Run::All(|_, _| ()),
    },
];

fn nothing(_: &str) -> Result<Option<serde_json::Value>, String> {
    Ok(None)
}

#[test]
fn an_analyzer_that_fails_is_told_of() {
    let mut builder = Builder::new();
    builder.without("Pod");
    let resources = builder.build("istio-system", "", nothing);
    let outcome = run(&FAILING, &resources, &Request::default());
    let messages: Vec<String> = outcome.messages.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        ["Error [IST0001] analyzer failed internally: failing"]
    );
    assert_eq!(outcome.executed, ["failing"]);
    assert_eq!(outcome.skipped, ["needy"]);
}
