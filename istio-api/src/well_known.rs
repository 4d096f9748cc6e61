//! Names that more than one component must agree on.

/// Labels of Pods, Services, namespaces and configuration objects.
pub mod labels {
    /// Whether sidecars are injected into the Pods of a namespace: `enabled` or `disabled`.
    pub const INJECTION: &str = "istio-injection";
    /// Revision of the control plane that a namespace or object belongs to.
    pub const REVISION: &str = "istio.io/rev";
    /// Revision tag.
    pub const TAG: &str = "istio.io/tag";
    /// Whether a sidecar is injected into this Pod (`true`, `false`); also an annotation.
    pub const INJECT: &str = "sidecar.istio.io/inject";
    /// How a workload receives mutual TLS: `istio` when it has a sidecar, else `disabled`.
    pub const TLS_MODE: &str = "security.istio.io/tlsMode";
    /// Value of [`TLS_MODE`] for a workload with a sidecar.
    pub const TLS_MODE_ISTIO: &str = "istio";
    /// Service that telemetry attributes a workload to.
    pub const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
    /// Version that telemetry attributes a workload to.
    pub const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
    /// Workload name for telemetry.
    pub const WORKLOAD_NAME: &str = "service.istio.io/workload-name";
    /// Network that a workload or a gateway belongs to.
    pub const NETWORK: &str = "topology.istio.io/network";
    /// Cluster that a workload belongs to.
    pub const CLUSTER: &str = "topology.istio.io/cluster";
    /// Part of a zone; Kubernetes has no such level.
    pub const SUBZONE: &str = "topology.istio.io/subzone";
    /// Region of a node.
    pub const REGION: &str = "topology.kubernetes.io/region";
    /// Zone of a node.
    pub const ZONE: &str = "topology.kubernetes.io/zone";
    /// Locality of a Pod as `region.zone.subzone`; overrides that of its node.
    pub const LOCALITY: &str = "istio-locality";
    /// Commonest label of applications.
    pub const APP: &str = "app";
    /// Commonest label of versions.
    pub const VERSION: &str = "version";
    /// Application name as Kubernetes recommends it.
    pub const K8S_APP: &str = "app.kubernetes.io/name";
    /// Version as Kubernetes recommends it.
    pub const K8S_VERSION: &str = "app.kubernetes.io/version";
    /// Service that an endpoint slice belongs to.
    pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
    /// Node name of a node.
    pub const HOSTNAME: &str = "kubernetes.io/hostname";
    /// Component of the control plane; the gateways carry it too.
    pub const ISTIO: &str = "istio";
}

