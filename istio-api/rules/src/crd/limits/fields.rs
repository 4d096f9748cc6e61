//! Constraints on fields. Names of messages leave out `istio.`, names of fields are those of JSON.

use super::Limit::{
    self, BareMessage, Elements, Items, Key, Length, MinLength, Minimum, Pattern, Properties,
    ProtoSpelling, Range, Required, Rule, ZeroDuration,
};
use super::messages::UNIX_WITHOUT_PORTS;

const PORT: Limit = Rule("self >= 1 && self <= 65535", "want a port, 1 to 65535");
const NO_STAR: Limit = Rule("!self.contains('*')", "want a label value without '*'");
/// CS-01
const LABELS: &[Limit] = &[
    Properties(0, 4096),
    Elements(&[Length(0, 63), NO_STAR]),
    Rule(
        "self.all(key, key != '')",
        "want label keys that are not empty",
    ),
    Rule(
        "self.all(key, !key.contains('*'))",
        "want label keys without '*'",
    ),
];
/// CS-02
const WORKLOAD_LABELS: &[Limit] = &[Properties(0, 256), Elements(&[Length(0, 63), NO_STAR])];
/// CS-03
const TARGETS: &[Limit] = &[Items(0, 16)];
const ABSENT: &[Limit] = &[Rule(
    "self == ''",
    "want no namespace: only targets in the namespace of the object are selected",
)];
const IMAGE: &[Limit] = &[
    Required,
    MinLength(1),
    Rule(
        "isURL(self) ? url(self).getScheme() in ['', 'http', 'https', 'oci', 'file'] : \
         isURL('http://' + self)",
        "want an address without scheme or with one of http, https, oci and file",
    ),
];
const DIGEST: &[Limit] = &[Pattern("(^$|^[a-f0-9]{64}$)")];
const SECRET_NAME: &[Limit] = &[Length(1, 253)];
const PLUGIN_NAME: &[Limit] = &[Length(1, 256)];
const NOT_EMPTY: &[Limit] = &[MinLength(1)];
const REQUIRED: &[Limit] = &[Required];
const REQUIRED_NOT_EMPTY: &[Limit] = &[Required, MinLength(1)];
const ELEMENTS_NOT_EMPTY: &[Limit] = &[Elements(&[MinLength(1)])];
const SERVICE_ACCOUNTS: &[Limit] = &[Items(0, 16), Elements(&[Length(0, 320)])];
const PAIR: &[Limit] = &[Items(1, 2)];
/// RA-07, CS-14
const JWKS_URI: &[Limit] = &[
    ProtoSpelling,
    Length(1, 2048),
    Rule(
        "url(self).getScheme() in ['http', 'https']",
        "want an address with scheme http or https",
    ),
];
const PERCENT: &[Limit] = &[Range(0, 100)];

