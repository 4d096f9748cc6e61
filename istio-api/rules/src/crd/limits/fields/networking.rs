//! Fields of `networking.istio.io`.

use super::{NO_STAR, PERCENT, REQUIRED, Row, TARGETS};
use crate::crd::limits::Limit::{
    self, BareMessage, Elements, Items, Key, Length, MinLength, Minimum, Pattern, Properties,
    ProtoSpelling, Required, Rule, ZeroDuration,
};
use crate::crd::limits::messages::UNIX_WITHOUT_PORTS;

const PORT: Limit = Rule("self >= 1 && self <= 65535", "want a port, 1 to 65535");
/// CS-02
const WORKLOAD_LABELS: &[Limit] = &[Properties(0, 256), Elements(&[Length(0, 63), NO_STAR])];
const PAIR: &[Limit] = &[Items(1, 2)];

pub(super) const FIELDS: &[Row] = &[
    // DestinationRule
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
    // EnvoyFilter
    ("networking.v1alpha3.EnvoyFilter", "targetRefs", TARGETS),
    (
        "networking.v1alpha3.EnvoyFilter.WaypointMatch",
        "portNumber",
        &[PORT],
    ),
    // Gateway
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
    // ServiceEntry (CS-09), WorkloadEntry (CS-10), WorkloadGroup (CS-11)
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
    // Sidecar (CS-12)
    ("networking.v1alpha3.IstioEgressListener", "hosts", REQUIRED),
    ("networking.v1alpha3.IstioIngressListener", "port", REQUIRED),
    (
        "networking.v1alpha3.WorkloadSelector",
        "labels",
        WORKLOAD_LABELS,
    ),
    // VirtualService (CS-06)
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
    // ProxyConfig
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
];
