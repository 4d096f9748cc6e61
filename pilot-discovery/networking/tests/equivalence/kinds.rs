//! The kinds of configuration that pilot reads, each with the fields that are varied.

mod security;
mod services;

use istio_api::{
    collections::{self, Collection},
    json::{self, Unknown},
    object::{Meta, Object},
};
use pilot_model::key::ObjectKey;
use serde_json::{Value, json};

use crate::fields::{Choices, Fields, object};

pub(crate) const NAMESPACES: [&str; 3] = ["a", "b", "istio-system"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Service,
    ServiceEntry,
    VirtualService,
    DestinationRule,
    Gateway,
    Sidecar,
    PeerAuthentication,
    Policy,
    MeshPolicy,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Service,
        Self::ServiceEntry,
        Self::VirtualService,
        Self::DestinationRule,
        Self::Gateway,
        Self::Sidecar,
        Self::PeerAuthentication,
        Self::Policy,
        Self::MeshPolicy,
    ];

    pub(crate) fn collection(self) -> &'static Collection {
        let (group, kind) = match self {
            Self::Service => return &collections::SYNTHETIC_SERVICE_ENTRIES,
            Self::ServiceEntry => ("networking.istio.io", "ServiceEntry"),
            Self::VirtualService => ("networking.istio.io", "VirtualService"),
            Self::DestinationRule => ("networking.istio.io", "DestinationRule"),
            Self::Gateway => ("networking.istio.io", "Gateway"),
            Self::Sidecar => ("networking.istio.io", "Sidecar"),
            Self::PeerAuthentication => ("security.istio.io", "PeerAuthentication"),
            Self::Policy => ("authentication.istio.io", "Policy"),
            Self::MeshPolicy => ("authentication.istio.io", "MeshPolicy"),
        };
        collections::by_gvk(group, kind).expect("known kind")
    }

    /// Any change of it makes everything again.
    pub(crate) fn makes_everything(self) -> bool {
        matches!(
            self,
            Self::Sidecar | Self::PeerAuthentication | Self::Policy | Self::MeshPolicy
        )
    }

    /// Slots are few, so that steps meet the same objects again.
    pub(crate) fn key(self, slot: u8) -> ObjectKey {
        let slot = usize::from(slot % 6);
        if self == Self::MeshPolicy {
            return ObjectKey::new("", "default");
        }
        ObjectKey::new(NAMESPACES[slot % 3], ["web", "db"][slot / 3])
    }

    /// `None` stands for bytes that are not an encoding of the message.
    pub(crate) fn object(self, slot: u8, choices: &Choices, version: usize) -> Object {
        let key = self.key(slot);
        let mut fields = Fields::new(choices);
        let age = fields.number(4);
        let labels = fields.pick(&[json!({}), json!({"app": "x"}), json!({"team": "t"})]);
        let mut annotations = Value::Null;
        let spec = match self {
            Self::Service => services::service(&key, slot, &mut fields, &mut annotations),
            Self::ServiceEntry => services::service_entry(&mut fields),
            Self::VirtualService => virtual_service(&mut fields),
            Self::DestinationRule => destination_rule(&mut fields),
            Self::Gateway => gateway(&mut fields),
            Self::Sidecar => sidecar(&mut fields),
            Self::PeerAuthentication => security::peer_authentication(&mut fields),
            Self::Policy | Self::MeshPolicy => security::policy(&mut fields),
        };
        let collection = self.collection();
        let (body, _) = json::read_dynamic(collection.message, &spec, Unknown::Refuse)
            .unwrap_or_else(|issues| panic!("{self:?} {spec}: {issues:?}"));
        let texts = |value: &Value| {
            let pairs = value.as_object().into_iter().flatten();
            pairs
                .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect()
        };
        Object {
            meta: Meta {
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
                resource_version: version.to_string(),
                // Equal ages are frequent: then the names decide.
                creation_timestamp: (age < 3).then(|| prost_types::Timestamp {
                    seconds: 1_000_000 + i64::from(age),
                    nanos: 0,
                }),
                labels: texts(&labels),
                annotations: texts(&annotations),
            },
            collection,
            body: body.into(),
        }
    }
}

