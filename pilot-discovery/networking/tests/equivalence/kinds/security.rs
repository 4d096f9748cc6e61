//! Who has to use mutual TLS.

use serde_json::Value;

use crate::fields::{Fields, object};

pub(super) fn peer_authentication(fields: &mut Fields<'_>) -> Value {
    object([
        (
            "mtls",
            fields.json(&[
                r#"{"mode": "STRICT"}"#,
                "",
                r#"{"mode": "DISABLE"}"#,
                r#"{"mode": "PERMISSIVE"}"#,
                "{}",
            ]),
        ),
        (
            "selector",
            fields.json(&[
                "",
                r#"{"matchLabels": {"app": "x"}}"#,
                r#"{"matchLabels": {"version": "v1"}}"#,
            ]),
        ),
        (
            "portLevelMtls",
            fields.json(&[
                "",
                r#"{"8080": {"mode": "DISABLE"}}"#,
                r#"{"9090": {"mode": "STRICT"}, "8080": {}}"#,
            ]),
        ),
    ])
}

pub(super) fn policy(fields: &mut Fields<'_>) -> Value {
    object([
        (
            "peers",
            fields.json(&[
                r#"[{"mtls": {}}]"#,
                "",
                r#"[{"mtls": {"mode": "PERMISSIVE"}}]"#,
                r#"[{"jwt": {"issuer": "x"}}]"#,
            ]),
        ),
        (
            "targets",
            fields.json(&[
                "",
                r#"[{"name": "web"}]"#,
                r#"[{"name": "web", "ports": [{"number": 80}]}]"#,
                r#"[{"name": "db", "ports": [{"name": "tcp"}]}, {"name": "nothing"}]"#,
            ]),
        ),
        (
            "origins",
            fields.json(&[
                "",
                r#"[{"jwt": {"issuer": "x", "jwksUri": "https://x.test"}}]"#,
            ]),
        ),
        ("peerIsOptional", fields.json(&["", "true"])),
    ])
}
