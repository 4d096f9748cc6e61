//! The kinds of configuration: one row per Kubernetes kind, with its MCP collection.

use crate::any;

/// Whether objects of a kind belong to a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Each object is in a namespace.
    Namespaced,
    /// Objects are cluster-scoped.
    Cluster,
}

/// One kind of configuration.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Collection {
    /// Name on the configuration stream, e.g. `istio/networking/v1alpha3/gateways`.
    pub name: &'static str,
    /// Kubernetes kind.
    pub kind: &'static str,
    /// Plural in Kubernetes paths.
    pub plural: &'static str,
    /// API group.
    pub group: &'static str,
    /// Served versions; the first one is what is stored.
    pub versions: &'static [&'static str],
    /// Full name of the message that `spec` is.
    pub message: &'static str,
    /// Whether objects belong to a namespace.
    pub scope: Scope,
    /// Abbreviations for command lines.
    pub short_names: &'static [&'static str],
}

impl Collection {
    /// Type URL of the bodies.
    #[must_use]
    pub fn type_url(&self) -> String {
        format!("{}{}", any::PREFIX, self.message)
    }

    /// `apiVersion` of the stored version: `<group>/<version>`.
    #[must_use]
    pub fn api_version(&self) -> String {
        format!(
            "{}/{}",
            self.group,
            self.versions.first().copied().unwrap_or_default()
        )
    }

    /// Whether objects belong to a namespace.
    #[must_use]
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }
}

const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";
const TELEMETRY: &str = "telemetry.istio.io";
const EXTENSIONS: &str = "extensions.istio.io";
const AUTHENTICATION: &str = "authentication.istio.io";
const RBAC: &str = "rbac.istio.io";
const MIXER: &str = "config.istio.io";

const V1_FIRST: &[&str] = &["v1", "v1alpha3", "v1beta1"];
const SECURITY_VERSIONS: &[&str] = &["v1", "v1beta1"];