fn virtual_service(fields: &mut Fields<'_>) -> Value {
    let host = fields.pick(&[
        "web",
        "db.b.svc.cluster.local",
        "ext.example.com",
        "nowhere.test",
        "web.a.svc.cluster.local",
    ]);
    let subset = fields.pick(&["", "v1", "v9"]);
    let to = json!({"destination": {"host": host, "subset": subset}});
    let to_port = json!({"destination": {"host": host, "port": {"number": 90}}});
    let matched = fields.json(&[
        "",
        r#"[{"uri": {"prefix": "/x"}}]"#,
        r#"[{"sourceLabels": {"app": "x"}}]"#,
        r#"[{"sourceNamespace": "a"}]"#,
        r#"[{"gateways": ["web"]}]"#,
        r#"[{"port": 80}]"#,
        r#"[{"uri": {"regex": "("}}]"#,
    ]);
    let extra = fields.number(5);
    let mut http = object([("route", Some(json!([to]))), ("match", matched)]);
    match extra {
        1 => http["mirror"] = json!({"host": "db"}),
        2 => http["delegate"] = json!({"name": "db"}),
        3 => http["delegate"] = json!({"name": "web", "namespace": "b"}),
        4 => http["timeout"] = json!("3s"),
        _ => {}
    }
    if matches!(extra, 2 | 3) {
        http.as_object_mut().expect("an object").remove("route");
    }
    object([
        (
            "hosts",
            fields.json(&[
                r#"["web"]"#,
                r#"["web.a.svc.cluster.local"]"#,
                "[]",
                r#"["*.example.com"]"#,
                r#"["nowhere.test", "db"]"#,
                r#"["*"]"#,
                r#"["ext.example.com"]"#,
                r#"["*.svc.cluster.local"]"#,
            ]),
        ),
        (
            "gateways",
            fields.json(&["", r#"["web"]"#, r#"["mesh", "web"]"#, r#"["b/db"]"#]),
        ),
        ("exportTo", fields.json(&["", r#"["."]"#, r#"["b"]"#])),
        (
            "http",
            fields.pick(&[
                Some(json!([http])),
                None,
                Some(json!([http, {"route": [to]}])),
            ]),
        ),
        (
            "tcp",
            fields.pick(&[
                None,
                Some(json!([{"route": [to_port]}])),
                Some(json!([{"match": [{"sourceLabels": {"app": "y"}}], "route": [to_port]}])),
            ]),
        ),
        (
            "tls",
            fields.pick(&[
                None,
                Some(json!([{"match": [{"sniHosts": ["ext.example.com"]}], "route": [to_port]}])),
            ]),
        ),
    ])
}

fn destination_rule(fields: &mut Fields<'_>) -> Value {
    let mut policy = object([
        ("tls", fields.json(&[
            "", r#"{"mode": "ISTIO_MUTUAL"}"#, r#"{"mode": "SIMPLE", "sni": "x"}"#, r#"{"mode": "DISABLE"}"#,
        ])),
        ("loadBalancer", fields.json(&[
            "",
            r#"{"simple": "RANDOM"}"#,
            r#"{"consistentHash": {"httpHeaderName": "x"}}"#,
            r#"{"consistentHash": {"useSourceIp": true}}"#,
            r#"{"localityLbSetting": {"distribute": [{"from": "r1/*", "to": {"r1/*": 80, "r2/*": 20}}]}}"#,
            r#"{"localityLbSetting": {"failoverPriority": ["app", "version"]}}"#,
        ])),
        ("outlierDetection", fields.json(&["", r#"{"consecutive5xxErrors": 3}"#])),
        ("connectionPool", fields.json(&[
            "",
            r#"{"tcp": {"maxConnections": 3, "idleTimeout": "7s"}}"#,
            r#"{"http": {"h2UpgradePolicy": "UPGRADE", "useClientProtocol": true}}"#,
        ])),
    ]);
    if fields.number(3) == 1 {
        policy["portLevelSettings"] =
            json!([{"port": {"number": 90}, "loadBalancer": {"simple": "ROUND_ROBIN"}}]);
    }
    object([
        ("trafficPolicy", Some(policy)),
        (
            "host",
            fields.json(&[
                r#""web""#,
                r#""web.a.svc.cluster.local""#,
                r#""*.svc.cluster.local""#,
                r#""ext.example.com""#,
                r#""*.example.com""#,
                r#""*""#,
                r#""web.b.svc.cluster.local""#,
            ]),
        ),
        ("exportTo", fields.json(&["", r#"["."]"#, r#"["b"]"#])),
        (
            "subsets",
            fields.json(&[
                "",
                r#"[{"name": "v1", "labels": {"version": "v1"}}]"#,
                r#"[{"name": "v1", "labels": {"version": "v2"},
                 "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 1}}},
                {"name": "v1"}]"#,
            ]),
        ),
        (
            "workloadSelector",
            fields.json(&[
                "",
                r#"{"matchLabels": {"app": "x"}}"#,
                r#"{"matchLabels": {"version": "v1"}}"#,
            ]),
        ),
    ])
}

fn gateway(fields: &mut Fields<'_>) -> Value {
    let hosts = fields.pick(&[
        json!(["*"]),
        json!(["./web.a.svc.cluster.local"]),
        json!(["ext.example.com"]),
        json!(["b/*"]),
    ]);
    let server = match fields.number(6) {
        0 => json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": hosts}),
        1 => json!({"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": hosts,
                    "tls": {"mode": "SIMPLE", "credentialName": "cert"}}),
        2 => json!({"port": {"number": 443, "name": "tls", "protocol": "TLS"}, "hosts": hosts,
                    "tls": {"mode": "AUTO_PASSTHROUGH"}}),
        3 => json!({"port": {"number": 90, "name": "tcp", "protocol": "TCP"}, "hosts": hosts}),
        4 => json!({"port": {"number": 443, "name": "tls", "protocol": "TLS"}, "hosts": hosts,
                    "tls": {"mode": "PASSTHROUGH"}}),
        _ => json!({"hosts": hosts}),
    };
    object([
        (
            "selector",
            fields.json(&[
                r#"{"gw": "edge"}"#,
                "",
                r#"{"app": "x"}"#,
                r#"{"gw": "other"}"#,
            ]),
        ),
        (
            "servers",
            fields.pick(&[
                Some(json!([server])),
                None,
                Some(json!([server, {
                    "port": {"number": 80, "name": "http2", "protocol": "HTTP2"}, "hosts": ["*"],
                    "tls": {"httpsRedirect": true},
                }])),
            ]),
        ),
    ])
}

fn sidecar(fields: &mut Fields<'_>) -> Value {
    object([
        ("workloadSelector", fields.json(&["", r#"{"labels": {"app": "x"}}"#, r#"{"labels": {"app": "y"}}"#])),
        ("egress", fields.json(&[
            r#"[{"hosts": ["./*"]}]"#,
            "",
            r#"[{"hosts": ["*/*"]}]"#,
            r#"[{"hosts": ["b/web.b.svc.cluster.local"]}]"#,
            r#"[{"port": {"number": 90, "name": "tcp", "protocol": "TCP"}, "hosts": ["*/*"]},
                {"hosts": ["~/*"]}]"#,
            r#"[{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["a/*"],
                 "bind": "127.0.0.1", "captureMode": "NONE"}, {"hosts": ["*/*"]}]"#,
            r#"[{"port": {"number": 3128, "name": "proxy", "protocol": "HTTP_PROXY"}, "hosts": ["*/*"]}]"#,
            r#"[{"port": {"number": 0, "name": "unix", "protocol": "HTTP"}, "hosts": ["*/*"],
                 "bind": "unix:///tmp/x"}]"#,
        ])),
        ("ingress", fields.json(&[
            "",
            r#"[{"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "defaultEndpoint": "127.0.0.1:9000"}]"#,
            r#"[{"port": {"number": 9090, "name": "tcp", "protocol": "TCP"}, "captureMode": "NONE",
                 "defaultEndpoint": "0.0.0.0:9091"}]"#,
            r#"[{"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "defaultEndpoint": "wrong"}]"#,
        ])),
        ("outboundTrafficPolicy", fields.json(&[
            "",
            r#"{"mode": "REGISTRY_ONLY"}"#,
            r#"{"mode": "ALLOW_ANY", "egressProxy": {"host": "web", "port": {"number": 80}}}"#,
        ])),
        ("inboundConnectionPool", fields.json(&["", r#"{"tcp": {"maxConnections": 5}}"#])),
    ])
}
