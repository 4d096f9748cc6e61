//! What `kubectl get` shows of a kind, and under which names it finds it.

use serde_json::{Value, json};

/// Title, path and meaning.
type Column = (&'static str, &'static str, &'static str);

const AGE: Column = ("Age", ".metadata.creationTimestamp", "When it was created.");

/// Kind, then its columns. A kind that is not here has the two that every
/// kind has.
const COLUMNS: &[(&str, &[Column])] = &[
    (
        "AuthorizationPolicy",
        &[
            (
                "Action",
                ".spec.action",
                "What happens to a request that matches.",
            ),
            AGE,
        ],
    ),
    (
        "DestinationRule",
        &[("Host", ".spec.host", "Host that the policy is for."), AGE],
    ),
    (
        "PeerAuthentication",
        &[
            (
                "Mode",
                ".spec.mtls.mode",
                "Mutual TLS mode of the workload.",
            ),
            AGE,
        ],
    ),
    (
        "ServiceEntry",
        &[
            ("Hosts", ".spec.hosts", "Hosts that the entry declares."),
            (
                "Location",
                ".spec.location",
                "Whether the service is part of the mesh.",
            ),
            ("Resolution", ".spec.resolution", "How addresses are found."),
            AGE,
        ],
    ),
    (
        "ServiceRoleBinding",
        &[
            ("Reference", ".spec.roleRef.name", "Role that is given."),
            AGE,
        ],
    ),
    ("Telemetry", &[AGE]),
    ("TrafficExtension", &[AGE]),
    (
        "VirtualService",
        &[
            (
                "Gateways",
                ".spec.gateways",
                "Gateways that the routes apply at.",
            ),
            ("Hosts", ".spec.hosts", "Hosts that the routes are for."),
            AGE,
        ],
    ),
    ("WasmPlugin", &[AGE]),
    (
        "WorkloadEntry",
        &[
            AGE,
            ("Address", ".spec.address", "Address of the workload."),
        ],
    ),
    ("WorkloadGroup", &[AGE]),
];

/// `additionalPrinterColumns` of a kind.
pub(super) fn of(kind: &str) -> Vec<Value> {
    let row = COLUMNS.iter().find(|(name, _)| *name == kind);
    row.into_iter()
        .flat_map(|(_, columns)| columns.iter())
        .map(|(name, path, description)| {
            let r#type = if path.ends_with("Timestamp") {
                "date"
            } else {
                "string"
            };
            json!({"name": name, "jsonPath": path, "type": r#type, "description": description})
        })
        .collect()
}

/// `kubectl get istio-io` finds every kind, `networking-istio-io` those of one group.
pub(super) fn categories(group: &str) -> [String; 2] {
    let first = match group.split('.').next().unwrap_or_default() {
        // The names of 1.1: these are the API management kinds of the mixer.
        "config" => "apim",
        first => first,
    };
    ["istio-io".to_owned(), format!("{first}-istio-io")]
}

/// Value of the label `istio`, which some groups have.
pub(super) fn label(group: &str) -> Option<&'static str> {
    match group {
        "security.istio.io" => Some("security"),
        "telemetry.istio.io" => Some("telemetry"),
        "rbac.istio.io" => Some("rbac"),
        _ => None,
    }
}