/// Every kind that is read, ordered by name.
pub static COLLECTIONS: &[Collection] = &[
    Collection {
        name: "istio/authentication/v1alpha1/meshpolicies",
        kind: "MeshPolicy",
        plural: "meshpolicies",
        group: AUTHENTICATION,
        versions: &["v1alpha1"],
        message: "istio.authentication.v1alpha1.Policy",
        scope: Scope::Cluster,
        short_names: &[],
    },
    Collection {
        name: "istio/authentication/v1alpha1/policies",
        kind: "Policy",
        plural: "policies",
        group: AUTHENTICATION,
        versions: &["v1alpha1"],
        message: "istio.authentication.v1alpha1.Policy",
        scope: Scope::Namespaced,
        short_names: &[],
    },
    Collection {
        name: "istio/config/v1alpha2/httpapispecbindings",
        kind: "HTTPAPISpecBinding",
        plural: "httpapispecbindings",
        group: MIXER,
        versions: &["v1alpha2"],
        message: "istio.mixer.v1.config.client.HTTPAPISpecBinding",
        scope: Scope::Namespaced,
        short_names: &[],
    },
    Collection {
        name: "istio/config/v1alpha2/httpapispecs",
        kind: "HTTPAPISpec",
        plural: "httpapispecs",
        group: MIXER,
        versions: &["v1alpha2"],
        message: "istio.mixer.v1.config.client.HTTPAPISpec",
        scope: Scope::Namespaced,
        short_names: &[],
    },
    Collection {
        name: "istio/extensions/v1alpha1/trafficextensions",
        kind: "TrafficExtension",
        plural: "trafficextensions",
        group: EXTENSIONS,
        versions: &["v1alpha1"],
        message: "istio.extensions.v1alpha1.TrafficExtension",
        scope: Scope::Namespaced,
        short_names: &[],
    },
    Collection {
        name: "istio/extensions/v1alpha1/wasmplugins",
        kind: "WasmPlugin",
        plural: "wasmplugins",
        group: EXTENSIONS,
        versions: &["v1alpha1"],
        message: "istio.extensions.v1alpha1.WasmPlugin",
        scope: Scope::Namespaced,
        short_names: &[],
    },
    Collection {
        name: "istio/mixer/v1/config/client/quotaspecbindings",
        kind: "QuotaSpecBinding",
        plural: "quotaspecbindings",
        group: MIXER,
        versions: &["v1alpha2"],
        message: "istio.mixer.v1.config.client.QuotaSpecBinding",
        scope: Scope::Namespaced,
        short_names: &[],
    },
    Collection {
        name: "istio/mixer/v1/config/client/quotaspecs",
        kind: "QuotaSpec",
        plural: "quotaspecs",
        group: MIXER,
        versions: &["v1alpha2"],
        message: "istio.mixer.v1.config.client.QuotaSpec",
        scope: Scope::Namespaced,
        short_names: &[],
    },
    Collection {
        name: "istio/networking/v1alpha3/destinationrules",
        kind: "DestinationRule",
        plural: "destinationrules",
        group: NETWORKING,
        versions: V1_FIRST,
        message: "istio.networking.v1alpha3.DestinationRule",
        scope: Scope::Namespaced,
        short_names: &["dr"],
    },
    Collection {
        name: "istio/networking/v1alpha3/envoyfilters",
        kind: "EnvoyFilter",
        plural: "envoyfilters",
        group: NETWORKING,
        versions: &["v1alpha3"],
        message: "istio.networking.v1alpha3.EnvoyFilter",
        scope: Scope::Namespaced,
        short_names: &[],
    },
    Collection {
        name: "istio/networking/v1alpha3/gateways",
        kind: "Gateway",
        plural: "gateways",
        group: NETWORKING,
        versions: V1_FIRST,
        message: "istio.networking.v1alpha3.Gateway",
        scope: Scope::Namespaced,
        short_names: &["gw"],
    },
    Collection {
        name: "istio/networking/v1alpha3/serviceentries",
        kind: "ServiceEntry",
        plural: "serviceentries",
        group: NETWORKING,
        versions: V1_FIRST,
        message: "istio.networking.v1alpha3.ServiceEntry",
        scope: Scope::Namespaced,
        short_names: &["se"],
    },
    Collection {
        name: "istio/networking/v1alpha3/sidecars",
        kind: "Sidecar",
        plural: "sidecars",
        group: NETWORKING,
        versions: V1_FIRST,
        message: "istio.networking.v1alpha3.Sidecar",
        scope: Scope::Namespaced,
        short_names: &[],
    },
    Collection {
        name: "istio/networking/v1alpha3/virtualservices",
        kind: "VirtualService",
        plural: "virtualservices",
        group: NETWORKING,
        versions: V1_FIRST,
        message: "istio.networking.v1alpha3.VirtualService",
        scope: Scope::Namespaced,
        short_names: &["vs"],
    },
    Collection {
        name: "istio/networking/v1alpha3/workloadentries",
        kind: "WorkloadEntry",
        plural: "workloadentries",
        group: NETWORKING,
        versions: V1_FIRST,
        message: "istio.networking.v1alpha3.WorkloadEntry",
        scope: Scope::Namespaced,
        short_names: &["we"],
    },
    Collection {
        name: "istio/networking/v1alpha3/workloadgroups",
        kind: "WorkloadGroup",
        plural: "workloadgroups",
        group: NETWORKING,
        versions: V1_FIRST,
        message: "istio.networking.v1alpha3.WorkloadGroup",
        scope: Scope::Namespaced,
        short_names: &["wg"],
    },
    Collection {
        name: "istio/networking/v1beta1/proxyconfigs",
        kind: "ProxyConfig",
        plural: "proxyconfigs",
        group: NETWORKING,
        versions: &["v1beta1"],
        message: "istio.networking.v1beta1.ProxyConfig",
        scope: Scope::Namespaced,
        short_names: &[],
    },
    Collection {
        name: "istio/rbac/v1alpha1/clusterrbacconfigs",
        kind: "ClusterRbacConfig",
        plural: "clusterrbacconfigs",
        group: RBAC,
        versions: &["v1alpha1"],
        message: "istio.rbac.v1alpha1.RbacConfig",
        scope: Scope::Cluster,
        short_names: &[],
    },
    Collection {
        name: "istio/rbac/v1alpha1/rbacconfigs",
        kind: "RbacConfig",
        plural: "rbacconfigs",
        group: RBAC,
        versions: &["v1alpha1"],
        message: "istio.rbac.v1alpha1.RbacConfig",
        scope: Scope::Namespaced,
        short_names: &[],
    },
    Collection {
        name: "istio/rbac/v1alpha1/servicerolebindings",
        kind: "ServiceRoleBinding",
        plural: "servicerolebindings",
        group: RBAC,
        versions: &["v1alpha1"],
        message: "istio.rbac.v1alpha1.ServiceRoleBinding",
        scope: Scope::Namespaced,
        short_names: &[],
    },
    Collection {
        name: "istio/rbac/v1alpha1/serviceroles",
        kind: "ServiceRole",
        plural: "serviceroles",
        group: RBAC,
        versions: &["v1alpha1"],
        message: "istio.rbac.v1alpha1.ServiceRole",
        scope: Scope::Namespaced,
        short_names: &[],
    },
    Collection {
        name: "istio/security/v1beta1/authorizationpolicies",
        kind: "AuthorizationPolicy",
        plural: "authorizationpolicies",
        group: SECURITY,
        versions: SECURITY_VERSIONS,
        message: "istio.security.v1beta1.AuthorizationPolicy",
        scope: Scope::Namespaced,
        short_names: &["ap"],
    },
    Collection {
        name: "istio/security/v1beta1/peerauthentications",
        kind: "PeerAuthentication",
        plural: "peerauthentications",
        group: SECURITY,
        versions: SECURITY_VERSIONS,
        message: "istio.security.v1beta1.PeerAuthentication",
        scope: Scope::Namespaced,
        short_names: &["pa"],
    },
    Collection {
        name: "istio/security/v1beta1/requestauthentications",
        kind: "RequestAuthentication",
        plural: "requestauthentications",
        group: SECURITY,
        versions: SECURITY_VERSIONS,
        message: "istio.security.v1beta1.RequestAuthentication",
        scope: Scope::Namespaced,
        short_names: &["ra"],
    },
    Collection {
        name: "istio/telemetry/v1alpha1/telemetries",
        kind: "Telemetry",
        plural: "telemetries",
        group: TELEMETRY,
        versions: &["v1alpha1", "v1"],
        message: "istio.telemetry.v1alpha1.Telemetry",
        scope: Scope::Namespaced,
        short_names: &["telemetry"],
    },
];

