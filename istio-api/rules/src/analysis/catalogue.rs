//! Every message of the analysis: code, name, level, parameters and text.
//!
//! Codes, names, levels and parameters are those of Istio 1.30, so that people and tools find their
//! documentation; the texts are ours. IST0104, 0105, 0113 to 0115, 0117 and 0119 to 0122 are
//! retired and IST0124 was never assigned: none of them may be used again.

use super::level::Level;

/// Who reports a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Emitter {
    /// An analyzer of [`super::analyzers::ANALYZERS`].
    Analyze,
    /// The analysis itself, about an analyzer that failed.
    Internal,
    /// The check before an installation.
    Precheck,
    /// Never reported: it is about something that this mesh does not have. Its meaning is kept.
    Reserved,
}

/// One kind of message.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Code {
    /// `IST` and four digits.
    pub code: &'static str,
    /// Name in one word.
    pub name: &'static str,
    /// Its severity.
    pub level: Level,
    /// Who reports it.
    pub emitter: Emitter,
    /// Names of the parameters, in order.
    pub parameters: &'static [&'static str],
    /// Text; `{1}` stands for the first parameter.
    pub text: &'static str,
}

macro_rules! catalogue {
    ($($constant:ident = $code:literal $name:literal $level:ident $emitter:ident [$($parameter:literal),*] $text:literal;)*) => {
        $(
            #[doc = concat!("`", $code, "`")]
            pub static $constant: Code = Code {
                code: $code,
                name: $name,
                level: Level::$level,
                emitter: Emitter::$emitter,
                parameters: &[$($parameter),*],
                text: $text,
            };
        )*

        /// All of them, ordered by code.
        pub static CODES: &[&Code] = &[$(&$constant),*];
    };
}

