use serde_json::json;

use super::*;

fn one(text: &str) -> Result<Option<Value>, ReadError> {
    let documents = split(text);
    assert_eq!(documents.len(), 1, "{documents:?}");
    read(&documents[0])
}

#[test]
fn documents_are_cut_at_their_markers() {
    type Wanted<'a> = &'a [(usize, usize, &'a str)];
    let cases: [(&str, Wanted<'_>); 8] = [
        ("", &[]),
        ("# nothing\n", &[]),
        (
            "a: 1\n---\nb: 2\n",
            &[(1, 1, "a: 1\n"), (2, 2, "---\nb: 2\n")],
        ),
        ("# head\n---\na: 1\n", &[(1, 1, "# head\n---\na: 1\n")]),
        (
            "a: 1\r\n--- # two\r\nb: 2",
            &[(1, 1, "a: 1\r\n"), (2, 2, "--- # two\r\nb: 2")],
        ),
        (
            "---\n---  \na: 1",
            &[(1, 1, "---\n"), (2, 2, "---  \na: 1")],
        ),
        (
            "a: |\n  x\n  ---\n---a: 1\n",
            &[(1, 1, "a: |\n  x\n  ---\n---a: 1\n")],
        ),
        (
            "%YAML 1.1\n---\na: 1\n",
            &[(1, 1, "%YAML 1.1\n---\na: 1\n")],
        ),
    ];
    for (text, wanted) in cases {
        let found: Vec<_> = split(text)
            .iter()
            .map(|d| (d.index, d.line, d.text))
            .collect();
        assert_eq!(found, wanted, "{text:?}");
    }
    let lines: Vec<_> = split("\n# x\na: 1\n--- # y\n\n b: 2\n--- {c: 3}\n")
        .iter()
        .map(Document::content_line)
        .collect();
    assert_eq!(lines, [3, 6, 7]);
}

#[test]
fn values_are_read_as_json() {
    let cases = [
        ("a: yes\nb: 'x'\n", json!({"a": "yes", "b": "x"})),
        ("80: x\ntrue: y\n", json!({"80": "x", "true": "y"})),
        (
            "a: 1.5\nb: -3\nc: .inf\nd: ~\n",
            json!({"a": 1.5, "b": -3, "c": "Infinity", "d": null}),
        ),
        ("a: !!str 5\nb: !mine [1]\n", json!({"a": "5", "b": [1]})),
        (
            "x: &x {a: 1, b: 1}\ny: {<<: *x, b: 2}\n",
            json!({"x": {"a": 1, "b": 1}, "y": {"a": 1, "b": 2}}),
        ),
        (
            "x: &x {a: 1}\nz: &z {a: 2, c: 3}\ny:\n  <<: [*x, *z]\n",
            json!({"x": {"a": 1}, "z": {"a": 2, "c": 3}, "y": {"a": 1, "c": 3}}),
        ),
        ("--- {a: 1}\n", json!({"a": 1})),
    ];
    for (text, wanted) in cases {
        assert_eq!(one(text).unwrap().unwrap(), wanted, "{text:?}");
    }
    assert_eq!(one("---\n# only a comment\n").unwrap(), None);
}

#[test]
fn errors_name_the_line_of_the_stream() {
    let cases = [
        ("a: 1\n---\nb: 1\nc: {\n", 5, "expected"),
        (
            "a: 1\n---\n\nspec:\n  x: 1\n  x: 2\n",
            6,
            "duplicate key \"x\"",
        ),
        ("a: 1\n---\n? [1]\n: 2\n", 3, "key"),
        ("a: 1\n---\ny: {<<: 3}\n", 3, "merge key"),
    ];
    for (text, line, message) in cases {
        let error = read(&split(text)[1]).unwrap_err();
        assert_eq!(error.line, Some(line), "{text:?}: {error:?}");
        assert!(error.message.contains(message), "{text:?}: {error:?}");
    }
}

#[test]
fn alias_bombs_are_refused() {
    let mut nested = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, of) in "bcdefghij".chars().zip("abcdefghi".chars()) {
        let list = vec![format!("*{of}"); 10].join(", ");
        nested.push_str(&format!("{name}: &{name} [{list}]\n"));
    }
    let text = "y".repeat(100_000);
    let wide = format!("a: &a \"{text}\"\nb: [{}]\n", vec!["*a"; 10_000].join(", "));
    let deep = "[".repeat(10_000);
    for bomb in [nested, wide, deep] {
        assert!(one(&bomb).is_err());
    }
}

#[test]
fn lines_of_fields_are_found() {
    let text = "# one\n---\nkind: A\nspec:\n  http:\n  - match: x\n  - route:\n      weight: 5\n      \
                max_retries: 1\n    80: z\n";
    let document = split(text)[0];
    let cases = [
        ("kind", Some(3)),
        ("spec.http[0].match", Some(6)),
        ("spec.http[1].route.weight", Some(8)),
        ("spec.http[1].route.maxRetries", Some(9)),
        ("spec.http[1].route.missing", Some(8)),
        ("spec.http[7]", Some(6)),
        ("", Some(3)),
    ];
    for (path, line) in cases {
        assert_eq!(line_of(&document, path), line, "{path}");
    }
}

#[test]
fn json_streams_are_read() {
    assert_eq!(
        read_json("{\"a\":1}\n[2]\n").unwrap(),
        [json!({"a": 1}), json!([2])]
    );
    assert_eq!(read_json(" \n").unwrap(), Vec::<Value>::new());
    let error = read_json("{\"a\": 1,\n \"a\": 2}").unwrap_err();
    assert_eq!(error.line, Some(2));
    assert!(error.message.contains("duplicate key"), "{error}");
}