/// Kubernetes Services as ServiceEntries. Not a kind of its own, and unknown to 1.1.
pub static SYNTHETIC_SERVICE_ENTRIES: Collection = Collection {
    name: "istio/networking/v1alpha3/synthetic/serviceentries",
    kind: "ServiceEntry",
    plural: "serviceentries",
    group: NETWORKING,
    versions: V1_FIRST,
    message: "istio.networking.v1alpha3.ServiceEntry",
    scope: Scope::Namespaced,
    short_names: &[],
};

/// Body of the kinds that adapters of the mixer define.
const STRUCT: &str = "google.protobuf.Struct";

/// Collections that 1.1 names and that are always empty here: (name, message of the bodies).
/// A peer that asks for one gets an empty answer instead of an error.
pub static EMPTY_COLLECTIONS: &[(&str, &str)] = &[
    ("istio/config/v1alpha2/adapters", STRUCT),
    ("istio/config/v1alpha2/legacy/apikeys", STRUCT),
    ("istio/config/v1alpha2/legacy/authorizations", STRUCT),
    ("istio/config/v1alpha2/legacy/bypasses", STRUCT),
    ("istio/config/v1alpha2/legacy/checknothings", STRUCT),
    ("istio/config/v1alpha2/legacy/circonuses", STRUCT),
    ("istio/config/v1alpha2/legacy/cloudwatches", STRUCT),
    ("istio/config/v1alpha2/legacy/deniers", STRUCT),
    ("istio/config/v1alpha2/legacy/dogstatsds", STRUCT),
    ("istio/config/v1alpha2/legacy/edges", STRUCT),
    ("istio/config/v1alpha2/legacy/fluentds", STRUCT),
    ("istio/config/v1alpha2/legacy/kubernetesenvs", STRUCT),
    ("istio/config/v1alpha2/legacy/kuberneteses", STRUCT),
    ("istio/config/v1alpha2/legacy/listcheckers", STRUCT),
    ("istio/config/v1alpha2/legacy/listentries", STRUCT),
    ("istio/config/v1alpha2/legacy/logentries", STRUCT),
    ("istio/config/v1alpha2/legacy/memquotas", STRUCT),
    ("istio/config/v1alpha2/legacy/metrics", STRUCT),
    ("istio/config/v1alpha2/legacy/noops", STRUCT),
    ("istio/config/v1alpha2/legacy/opas", STRUCT),
    ("istio/config/v1alpha2/legacy/prometheuses", STRUCT),
    ("istio/config/v1alpha2/legacy/quotas", STRUCT),
    ("istio/config/v1alpha2/legacy/rbacs", STRUCT),
    ("istio/config/v1alpha2/legacy/redisquotas", STRUCT),
    ("istio/config/v1alpha2/legacy/reportnothings", STRUCT),
    ("istio/config/v1alpha2/legacy/signalfxs", STRUCT),
    ("istio/config/v1alpha2/legacy/solarwindses", STRUCT),
    ("istio/config/v1alpha2/legacy/stackdrivers", STRUCT),
    ("istio/config/v1alpha2/legacy/statsds", STRUCT),
    ("istio/config/v1alpha2/legacy/stdios", STRUCT),
    ("istio/config/v1alpha2/legacy/tracespans", STRUCT),
    ("istio/config/v1alpha2/legacy/zipkins", STRUCT),
    ("istio/config/v1alpha2/templates", STRUCT),
    (
        "istio/policy/v1beta1/attributemanifests",
        "istio.policy.v1beta1.AttributeManifest",
    ),
    (
        "istio/policy/v1beta1/handlers",
        "istio.policy.v1beta1.Handler",
    ),
    (
        "istio/policy/v1beta1/instances",
        "istio.policy.v1beta1.Instance",
    ),
    ("istio/policy/v1beta1/rules", "istio.policy.v1beta1.Rule"),
    ("k8s/core/v1/endpoints", "k8s.io.api.core.v1.Endpoints"),
    ("k8s/core/v1/nodes", "k8s.io.api.core.v1.NodeSpec"),
    ("k8s/core/v1/pods", "k8s.io.api.core.v1.Pod"),
    ("k8s/core/v1/services", "k8s.io.api.core.v1.ServiceSpec"),
    (
        "k8s/extensions/v1beta1/ingresses",
        "k8s.io.api.extensions.v1beta1.IngressSpec",
    ),
];

