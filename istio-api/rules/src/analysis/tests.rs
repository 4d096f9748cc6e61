//! Analysis of objects in memory; an analyzer that fails does not affect the others.

use super::analyzers::{Analyzer, Run};
use super::*;
use istio_api::collections::by_gvk;
use istio_api::networking::v1alpha3::Gateway;
use istio_api::object::{Meta, Object};
use prost::Message as _;

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

#[test]
fn objects_from_memory_need_no_documents() {
    let mut builder = Builder::new();
    for namespace in ["shop", "other"] {
        let spec = Gateway {
            selector: [("istio".to_owned(), "gone".to_owned())].into(),
            ..Gateway::default()
        };
        let object = Object {
            meta: Meta {
                namespace: namespace.to_owned(),
                name: "web".to_owned(),
                ..Meta::default()
            },
            collection: by_gvk("networking.istio.io", "Gateway").unwrap(),
            body: spec.encode_to_vec().into(),
        };
        builder.add(object, Status::default(), None);
    }
    let resources = builder.build("istio-system", "", nothing);
    let request = Request {
        namespace: Some("shop".to_owned()),
        suppressions: vec![Suppression::parse("IST0106=*").unwrap()],
        ..Request::default()
    };
    let outcome = analyze(&resources, &request);
    let messages: Vec<String> = outcome.messages.iter().map(ToString::to_string).collect();
    // Three analyzers report it, and it is listed once.
    assert_eq!(
        messages,
        ["Error [IST0101] (Gateway shop/web) selector \"istio=gone\" does not exist"]
    );
    assert!(outcome.skipped.is_empty());
}
