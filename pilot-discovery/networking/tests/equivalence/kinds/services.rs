//! Kubernetes Services, as galley writes them, and ServiceEntries.

use pilot_model::key::ObjectKey;
use serde_json::{Value, json};

use crate::fields::{Fields, object};

/// An address of one of the proxies, or of none.
const ADDRESSES: [&str; 4] = ["10.0.0.1", "10.0.0.2", "10.0.0.7", "10.9.9.9"];

pub(super) fn service(
    key: &ObjectKey,
    slot: u8,
    fields: &mut Fields<'_>,
    annotations: &mut Value,
) -> Value {
    let ports = fields.json(&[
        r#"[{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}]"#,
        r#"[{"number": 80, "name": "http", "protocol": "HTTP"},
            {"number": 90, "name": "tcp", "protocol": "TCP"}]"#,
        r#"[{"number": 90, "name": "tcp", "protocol": "TCP"}]"#,
        r#"[{"number": 90, "name": "auto", "protocol": "UnsetProtocol"}]"#,
        r#"[{"number": 443, "name": "tls", "protocol": "TLS"}]"#,
        r#"[{"number": 80, "name": "db", "protocol": "MONGO"}]"#,
        r#"[{"number": 53, "name": "dns", "protocol": "UDP"},
            {"number": 53, "name": "dns-tcp", "protocol": "TCP"}]"#,
        "[]",
    ]);
    let address = format!("10.96.0.{}", slot % 6 + 1);
    let addresses = fields.pick(&[
        json!([address]),
        json!([]),
        json!([address, "fd00::1"]),
        json!(["10.97.0.0/16"]),
        json!(["10.96.0.1"]),
    ]);
    let resolution = fields.pick(&["STATIC", "NONE", "STATIC"]);
    let external = fields.pick(&["", "", "web.b.svc.cluster.local", "ext.example.com"]);
    let endpoint = json!({
        "address": fields.pick(&ADDRESSES),
        "ports": {"http": 8080, "tcp": 9090, "tls": 8443, "auto": 9090, "db": 27017},
        "labels": fields.pick(&[
            json!({"app": "x", "version": "v1", "security.istio.io/tlsMode": "istio"}),
            json!({"app": "y", "version": "v2"}),
        ]),
        "locality": fields.pick(&["", "r1/z1", "r2/z1"]),
        "serviceAccount": fields.pick(&["", "web", "db"]),
    });
    let endpoints = fields.pick(&[
        json!([endpoint]),
        json!([]),
        json!([
            endpoint,
            {"address": "10.0.0.3", "ports": {"http": 8080, "tcp": 9090}, "labels": {"app": "x"}},
        ]),
    ]);
    let mut notes = serde_json::Map::new();
    match fields.number(6) {
        1 => drop(notes.insert("internal.istio.io/node-local".into(), json!("true"))),
        2 => drop(notes.insert("internal.istio.io/publish-not-ready".into(), json!("true"))),
        // Not as galley writes it: refused.
        3 => drop(notes.insert("internal.istio.io/not-ready-endpoints".into(), json!("{"))),
        4 => {
            let row =
                r#"[{"address": "10.0.0.2", "health": "UNHEALTHY", "ports": {"http": 8080}}]"#;
            notes.insert("internal.istio.io/not-ready-endpoints".into(), json!(row));
        }
        _ => {}
    }
    let mut spec = json!({
        "hosts": [format!("{}.{}.svc.cluster.local", key.name, key.namespace)],
        "addresses": addresses,
        "ports": ports,
        "resolution": resolution,
        "location": "MESH_INTERNAL",
        "endpoints": endpoints,
        "workloadSelector": {"labels": {"app": "x"}},
    });
    if !external.is_empty() {
        notes.insert("internal.istio.io/external-name".into(), json!(external));
        spec["resolution"] = json!("DNS");
        spec["location"] = json!("MESH_EXTERNAL");
        spec["addresses"] = json!([]);
        spec["endpoints"] = json!([{"address": external}]);
    }
    *annotations = Value::Object(notes);
    spec
}

pub(super) fn service_entry(fields: &mut Fields<'_>) -> Value {
    object([
        (
            "hosts",
            fields.json(&[
                r#"["ext.example.com"]"#,
                r#"["*.example.com"]"#,
                r#"["web.a.svc.cluster.local"]"#,
                r#"["ext.example.com", "other.test"]"#,
                r#"["EXT.example.com"]"#,
                "[]",
            ]),
        ),
        (
            "ports",
            fields.json(&[
                r#"[{"number": 80, "name": "http", "protocol": "HTTP"}]"#,
                r#"[{"number": 443, "name": "tls", "protocol": "TLS"}]"#,
                r#"[{"number": 90, "name": "tcp", "protocol": "TCP", "targetPort": 91}]"#,
                r#"[{"number": 80, "name": "http", "protocol": "HTTP"},
                {"number": 90, "name": "tcp", "protocol": "TCP"}]"#,
                "",
            ]),
        ),
        (
            "resolution",
            fields.json(&[
                r#""STATIC""#,
                r#""DNS""#,
                r#""NONE""#,
                r#""DNS_ROUND_ROBIN""#,
            ]),
        ),
        ("location", fields.json(&["", r#""MESH_INTERNAL""#])),
        (
            "addresses",
            fields.json(&["", r#"["10.96.0.9"]"#, r#"["10.98.0.0/16"]"#]),
        ),
        (
            "exportTo",
            fields.json(&["", r#"["."]"#, r#"["b"]"#, r#"["~"]"#]),
        ),
        (
            "subjectAltNames",
            fields.json(&["", r#"["spiffe://cluster.local/ns/a/sa/web"]"#]),
        ),
        (
            "endpoints",
            fields.json(&[
                r#"[{"address": "10.0.0.2"}]"#,
                "",
                r#"[{"address": "10.0.0.1", "labels": {"app": "x"}, "serviceAccount": "web"},
                {"address": "10.0.0.2", "locality": "r1/z1"}]"#,
                r#"[{"address": "far.example.com"}]"#,
                r#"[{"address": "unix:///var/run/x.sock"}]"#,
            ]),
        ),
        (
            "workloadSelector",
            fields.json(&["", r#"{"labels": {"app": "x"}}"#]),
        ),
    ])
}