/// Annotations of Pods, Services, namespaces and configuration objects.
pub mod annotations {
    /// Whether a sidecar is injected into this Pod (`true`, `false`); the label wins.
    pub const INJECT: &str = "sidecar.istio.io/inject";
    /// What was injected, as JSON.
    pub const STATUS: &str = "sidecar.istio.io/status";
    /// Templates to use, comma separated.
    pub const TEMPLATES: &str = "inject.istio.io/templates";
    /// Parts of the Pod that injection changed, as JSON.
    pub const OVERRIDES: &str = "proxy.istio.io/overrides";
    /// `ProxyConfig` of this Pod, as YAML.
    pub const PROXY_CONFIG: &str = "proxy.istio.io/config";
    /// Traffic capture: `REDIRECT`, `TPROXY` or `NONE`.
    pub const INTERCEPTION_MODE: &str = "sidecar.istio.io/interceptionMode";
    /// Image of the sidecar.
    pub const PROXY_IMAGE: &str = "sidecar.istio.io/proxyImage";
    /// Variant of the sidecar's image.
    pub const PROXY_IMAGE_TYPE: &str = "sidecar.istio.io/proxyImageType";
    /// CPU request of the sidecar.
    pub const PROXY_CPU: &str = "sidecar.istio.io/proxyCPU";
    /// CPU limit of the sidecar.
    pub const PROXY_CPU_LIMIT: &str = "sidecar.istio.io/proxyCPULimit";
    /// Memory request of the sidecar.
    pub const PROXY_MEMORY: &str = "sidecar.istio.io/proxyMemory";
    /// Memory limit of the sidecar.
    pub const PROXY_MEMORY_LIMIT: &str = "sidecar.istio.io/proxyMemoryLimit";
    /// Log level of Envoy.
    pub const LOG_LEVEL: &str = "sidecar.istio.io/logLevel";
    /// Log levels of Envoy's components.
    pub const COMPONENT_LOG_LEVEL: &str = "sidecar.istio.io/componentLogLevel";
    /// Log level of the agent.
    pub const AGENT_LOG_LEVEL: &str = "sidecar.istio.io/agentLogLevel";
    /// Extra volumes of the sidecar, as JSON.
    pub const USER_VOLUME: &str = "sidecar.istio.io/userVolume";
    /// Extra mounts of the sidecar, as JSON.
    pub const USER_VOLUME_MOUNT: &str = "sidecar.istio.io/userVolumeMount";
    /// Config map with a bootstrap that replaces ours.
    pub const BOOTSTRAP_OVERRIDE: &str = "sidecar.istio.io/bootstrapOverride";
    /// Discovery address of this Pod's proxy.
    pub const DISCOVERY_ADDRESS: &str = "sidecar.istio.io/discoveryAddress";
    /// Whether HTTP probes are sent through the agent.
    pub const REWRITE_PROBES: &str = "sidecar.istio.io/rewriteAppHTTPProbers";
    /// Whether the sidecar is a restartable init container.
    pub const NATIVE_SIDECAR: &str = "sidecar.istio.io/nativeSidecar";
    /// Port of the agent's status server; `0` turns it off.
    pub const STATUS_PORT: &str = "status.sidecar.istio.io/port";
    /// First readiness probe, in seconds after the start.
    pub const READINESS_INITIAL_DELAY: &str =
        "readiness.status.sidecar.istio.io/initialDelaySeconds";
    /// Seconds between readiness probes.
    pub const READINESS_PERIOD: &str = "readiness.status.sidecar.istio.io/periodSeconds";
    /// Failed readiness probes until the Pod is not ready.
    pub const READINESS_FAILURES: &str = "readiness.status.sidecar.istio.io/failureThreshold";
    /// Ports of the application that readiness waits for.
    pub const READINESS_PORTS: &str = "readiness.status.sidecar.istio.io/applicationPorts";
    /// Destinations that are captured, as CIDR list or `*`.
    pub const INCLUDE_OUTBOUND_RANGES: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
    /// Destinations that are not captured, as CIDR list.
    pub const EXCLUDE_OUTBOUND_RANGES: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
    /// Outbound ports that are captured whatever the address.
    pub const INCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeOutboundPorts";
    /// Outbound ports that are not captured.
    pub const EXCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";
    /// Inbound ports that are captured, or `*`.
    pub const INCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeInboundPorts";
    /// Inbound ports that are not captured.
    pub const EXCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
    /// Interfaces whose traffic is not captured.
    pub const EXCLUDE_INTERFACES: &str = "traffic.sidecar.istio.io/excludeInterfaces";
    /// Virtual interfaces whose inbound traffic counts as outbound (older name).
    pub const KUBEVIRT_INTERFACES: &str = "traffic.sidecar.istio.io/kubevirtInterfaces";
    /// Virtual interfaces whose inbound traffic counts as outbound.
    pub const REROUTE_INTERFACES: &str = "istio.io/reroute-virtual-interfaces";
    /// Whether the agent merges the application's metrics into its own page.
    pub const MERGE_METRICS: &str = "prometheus.istio.io/merge-metrics";
    /// Whether Prometheus scrapes the Pod.
    pub const PROMETHEUS_SCRAPE: &str = "prometheus.io/scrape";
    /// Port that Prometheus scrapes.
    pub const PROMETHEUS_PORT: &str = "prometheus.io/port";
    /// Path that Prometheus scrapes.
    pub const PROMETHEUS_PATH: &str = "prometheus.io/path";
    /// Namespaces that see a Service.
    pub const EXPORT_TO: &str = "networking.istio.io/exportTo";
    /// Kubernetes service accounts of a Service's workloads.
    pub const K8S_SERVICE_ACCOUNTS: &str = "alpha.istio.io/kubernetes-serviceaccounts";
    /// Full identities of a Service's workloads.
    pub const CANONICAL_SERVICE_ACCOUNTS: &str = "alpha.istio.io/canonical-serviceaccounts";
    /// Addresses of nodes that a gateway Service is reached at.
    pub const NODE_SELECTOR: &str = "traffic.istio.io/nodeSelector";
    /// An `AuthorizationPolicy` that only reports what it would do.
    pub const DRY_RUN: &str = "istio.io/dry-run";
    /// Analysis messages that are suppressed for an object.
    pub const ANALYZE_SUPPRESS: &str = "galley.istio.io/analyze-suppress";
    /// Class of an Ingress (older way).
    pub const INGRESS_CLASS: &str = "kubernetes.io/ingress.class";
    /// The applied manifest that kubectl keeps: large, and of no interest to anyone else.
    pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
}

