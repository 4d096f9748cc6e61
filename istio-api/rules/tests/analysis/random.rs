//! Documents of the tables, changed and shuffled: no analyzer fails, and the order does not matter.

use istio_rules::analysis::{Builder, Request, analyze};
use proptest::prelude::*;
use serde_json::Value;

use super::{tables, yaml};

/// All documents of all tables.
fn documents() -> Vec<Value> {
    let mut all = Vec::new();
    for table in tables() {
        all.extend(table.world);
        for case in table.cases {
            all.extend(case.bad);
            all.extend(case.good.into_iter().flatten());
        }
    }
    all
}

/// The messages about documents; those that cannot be read are left out.
fn raised(documents: &[Value]) -> Vec<String> {
    let mut builder = Builder::new();
    for document in documents {
        let _left_out = builder.read(document, None);
    }
    let resources = builder.build("istio-system", "", yaml);
    let outcome = analyze(&resources, &Request::default());
    outcome.messages.iter().map(ToString::to_string).collect()
}

/// Changes one value somewhere in the document.
fn torn(value: &mut Value, mut choices: impl Iterator<Item = usize>) {
    let others = [
        Value::Null,
        Value::from(""),
        Value::from("*"),
        Value::from("a.t.svc.cluster.local"),
        Value::from("é*/.."),
        Value::from(0),
        Value::from(65_536),
        Value::from(-1),
        serde_json::json!([]),
        serde_json::json!({}),
        serde_json::json!([{}]),
    ];
    let mut place = value;
    loop {
        let choice = choices.next().unwrap_or_default();
        let count = match &*place {
            Value::Object(members) => members.len(),
            Value::Array(elements) => elements.len(),
            _ => 0,
        };
        if count == 0 || choice.is_multiple_of(7) {
            *place = others[choice % others.len()].clone();
            return;
        }
        place = match place {
            Value::Object(members) => members.values_mut().nth(choice % count).unwrap(),
            Value::Array(elements) => &mut elements[choice % count],
            _ => return,
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_analyzer_fails(
        changes in prop::collection::vec((0_usize..1000, prop::collection::vec(1_usize..1000, 8)), 30),
    ) {
        let mut documents = documents();
        let count = documents.len();
        for (index, choices) in changes {
            torn(&mut documents[index % count], choices.into_iter());
        }
        let failed: Vec<String> = raised(&documents)
            .into_iter()
            .filter(|message| message.contains("[IST0001]"))
            .collect();
        prop_assert!(failed.is_empty(), "{failed:?}");
    }

    #[test]
    fn order_makes_no_difference(keys in prop::collection::vec(any::<u32>(), 400)) {
        // Of two documents for one object the later one wins, so each object occurs once here.
        let mut documents = documents();
        let identity = |document: &Value| {
            let text = |path: &str| document.pointer(path).map(Value::to_string);
            (text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
        };
        documents.sort_by_key(identity);
        documents.dedup_by_key(|document| identity(document));
        let mut shuffled: Vec<(u32, Value)> = keys.into_iter().cycle().zip(documents.clone()).collect();
        shuffled.sort_by_key(|(key, _)| *key);
        let shuffled: Vec<Value> = shuffled.into_iter().map(|(_, document)| document).collect();
        let (before, after) = (raised(&documents), raised(&shuffled));
        prop_assert!(before.len() > 20, "{before:?}");
        prop_assert_eq!(before, after);
    }
}