/// The row of a Kubernetes kind. The version is ignored: all versions hold the same message.
#[must_use]
pub fn by_gvk(group: &str, kind: &str) -> Option<&'static Collection> {
    COLLECTIONS
        .iter()
        .find(|row| row.group == group && row.kind == kind)
}

/// The row of an MCP collection, [`SYNTHETIC_SERVICE_ENTRIES`] included.
#[must_use]
pub fn by_name(collection: &str) -> Option<&'static Collection> {
    COLLECTIONS
        .iter()
        .chain([&SYNTHETIC_SERVICE_ENTRIES])
        .find(|row| row.name == collection)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::descriptor;

    #[test]
    fn every_message_is_in_the_pool() {
        for row in COLLECTIONS.iter().chain([&SYNTHETIC_SERVICE_ENTRIES]) {
            assert!(
                descriptor::message(row.message).is_some(),
                "{}: {}",
                row.name,
                row.message
            );
        }
    }

    #[test]
    fn names_are_unique_and_in_order() {
        assert!(COLLECTIONS.is_sorted_by_key(|row| row.name));
        let kinds: BTreeSet<_> = COLLECTIONS
            .iter()
            .map(|row| (row.group, row.kind))
            .collect();
        assert_eq!(kinds.len(), COLLECTIONS.len());
        assert!(
            EMPTY_COLLECTIONS
                .iter()
                .all(|(name, _)| by_name(name).is_none())
        );
    }

    #[test]
    fn names_end_in_the_plural() {
        for row in COLLECTIONS {
            assert_eq!(row.name.rsplit('/').next(), Some(row.plural));
        }
    }

    #[test]
    fn lookups_find_rows() {
        let row = by_gvk("networking.istio.io", "VirtualService").unwrap();
        assert_eq!(row.name, "istio/networking/v1alpha3/virtualservices");
        assert_eq!(row.api_version(), "networking.istio.io/v1");
        assert_eq!(
            row.type_url(),
            "type.googleapis.com/istio.networking.v1alpha3.VirtualService"
        );
        assert_eq!(by_name(row.name), Some(row));
        assert_eq!(
            by_name(SYNTHETIC_SERVICE_ENTRIES.name),
            Some(&SYNTHETIC_SERVICE_ENTRIES)
        );
        assert_eq!(by_gvk("networking.istio.io", "Policy"), None);
    }
}