/// TCP ports.
pub mod ports {
    /// Discovery without encryption, for loopback.
    pub const DISCOVERY_PLAIN: u16 = 15010;
    /// Discovery with TLS (Service port; the process listens on [`DISCOVERY_TLS`]).
    pub const DISCOVERY_TLS_LEGACY: u16 = 15011;
    /// Discovery with TLS.
    pub const DISCOVERY_TLS: u16 = 15012;
    /// HTTP of discovery: readiness and debug pages.
    pub const DISCOVERY_HTTP: u16 = 8080;
    /// Metrics, health and version of every process.
    pub const MONITORING: u16 = 15014;
    /// Introspection, loopback only.
    pub const CONTROLZ: u16 = 9876;
    /// Configuration stream of galley.
    pub const MCP: u16 = 9901;
    /// Certificate signing.
    pub const CITADEL: u16 = 8060;
    /// Port of the webhooks' Services.
    pub const WEBHOOK: u16 = 443;
    /// Port that the webhooks listen on when a chart started them.
    pub const WEBHOOK_CONTAINER: u16 = 9443;
    /// Envoy's administration, loopback only.
    pub const ENVOY_ADMIN: u16 = 15000;
    /// Captured outbound traffic.
    pub const OUTBOUND_CAPTURE: u16 = 15001;
    /// Captured inbound traffic.
    pub const INBOUND_CAPTURE: u16 = 15006;
    /// Reserved for tunnelled traffic.
    pub const HBONE: u16 = 15008;
    /// Status of the agent.
    pub const AGENT_STATUS: u16 = 15020;
    /// Readiness through Envoy.
    pub const ENVOY_READY: u16 = 15021;
    /// DNS answers of the agent (UDP and TCP).
    pub const DNS: u16 = 15053;
    /// Envoy's metrics.
    pub const ENVOY_METRICS: u16 = 15090;
    /// TLS passed on by name between networks.
    pub const EAST_WEST: u16 = 15443;
}

/// Files and sockets.
pub mod paths {
    /// Mesh settings of a process.
    pub const MESH_CONFIG: &str = "/etc/istio/config/mesh";
    /// Networks of the mesh.
    pub const MESH_NETWORKS: &str = "/etc/istio/config/meshNetworks";
    /// Directory of the proxy's generated files and of the discovery socket.
    pub const PROXY_CONFIG: &str = "/etc/istio/proxy";
    /// Directory of mounted certificates.
    pub const CERTS: &str = "/etc/certs";
    /// Directory of the injector's certificates.
    pub const INJECTOR_CERTS: &str = "/etc/istio/certs";
    /// Name of the certificate chain in a certificate directory.
    pub const CERT_CHAIN: &str = "cert-chain.pem";
    /// Name of the private key in a certificate directory.
    pub const KEY: &str = "key.pem";
    /// Name of the root certificates in a certificate directory.
    pub const ROOT_CERT: &str = "root-cert.pem";
    /// Root certificates of the mesh, in every Pod with a sidecar.
    pub const MESH_ROOT_CERT: &str = "/var/run/secrets/istio/root-cert.pem";
    /// Projected token for the certificate authority.
    pub const TOKEN: &str = "/var/run/secrets/tokens/istio-token";
    /// Secret discovery socket of the agent.
    pub const SDS_SOCKET: &str = "/var/run/secrets/workload-spiffe-uds/socket";
    /// Labels of the Pod, from the downward API.
    pub const POD_LABELS: &str = "/etc/istio/pod/labels";
    /// Annotations of the Pod, from the downward API.
    pub const POD_ANNOTATIONS: &str = "/etc/istio/pod/annotations";
    /// Injection templates.
    pub const INJECT_CONFIG: &str = "/etc/istio/inject/config";
    /// Values for the injection templates.
    pub const INJECT_VALUES: &str = "/etc/istio/inject/values";
}

/// Namespaces, audiences, config maps.
pub mod names {
    /// Namespace of the control plane.
    pub const SYSTEM_NAMESPACE: &str = "istio-system";
    /// Default trust domain.
    pub const TRUST_DOMAIN: &str = "cluster.local";
    /// Audience of tokens for the certificate authority.
    pub const TOKEN_AUDIENCE: &str = "istio-ca";
    /// Config map with the mesh settings.
    pub const MESH_CONFIG_MAP: &str = "istio";
    /// Config map with the root certificates of the mesh, in every namespace.
    pub const ROOT_CONFIG_MAP: &str = "istio-ca-root-cert";
    /// Default class of Ingress objects.
    pub const INGRESS_CLASS: &str = "istio";
    /// Gateway name that means every sidecar.
    pub const MESH_GATEWAY: &str = "mesh";
    /// Account of a Pod that names none.
    pub const DEFAULT_SERVICE_ACCOUNT: &str = "default";
}
