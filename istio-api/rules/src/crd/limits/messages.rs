//! Constraints on whole messages. Names leave out `istio.`.

use super::Limit::{self, Rule};

/// Messages of objects that are meaningless without `spec`.
pub(in crate::crd) const SPEC_REQUIRED: &[&str] = &[
    "istio.extensions.v1alpha1.TrafficExtension",
    "istio.extensions.v1alpha1.WasmPlugin",
    "istio.networking.v1alpha3.ServiceEntry",
    "istio.networking.v1alpha3.WorkloadEntry",
    "istio.networking.v1alpha3.WorkloadGroup",
];

const ONE_TARGET: Limit = Rule(
    "[has(self.selector), has(self.targetRef), has(self.targetRefs)].filter(set, set).size() <= 1",
    "want only one of selector, targetRef and targetRefs",
);
pub(super) const UNIX_WITHOUT_PORTS: Limit = Rule(
    "!has(self.address) || !self.address.startsWith('unix://') || !has(self.ports)",
    "want no ports where the address is a Unix socket",
);

/// Constraints on whole messages.
pub(super) const MESSAGES: &[(&str, &[Limit])] = &[
    (
        "extensions.v1alpha1.EnvVar",
        &[Rule(
            "!has(self.value) || !has(self.valueFrom) || self.valueFrom != 'HOST'",
            "want a value only where valueFrom is INLINE",
        )],
    ),
    (
        "extensions.v1alpha1.TrafficExtension",
        &[
            Rule(
                "!has(self.selector) || !has(self.targetRefs)",
                "want only one of selector and targetRefs",
            ),
            Rule(
                "has(self.wasm) != has(self.lua)",
                "want one of wasm and lua",
            ),
        ],
    ),
    ("extensions.v1alpha1.WasmPlugin", &[ONE_TARGET]),
    (
        "networking.v1alpha3.EnvoyFilter",
        &[Rule(
            "!has(self.workloadSelector) || !has(self.targetRefs)",
            "want only one of workloadSelector and targetRefs",
        )],
    ),
    // EF-23
    (
        "networking.v1alpha3.EnvoyFilter.EnvoyConfigObjectMatch",
        &[Rule(
            "has(self.waypoint) == (has(self.context) && self.context == 'WAYPOINT')",
            "want waypoint where context is WAYPOINT, and only there",
        )],
    ),
    // CS-08
    (
        "networking.v1alpha3.ServerTLSSettings",
        &[
            Rule(
                "!has(self.credentialNames) || !has(self.tlsCertificates)",
                "want only one of credentialNames and tlsCertificates",
            ),
            Rule(
                "!has(self.credentialName) || !has(self.credentialNames)",
                "want only one of credentialName and credentialNames",
            ),
            Rule(
                "!has(self.credentialName) || !has(self.tlsCertificates)",
                "want only one of credentialName and tlsCertificates",
            ),
        ],
    ),
    (
        "networking.v1alpha3.ServiceEntry",
        &[
            Rule(
                "!has(self.workloadSelector) || !has(self.endpoints)",
                "want only one of workloadSelector and endpoints",
            ),
            Rule(
                "!has(self.addresses) || !self.addresses.exists(one, one.contains('/')) || \
             !has(self.resolution) || self.resolution in ['NONE', 'STATIC']",
                "want addresses with a prefix length only where resolution is NONE or STATIC",
            ),
            Rule(
                "!has(self.endpoints) || (has(self.resolution) && self.resolution != 'NONE')",
                "want endpoints only where resolution is not NONE",
            ),
            Rule(
                "!has(self.endpoints) || !has(self.resolution) || \
             self.resolution != 'DNS_ROUND_ROBIN' || self.endpoints.size() <= 1",
                "want one endpoint where resolution is DNS_ROUND_ROBIN",
            ),
        ],
    ),
    // CS-10
    (
        "networking.v1alpha3.WorkloadEntry",
        &[
            Rule("has(self.address) || has(self.network)", "want an address"),
            UNIX_WITHOUT_PORTS,
        ],
    ),
    ("security.v1beta1.AuthorizationPolicy", &[ONE_TARGET]),
    // CS-15
    (
        "security.v1beta1.PeerAuthentication",
        &[Rule(
            "!has(self.portLevelMtls) || (has(self.selector) && has(self.selector.matchLabels) && \
         self.selector.matchLabels.size() > 0)",
            "want selector.matchLabels where portLevelMtls is set",
        )],
    ),
    ("security.v1beta1.RequestAuthentication", &[ONE_TARGET]),
    (
        "security.v1beta1.JWTRule",
        &[Rule(
            "[has(self.jwksUri), has(self.jwks_uri), has(self.jwks)].filter(set, set).size() <= 1",
            "want only one of jwksUri and jwks",
        )],
    ),
    (
        "security.v1beta1.Source",
        &[Rule(
            "!(has(self.serviceAccounts) || has(self.notServiceAccounts)) || \
         !(has(self.principals) || has(self.notPrincipals) || has(self.namespaces) || \
         has(self.notNamespaces))",
            "want serviceAccounts without principals and namespaces",
        )],
    ),
    (
        "telemetry.v1alpha1.MetricsOverrides.TagOverride",
        &[
            Rule(
                "!has(self.operation) || self.operation != 'UPSERT' || (has(self.value) && self.value != '')",
                "want a value where operation is UPSERT",
            ),
            Rule(
                "!has(self.operation) || self.operation != 'REMOVE' || !has(self.value)",
                "want no value where operation is REMOVE",
            ),
        ],
    ),
    ("telemetry.v1alpha1.Telemetry", &[ONE_TARGET]),
];
