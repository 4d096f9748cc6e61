//! Names of secrets and their source: the agent (identity and files) or pilot (credentials).

use istio_api::envoy::{
    config::core::v3::ConfigSource,
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, SdsSecretConfig,
        common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
    },
};
use prost_types::Duration;

use crate::config_source;

/// The workload's own certificate and key.
pub const WORKLOAD_CERTIFICATE: &str = "default";
/// The roots of the mesh.
pub const MESH_ROOT: &str = "ROOTCA";
/// The roots of the operating system, read by the agent.
const SYSTEM_ROOT: &str = "file-root:system";
const KUBERNETES: &str = "kubernetes://";
const CONFIG_MAP: &str = "configmap://";
/// Suffix of a credential's name that refers to its CA bundle.
pub const CA_SUFFIX: &str = "-cacert";

/// The workload's own certificate; connections wait for it without limit.
pub fn workload_certificate() -> SdsSecretConfig {
    from_agent_without_limit(WORKLOAD_CERTIFICATE)
}

/// The roots of the mesh; connections wait for them without limit.
pub fn mesh_root() -> SdsSecretConfig {
    from_agent_without_limit(MESH_ROOT)
}

/// A certificate and its key in files that the agent reads.
pub fn certificate_file(certificate: &str, key: &str) -> SdsSecretConfig {
    secret(
        &format!("file-cert:{certificate}~{key}"),
        config_source::sds(),
    )
}

/// A CA bundle in a file that the agent reads; `system` means the operating system's.
pub fn root_file(path: &str) -> SdsSecretConfig {
    secret(&format!("file-root:{path}"), config_source::sds())
}

/// The roots of the operating system.
pub fn system_root() -> SdsSecretConfig {
    secret(SYSTEM_ROOT, config_source::sds())
}

/// A credential by its name in the configuration.
pub fn credential(name: &str) -> SdsSecretConfig {
    if name.starts_with("builtin://") {
        return workload_certificate();
    }
    secret(&resource_name(name), config_source::ads_with_timeout())
}

/// The CA bundle that belongs to a credential.
pub fn credential_root(name: &str) -> SdsSecretConfig {
    if name.starts_with("builtin://") {
        return mesh_root();
    }
    secret(&root_resource_name(name), config_source::ads_with_timeout())
}

/// `kubernetes://<name>` for a name without a scheme.
pub fn resource_name(name: &str) -> String {
    if name.contains("://") {
        name.to_owned()
    } else {
        format!("{KUBERNETES}{name}")
    }
}

/// Name of the CA bundle of a credential; of a ConfigMap it is the name itself.
pub fn root_resource_name(name: &str) -> String {
    let mut name = resource_name(name);
    if !name.starts_with(CONFIG_MAP) && !name.ends_with(CA_SUFFIX) {
        name.push_str(CA_SUFFIX);
    }
    name
}

/// Namespace (empty for the proxy's own) and name of the Secret that a resource name refers to.
pub fn parse_secret(resource: &str) -> Option<(&str, &str)> {
    let path = resource.strip_prefix(KUBERNETES)?;
    let (namespace, name) = path.split_once('/').unwrap_or(("", path));
    (!name.is_empty() && !name.contains('/')).then_some((namespace, name))
}

/// Verification by the roots of `source`, in addition to `conditions`.
pub(super) fn validation(
    conditions: CertificateValidationContext,
    source: SdsSecretConfig,
) -> ValidationContextType {
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(conditions),
        validation_context_sds_secret_config: Some(source),
        ..Default::default()
    })
}

fn from_agent_without_limit(name: &str) -> SdsSecretConfig {
    let source = ConfigSource {
        initial_fetch_timeout: Some(Duration::default()),
        ..config_source::sds()
    };
    secret(name, source)
}

fn secret(name: &str, source: ConfigSource) -> SdsSecretConfig {
    SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credential_names_get_a_scheme_and_roots_a_suffix() {
        assert_eq!(resource_name("shop"), "kubernetes://shop");
        assert_eq!(resource_name("configmap://a/b"), "configmap://a/b");
        assert_eq!(root_resource_name("shop"), "kubernetes://shop-cacert");
        assert_eq!(
            root_resource_name("shop-cacert"),
            "kubernetes://shop-cacert"
        );
        assert_eq!(root_resource_name("configmap://a/b"), "configmap://a/b");
    }

    #[test]
    fn secrets_are_parsed_with_and_without_namespace() {
        assert_eq!(parse_secret("kubernetes://shop"), Some(("", "shop")));
        assert_eq!(parse_secret("kubernetes://ns/shop"), Some(("ns", "shop")));
        for name in [
            "kubernetes://",
            "kubernetes://a/b/c",
            "default",
            "configmap://a/b",
        ] {
            assert_eq!(parse_secret(name), None, "{name}");
        }
    }
}