catalogue! {
    INTERNAL_ERROR = "IST0001" "InternalError" Error Internal ["detail"]
        "analyzer failed internally: {1}";
    DEPRECATED = "IST0002" "Deprecated" Warning Analyze ["detail"]
        "uses something deprecated: {1}";
    REFERENCED_RESOURCE_NOT_FOUND = "IST0101" "ReferencedResourceNotFound" Error Analyze ["reftype", "refval"]
        "{1} \"{2}\" does not exist";
    NAMESPACE_NOT_INJECTED = "IST0102" "NamespaceNotInjected" Info Analyze ["namespace", "namespace"]
        "namespace {1} has no injection label; label it istio-injection=enabled, or =disabled to silence this";
    POD_MISSING_PROXY = "IST0103" "PodMissingProxy" Warning Analyze ["pod"]
        "pod {1} runs without the sidecar; recreate it";
    SCHEMA_VALIDATION_ERROR = "IST0106" "SchemaValidationError" Error Analyze ["error"]
        "invalid: {1}";
    MISPLACED_ANNOTATION = "IST0107" "MisplacedAnnotation" Warning Analyze ["annotation", "kinds"]
        "annotation {1} belongs on {2}";
    UNKNOWN_ANNOTATION = "IST0108" "UnknownAnnotation" Warning Analyze ["annotation"]
        "annotation {1} is not known";
    CONFLICTING_MESH_GATEWAY_VIRTUAL_SERVICE_HOSTS = "IST0109" "ConflictingMeshGatewayVirtualServiceHosts" Error Analyze ["virtualServices", "host"]
        "VirtualServices {1} all claim host {2} for sidecars; merge them";
    CONFLICTING_SIDECAR_WORKLOAD_SELECTORS = "IST0110" "ConflictingSidecarWorkloadSelectors" Error Analyze ["names", "namespace", "pod"]
        "Sidecars {1} of namespace {2} both select pod {3}";
    MULTIPLE_SIDECARS_WITHOUT_WORKLOAD_SELECTORS = "IST0111" "MultipleSidecarsWithoutWorkloadSelectors" Error Analyze ["names", "namespace"]
        "namespace {2} has several Sidecars without selector: {1}";
    VIRTUAL_SERVICE_DESTINATION_PORT_SELECTOR_REQUIRED = "IST0112" "VirtualServiceDestinationPortSelectorRequired" Error Analyze ["host", "ports"]
        "destination {1} has ports {2}; choose one";
    DEPLOYMENT_ASSOCIATED_TO_MULTIPLE_SERVICES = "IST0116" "DeploymentAssociatedToMultipleServices" Warning Analyze ["deployment", "port", "services"]
        "deployment {1}: port {2} is TCP in one service and UDP in another: {3}";
    PORT_NAME_IS_NOT_UNDER_NAMING_CONVENTION = "IST0118" "PortNameIsNotUnderNamingConvention" Info Analyze ["portName", "port", "targetPort"]
        "port {1} ({2}→{3}) has no protocol prefix; the protocol will be detected";
    NAMESPACE_MULTIPLE_INJECTION_LABELS = "IST0123" "NamespaceMultipleInjectionLabels" Warning Analyze ["labels"]
        "several injection labels: {1}";
    INVALID_ANNOTATION = "IST0125" "InvalidAnnotation" Warning Analyze ["annotation", "problem"]
        "annotation {1}: {2}";
    UNKNOWN_MESH_NETWORKS_SERVICE_REGISTRY = "IST0126" "UnknownMeshNetworksServiceRegistry" Error Analyze ["registry", "network"]
        "network {2} names unknown registry {1}";
    NO_MATCHING_WORKLOADS_FOUND = "IST0127" "NoMatchingWorkloadsFound" Warning Analyze ["selector"]
        "selects no workload: {1}";
    NO_SERVER_CERTIFICATE_VERIFICATION_DESTINATION_LEVEL = "IST0128" "NoServerCertificateVerificationDestinationLevel" Warning Analyze ["rule", "namespace", "mode", "host"]
        "DestinationRule {1}: mode {3} to {4} without caCertificates, the server is not verified";
    NO_SERVER_CERTIFICATE_VERIFICATION_PORT_LEVEL = "IST0129" "NoServerCertificateVerificationPortLevel" Warning Analyze ["rule", "namespace", "mode", "host", "port"]
        "DestinationRule {1}: mode {3} to {4} at port {5} without caCertificates, the server is not verified";
    VIRTUAL_SERVICE_UNREACHABLE_RULE = "IST0130" "VirtualServiceUnreachableRule" Warning Analyze ["rule", "reason"]
        "rule {1} can never match: {2}";
    VIRTUAL_SERVICE_INEFFECTIVE_MATCH = "IST0131" "VirtualServiceIneffectiveMatch" Info Analyze ["rule", "match", "duplicate"]
        "rule {1} match {2} is shadowed by rule {3}";
    VIRTUAL_SERVICE_HOST_NOT_FOUND_IN_GATEWAY = "IST0132" "VirtualServiceHostNotFoundInGateway" Warning Analyze ["hosts", "virtualService", "gateway"]
        "none of {1} is served by gateway {3}";
    SCHEMA_WARNING = "IST0133" "SchemaWarning" Warning Analyze ["warning"]
        "{1}";
    SERVICE_ENTRY_ADDRESSES_REQUIRED = "IST0134" "ServiceEntryAddressesRequired" Warning Analyze []
        "TCP or unnamed protocol needs addresses";
    DEPRECATED_ANNOTATION = "IST0135" "DeprecatedAnnotation" Info Analyze ["annotation", "extra"]
        "annotation {1} is deprecated{2}";
    ALPHA_ANNOTATION = "IST0136" "AlphaAnnotation" Info Precheck ["annotation"]
        "annotation {1} is alpha";
    DEPLOYMENT_CONFLICTING_PORTS = "IST0137" "DeploymentConflictingPorts" Warning Analyze ["deployment", "services", "targetPort", "ports"]
        "deployment {1}: services {2} map targetPort {3} to different ports {4}";
    GATEWAY_DUPLICATE_CERTIFICATE = "IST0138" "GatewayDuplicateCertificate" Warning Analyze ["gateways"]
        "gateways {1} use the same certificate; HTTP/2 connection reuse may give 404";
    INVALID_WEBHOOK = "IST0139" "InvalidWebhook" Error Analyze ["error"]
        "{1}";
    INGRESS_ROUTE_RULES_NOT_AFFECTED = "IST0140" "IngressRouteRulesNotAffected" Warning Analyze ["virtualServiceWithSubset", "virtualService"]
        "subset routing in {1} does not apply to requests that enter by {2}";
    INSUFFICIENT_PERMISSIONS = "IST0141" "InsufficientPermissions" Error Precheck ["resource", "error"]
        "cannot create {1}: {2}";
    UNSUPPORTED_KUBERNETES_VERSION = "IST0142" "UnsupportedKubernetesVersion" Error Precheck ["version", "minimum"]
        "Kubernetes {1} is older than {2}";
    LOCALHOST_LISTENER = "IST0143" "LocalhostListener" Error Reserved ["port"]
        "port {1} listens on localhost only";
    INVALID_APPLICATION_UID = "IST0144" "InvalidApplicationUID" Warning Analyze []
        "UID 1337 belongs to the sidecar";
    CONFLICTING_GATEWAYS = "IST0145" "ConflictingGateways" Error Analyze ["gateways", "selector", "port", "hosts"]
        "same selector ({2}), port {3} and hosts {4} as {1}";
    IMAGE_AUTO_WITHOUT_INJECTION_WARNING = "IST0146" "ImageAutoWithoutInjectionWarning" Warning Analyze ["kind", "name"]
        "{1} {2} has image auto but no injection webhook matches it";
    IMAGE_AUTO_WITHOUT_INJECTION_ERROR = "IST0147" "ImageAutoWithoutInjectionError" Error Analyze ["kind", "name"]
        "{1} {2} still has image auto";
    NAMESPACE_INJECTION_ENABLED_BY_DEFAULT = "IST0148" "NamespaceInjectionEnabledByDefault" Info Analyze []
        "injected because enableNamespacesByDefault is on";
    JWT_CLAIM_BASED_ROUTING_WITHOUT_REQUEST_AUTHN = "IST0149" "JwtClaimBasedRoutingWithoutRequestAuthN" Error Analyze ["key", "gateway", "pod"]
        "routes on {1} at gateway {2}, but pod {3} has no RequestAuthentication";
    EXTERNAL_NAME_SERVICE_TYPE_INVALID_PORT_NAME = "IST0150" "ExternalNameServiceTypeInvalidPortName" Warning Analyze []
        "ExternalName service with a TCP or unknown port name captures unrelated traffic";
    ENVOY_FILTER_USES_RELATIVE_OPERATION = "IST0151" "EnvoyFilterUsesRelativeOperation" Warning Analyze []
        "relative patch without priority may not be applied";
    ENVOY_FILTER_USES_REPLACE_OPERATION_INCORRECTLY = "IST0152" "EnvoyFilterUsesReplaceOperationIncorrectly" Error Analyze []
        "REPLACE works only on HTTP_FILTER, NETWORK_FILTER (and VIRTUAL_HOST)";
    ENVOY_FILTER_USES_ADD_OPERATION_INCORRECTLY = "IST0153" "EnvoyFilterUsesAddOperationIncorrectly" Error Analyze []
        "ADD is ignored on ROUTE_CONFIGURATION and HTTP_ROUTE";
    ENVOY_FILTER_USES_REMOVE_OPERATION_INCORRECTLY = "IST0154" "EnvoyFilterUsesRemoveOperationIncorrectly" Error Analyze []
        "REMOVE is ignored on ROUTE_CONFIGURATION and HTTP_ROUTE";
    ENVOY_FILTER_USES_RELATIVE_OPERATION_WITH_PROXY_VERSION = "IST0155" "EnvoyFilterUsesRelativeOperationWithProxyVersion" Warning Analyze []
        "relative patch without priority may not be applied, as another patch of the filter is only for some proxy versions";
    UNSUPPORTED_GATEWAY_API_VERSION = "IST0156" "UnsupportedGatewayAPIVersion" Error Reserved ["version", "minimum"]
        "Gateway API {1} is older than {2}";
    INVALID_TELEMETRY_PROVIDER = "IST0157" "InvalidTelemetryProvider" Warning Analyze ["name", "namespace"]
        "Telemetry {1} names no access-log provider and the mesh has no default";
    PODS_ISTIO_PROXY_IMAGE_MISMATCH_IN_NAMESPACE = "IST0158" "PodsIstioProxyImageMismatchInNamespace" Warning Analyze ["pods"]
        "pods run another proxy image than the injector would give: {1}";
    CONFLICTING_TELEMETRY_WORKLOAD_SELECTORS = "IST0159" "ConflictingTelemetryWorkloadSelectors" Error Analyze ["names", "namespace", "pod"]
        "Telemetries {1} of {2} both select pod {3}";
    MULTIPLE_TELEMETRIES_WITHOUT_WORKLOAD_SELECTORS = "IST0160" "MultipleTelemetriesWithoutWorkloadSelectors" Error Analyze ["names", "namespace"]
        "namespace {2} has several Telemetries without selector: {1}";
    INVALID_GATEWAY_CREDENTIAL = "IST0161" "InvalidGatewayCredential" Error Analyze ["gateway", "namespace"]
        "the credential of gateway {1} ({2}) is unusable";
    GATEWAY_PORT_NOT_DEFINED_ON_SERVICE = "IST0162" "GatewayPortNotDefinedOnService" Warning Analyze ["port", "selector"]
        "gateway port {1} is not exposed by the service of its pods ({2})";
    INVALID_EXTERNAL_CONTROL_PLANE_CONFIG = "IST0163" "InvalidExternalControlPlaneConfig" Warning Reserved ["hostname", "webhook", "problem"]
        "webhook {2} address {1} {3}";
    EXTERNAL_CONTROL_PLANE_ADDRESS_IS_NOT_A_HOSTNAME = "IST0164" "ExternalControlPlaneAddressIsNotAHostname" Info Reserved ["hostname", "webhook"]
        "webhook {2} address {1} is an IP";
    REFERENCED_INTERNAL_GATEWAY = "IST0165" "ReferencedInternalGateway" Warning Reserved ["virtualService", "gateway"]
        "VirtualService {1} refers to generated gateway {2}";
    INEFFECTIVE_SELECTOR = "IST0166" "IneffectiveSelector" Warning Reserved ["gateway"]
        "selector has no effect on Gateway-API gateway {1}; use targetRefs";
    INEFFECTIVE_POLICY = "IST0167" "IneffectivePolicy" Warning Reserved ["reason"]
        "no effect: {1}";
    UNKNOWN_UPGRADE_COMPATIBILITY = "IST0168" "UnknownUpgradeCompatibility" Warning Reserved ["field", "release", "info", "compatVersion"]
        "default of {1} changed in {2}; check by hand: {3} (keep the old with {4})";
    UPDATE_INCOMPATIBILITY = "IST0169" "UpdateIncompatibility" Warning Reserved ["field", "release", "info", "compatVersion"]
        "default of {1} changed in {2}: {3} (keep the old with {4})";
    MULTI_CLUSTER_INCONSISTENT_SERVICE = "IST0170" "MultiClusterInconsistentService" Warning Reserved ["service", "namespace", "clusters", "problem"]
        "service {1}/{2} differs in clusters {3}: {4}";
    NEGATIVE_CONDITION_STATUS = "IST0171" "NegativeConditionStatus" Warning Analyze ["type", "reason", "message"]
        "condition {1} is negative: {2}: {3}";
    FUTURE_UNSUPPORTED_GATEWAY_API_VERSION = "IST0172" "FutureUnsupportedGatewayAPIVersion" Warning Reserved ["version", "minimum"]
        "Gateway API {1} will need {2}";
    DESTINATION_RULE_SUBSET_NOT_SELECT_PODS = "IST0173" "DestinationRuleSubsetNotSelectPods" Error Analyze ["subset"]
        "subset {1} selects no pod";
    UNKNOWN_DESTINATION_RULE_HOST = "IST0174" "UnknownDestinationRuleHost" Warning Analyze ["host"]
        "no service has host {1}";
    JWKS_URI_FETCH_UNRESTRICTED = "IST0175" "JwksUriFetchUnrestricted" Warning Analyze ["count", "names"]
        "{1} RequestAuthentications ({2}) exist but the control plane has no blocked CIDRs for JWKS fetches";
    GATEWAY_APICRD_VERSION_BELOW_MINIMUM = "IST0176" "GatewayAPICRDVersionBelowMinimum" Warning Reserved ["crd", "installed", "minimum"]
        "CRD {1} is at {2}, needs {3}";
}

/// The entry of a code, written in any case.
#[must_use]
pub fn by_code(code: &str) -> Option<&'static Code> {
    CODES
        .iter()
        .copied()
        .find(|row| row.code.eq_ignore_ascii_case(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_texts_use_their_parameters() {
        assert!(CODES.is_sorted_by_key(|row| row.code));
        for pair in CODES.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} twice", pair[0].code);
        }
        let retired = [104, 105, 113, 114, 115, 117, 119, 120, 121, 122, 124];
        for number in retired {
            assert_eq!(by_code(&format!("IST0{number}")), None);
        }
        for row in CODES {
            let numbers = row
                .text
                .split('{')
                .skip(1)
                .map(|rest| rest.split('}').next().unwrap());
            for number in numbers {
                let number: usize = number.parse().unwrap();
                assert!((1..=row.parameters.len()).contains(&number), "{}", row.code);
            }
        }
        assert_eq!(by_code("ist0101"), Some(&REFERENCED_RESOURCE_NOT_FOUND));
    }
}