/// Constraints on fields.
pub(super) const FIELDS: &[(&str, &str, &[Limit])] = &[
    // extensions
    (
        "extensions.v1alpha1.EnvVar",
        "name",
        &[Required, Length(1, 256)],
    ),
    ("extensions.v1alpha1.EnvVar", "value", &[Length(0, 2048)]),
    (
        "extensions.v1alpha1.LuaConfig",
        "inlineCode",
        &[Required, Length(1, 65_536)],
    ),
    (
        "extensions.v1alpha1.TrafficExtension",
        "targetRefs",
        TARGETS,
    ),
    (
        "extensions.v1alpha1.TrafficSelector",
        "ports",
        &[Key("number")],
    ),
    (
        "extensions.v1alpha1.VmConfig",
        "env",
        &[Items(0, 256), Key("name")],
    ),
    (
        "extensions.v1alpha1.WasmConfig",
        "imagePullSecret",
        SECRET_NAME,
    ),
    ("extensions.v1alpha1.WasmConfig", "pluginName", PLUGIN_NAME),
    ("extensions.v1alpha1.WasmConfig", "sha256", DIGEST),
    ("extensions.v1alpha1.WasmConfig", "url", IMAGE),
    (
        "extensions.v1alpha1.WasmPlugin",
        "imagePullSecret",
        SECRET_NAME,
    ),
    ("extensions.v1alpha1.WasmPlugin", "pluginName", PLUGIN_NAME),
    ("extensions.v1alpha1.WasmPlugin", "sha256", DIGEST),
    ("extensions.v1alpha1.WasmPlugin", "targetRefs", TARGETS),
    ("extensions.v1alpha1.WasmPlugin", "url", IMAGE),
    (
        "extensions.v1alpha1.WasmPlugin.TrafficSelector",
        "ports",
        &[Key("number")],
    ),
    // networking: DestinationRule
    (
        "networking.v1alpha3.ConnectionPoolSettings.TCPSettings",
        "idleTimeout",
        &[ZeroDuration],
    ),
    ("networking.v1alpha3.DestinationRule", "host", REQUIRED),
    (
        "networking.v1alpha3.LoadBalancerSettings.ConsistentHashLB.HTTPCookie",
        "name",
        REQUIRED,
    ),
    (
        "networking.v1alpha3.LoadBalancerSettings.ConsistentHashLB.HTTPCookie",
        "ttl",
        &[ZeroDuration],
    ),
    (
        "networking.v1alpha3.LoadBalancerSettings.ConsistentHashLB.HTTPCookie.Attribute",
        "name",
        REQUIRED,
    ),
    ("networking.v1alpha3.Subset", "name", REQUIRED),
    (
        "networking.v1alpha3.TrafficPolicy",
        "portLevelSettings",
        &[Items(0, 4096)],
    ),
    (
        "networking.v1alpha3.TrafficPolicy.RetryBudget",
        "percent",
        PERCENT,
    ),
    (
        "networking.v1alpha3.TrafficPolicy.TunnelSettings",
        "targetHost",
        REQUIRED,
    ),
    (
        "networking.v1alpha3.TrafficPolicy.TunnelSettings",
        "targetPort",
        REQUIRED,
    ),
    (
        "networking.v1alpha3.WarmupConfiguration",
        "aggression",
        &[Minimum(0)],
    ),
    (
        "networking.v1alpha3.WarmupConfiguration",
        "duration",
        REQUIRED,
    ),
    (
        "networking.v1alpha3.WarmupConfiguration",
        "minimumPercent",
        PERCENT,
    ),
    // networking: EnvoyFilter
    ("networking.v1alpha3.EnvoyFilter", "targetRefs", TARGETS),
    (
        "networking.v1alpha3.EnvoyFilter.WaypointMatch",
        "portNumber",
        &[PORT],
    ),
    // networking: Gateway
    ("networking.v1alpha3.Port", "name", REQUIRED),
    ("networking.v1alpha3.Port", "number", REQUIRED),
    ("networking.v1alpha3.Port", "protocol", REQUIRED),
    ("networking.v1alpha3.Server", "hosts", REQUIRED),
    ("networking.v1alpha3.Server", "port", REQUIRED),
    (
        "networking.v1alpha3.ServerTLSSettings",
        "credentialNames",
        PAIR,
    ),
    (
        "networking.v1alpha3.ServerTLSSettings",
        "tlsCertificates",
        PAIR,
    ),
    // networking: ServiceEntry (CS-09), WorkloadEntry (CS-10), WorkloadGroup (CS-11)
    (
        "networking.v1alpha3.ServiceEntry",
        "addresses",
        &[Items(0, 256), Elements(&[Length(0, 64)])],
    ),
    (
        "networking.v1alpha3.ServiceEntry",
        "endpoints",
        &[Items(0, 4096)],
    ),
    (
        "networking.v1alpha3.ServiceEntry",
        "hosts",
        &[
            Required,
            Items(1, 256),
            Elements(&[Rule("self != '*'", "want a host other than '*'")]),
        ],
    ),
    (
        "networking.v1alpha3.ServiceEntry",
        "ports",
        &[
            Items(0, 256),
            Key("name"),
            Rule(
                "self.all(one, self.exists_one(other, other.number == one.number))",
                "want each port number once",
            ),
        ],
    ),
    (
        "networking.v1alpha3.ServicePort",
        "name",
        &[Required, Length(0, 256)],
    ),
    (
        "networking.v1alpha3.ServicePort",
        "number",
        &[Required, PORT],
    ),
    (
        "networking.v1alpha3.ServicePort",
        "protocol",
        &[Length(0, 256)],
    ),
    ("networking.v1alpha3.ServicePort", "targetPort", &[PORT]),
    (
        "networking.v1alpha3.WorkloadEntry",
        "address",
        &[
            Length(0, 256),
            Rule(
                "!self.startsWith('unix://') || self.substring(7).startsWith('/') || \
                 self.substring(7).startsWith('@')",
                "want an absolute path or an abstract socket (@name) after unix://",
            ),
            Rule(
                "!self.startsWith('unix://') || !self.endsWith('/')",
                "want the path of a socket, not of a directory",
            ),
        ],
    ),
    (
        "networking.v1alpha3.WorkloadEntry",
        "labels",
        &[Properties(0, 256)],
    ),
    (
        "networking.v1alpha3.WorkloadEntry",
        "locality",
        &[Length(0, 2048)],
    ),
    (
        "networking.v1alpha3.WorkloadEntry",
        "network",
        &[Length(0, 2048)],
    ),
    (
        "networking.v1alpha3.WorkloadEntry",
        "ports",
        &[
            Properties(0, 128),
            Elements(&[PORT]),
            Rule(
                "self.all(key, key.size() < 63 && \
                 key.matches('^[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?$'))",
                "want names of ports that are DNS labels",
            ),
        ],
    ),
    (
        "networking.v1alpha3.WorkloadEntry",
        "serviceAccount",
        &[Length(0, 253)],
    ),
    (
        "networking.v1alpha3.ExecHealthCheckConfig",
        "command",
        &[Required, Elements(&[MinLength(1)])],
    ),
    ("networking.v1alpha3.GrpcHealthCheckConfig", "port", &[PORT]),
    (
        "networking.v1alpha3.HTTPHeader",
        "name",
        &[Pattern("^[-_A-Za-z0-9]+$")],
    ),
    (
        "networking.v1alpha3.HTTPHealthCheckConfig",
        "port",
        &[Required, PORT],
    ),
    (
        "networking.v1alpha3.HTTPHealthCheckConfig",
        "scheme",
        &[Rule("self in ['', 'HTTP', 'HTTPS']", "want HTTP or HTTPS")],
    ),
    (
        "networking.v1alpha3.ReadinessProbe",
        "failureThreshold",
        &[Minimum(0)],
    ),
    (
        "networking.v1alpha3.ReadinessProbe",
        "initialDelaySeconds",
        &[Minimum(0)],
    ),
    (
        "networking.v1alpha3.ReadinessProbe",
        "periodSeconds",
        &[Minimum(0)],
    ),
    (
        "networking.v1alpha3.ReadinessProbe",
        "successThreshold",
        &[Minimum(0)],
    ),
    (
        "networking.v1alpha3.ReadinessProbe",
        "timeoutSeconds",
        &[Minimum(0)],
    ),
    (
        "networking.v1alpha3.TCPHealthCheckConfig",
        "port",
        &[Required, PORT],
    ),
    (
        "networking.v1alpha3.WorkloadGroup",
        "template",
        &[Required, BareMessage, UNIX_WITHOUT_PORTS],
    ),
    (
        "networking.v1alpha3.WorkloadGroup.ObjectMeta",
        "annotations",
        &[Properties(0, 256)],
    ),
    (
        "networking.v1alpha3.WorkloadGroup.ObjectMeta",
        "labels",
        &[Properties(0, 256)],
    ),
    // networking: Sidecar (CS-12)
    ("networking.v1alpha3.IstioEgressListener", "hosts", REQUIRED),
    ("networking.v1alpha3.IstioIngressListener", "port", REQUIRED),
    (
        "networking.v1alpha3.WorkloadSelector",
        "labels",
        WORKLOAD_LABELS,
    ),
    // networking: VirtualService (CS-06)
    ("networking.v1alpha3.Destination", "host", REQUIRED),
    ("networking.v1alpha3.HTTPDirectResponse", "status", REQUIRED),
    (
        "networking.v1alpha3.HTTPMirrorPolicy",
        "destination",
        REQUIRED,
    ),
    (
        "networking.v1alpha3.HTTPRoute",
        "mirrorPercent",
        &[ProtoSpelling],
    ),
    (
        "networking.v1alpha3.HTTPRouteDestination",
        "destination",
        REQUIRED,
    ),
    (
        "networking.v1alpha3.RouteDestination",
        "destination",
        REQUIRED,
    ),
    (
        "networking.v1alpha3.TLSMatchAttributes",
        "sniHosts",
        REQUIRED,
    ),
    ("networking.v1alpha3.TLSRoute", "match", REQUIRED),
    // networking: ProxyConfig
    (
        "networking.v1beta1.ProxyConfig",
        "concurrency",
        &[Minimum(0)],
    ),
    (
        "networking.v1beta1.ProxyConfig",
        "environmentVariables",
        &[Elements(&[Length(0, 2048)])],
    ),
    // security (CS-13, CS-14, CS-15)
    (
        "security.v1beta1.AuthorizationPolicy",
        "rules",
        &[Items(0, 512)],
    ),
    (
        "security.v1beta1.AuthorizationPolicy",
        "targetRefs",
        TARGETS,
    ),
    (
        "security.v1beta1.ClaimToHeader",
        "claim",
        REQUIRED_NOT_EMPTY,
    ),
    (
        "security.v1beta1.ClaimToHeader",
        "header",
        &[Required, MinLength(1), Pattern("^[-_A-Za-z0-9]+$")],
    ),
    ("security.v1beta1.Condition", "key", REQUIRED),
    ("security.v1beta1.JWTHeader", "name", REQUIRED_NOT_EMPTY),
    ("security.v1beta1.JWTRule", "audiences", ELEMENTS_NOT_EMPTY),
    (
        "security.v1beta1.JWTRule",
        "fromCookies",
        ELEMENTS_NOT_EMPTY,
    ),
    ("security.v1beta1.JWTRule", "fromParams", ELEMENTS_NOT_EMPTY),
    ("security.v1beta1.JWTRule", "issuer", NOT_EMPTY),
    ("security.v1beta1.JWTRule", "jwksUri", JWKS_URI),
    (
        "security.v1beta1.JWTRule",
        "spaceDelimitedClaims",
        &[Items(0, 64), Elements(&[MinLength(1)])],
    ),
    (
        "security.v1beta1.PeerAuthentication",
        "portLevelMtls",
        &[
            Properties(1, u32::MAX),
            Rule(
                "self.all(key, int(key) >= 1 && int(key) <= 65535)",
                "want ports, 1 to 65535, as keys",
            ),
        ],
    ),
    (
        "security.v1beta1.RequestAuthentication",
        "jwtRules",
        &[Items(0, 4096)],
    ),
    (
        "security.v1beta1.RequestAuthentication",
        "targetRefs",
        TARGETS,
    ),
    ("security.v1beta1.Rule", "from", &[Items(0, 512)]),
    (
        "security.v1beta1.Source",
        "notServiceAccounts",
        SERVICE_ACCOUNTS,
    ),
    (
        "security.v1beta1.Source",
        "serviceAccounts",
        SERVICE_ACCOUNTS,
    ),
    // telemetry (CS-16)
    (
        "telemetry.v1alpha1.MetricSelector",
        "customMetric",
        NOT_EMPTY,
    ),
    ("telemetry.v1alpha1.ProviderRef", "name", REQUIRED_NOT_EMPTY),
    ("telemetry.v1alpha1.Telemetry", "targetRefs", TARGETS),
    (
        "telemetry.v1alpha1.Tracing",
        "randomSamplingPercentage",
        PERCENT,
    ),
    (
        "telemetry.v1alpha1.Tracing.Environment",
        "name",
        REQUIRED_NOT_EMPTY,
    ),
    (
        "telemetry.v1alpha1.Tracing.Formatter",
        "value",
        REQUIRED_NOT_EMPTY,
    ),
    (
        "telemetry.v1alpha1.Tracing.Literal",
        "value",
        REQUIRED_NOT_EMPTY,
    ),
    (
        "telemetry.v1alpha1.Tracing.RequestHeader",
        "name",
        REQUIRED_NOT_EMPTY,
    ),
    // selectors (CS-01, CS-03)
    (
        "type.v1beta1.PolicyTargetReference",
        "group",
        &[
            Length(0, 253),
            Pattern("^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
        ],
    ),
    (
        "type.v1beta1.PolicyTargetReference",
        "kind",
        &[
            Required,
            Length(1, 63),
            Pattern("^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"),
        ],
    ),
    (
        "type.v1beta1.PolicyTargetReference",
        "name",
        &[Required, Length(1, 253)],
    ),
    ("type.v1beta1.PolicyTargetReference", "namespace", ABSENT),
    (
        "type.v1beta1.PortSelector",
        "number",
        &[Required, Range(1, 65_535)],
    ),
    ("type.v1beta1.WorkloadSelector", "matchLabels", LABELS),
];
