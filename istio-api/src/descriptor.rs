//! Descriptors of every Istio and Envoy message, for work by name: JSON, `Any`, `EnvoyFilter`.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, MessageDescriptor};

/// Istio's messages and the well-known types.
static ISTIO: LazyLock<DescriptorPool> = LazyLock::new(|| {
    decode(include_bytes!(concat!(
        env!("OUT_DIR"),
        "/descriptors-istio.bin"
    )))
});
/// Those, and Envoy's.
static ALL: LazyLock<DescriptorPool> =
    LazyLock::new(|| decode(include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"))));

#[expect(
    clippy::expect_used,
    reason = "the bytes are part of the program; a test decodes them"
)]
fn decode(bytes: &'static [u8]) -> DescriptorPool {
    DescriptorPool::decode(bytes).expect("the embedded descriptor set decodes")
}

/// Every message, decoded at the first call (about 20 ms and 20 MB): a process that looks up
/// Istio's messages only should call [`message`].
///
/// It knows more Envoy messages than have Rust types in [`crate::envoy`].
#[must_use]
pub fn pool() -> &'static DescriptorPool {
    &ALL
}

/// The message of this full name, e.g. `istio.networking.v1alpha3.Gateway`. Istio's messages and
/// the well-known types have a pool of their own, which is small.
#[must_use]
pub fn message(full_name: &str) -> Option<MessageDescriptor> {
    let istio = ["istio.", "google.protobuf."]
        .iter()
        .any(|package| full_name.starts_with(package));
    istio
        .then(|| ISTIO.get_message_by_name(full_name))
        .flatten()
        .or_else(|| ALL.get_message_by_name(full_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_has_istio_envoy_and_well_known_messages() {
        for name in [
            "istio.networking.v1alpha3.VirtualService",
            "istio.mesh.v1alpha1.MeshConfig",
            "istio.v1.auth.IstioCertificateRequest",
            "envoy.config.cluster.v3.Cluster",
            "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
            "envoy.extensions.filters.network.zookeeper_proxy.v3.ZooKeeperProxy",
            "google.protobuf.Struct",
            "google.rpc.Status",
            "udpa.type.v1.TypedStruct",
            "xds.type.v3.TypedStruct",
            "xds.type.matcher.v3.CelMatcher",
            "xds.type.matcher.v3.IPMatcher",
        ] {
            assert!(message(name).is_some(), "{name}");
        }
    }

    #[test]
    fn istio_needs_no_descriptor_of_envoy() {
        let envoy = |pool: &DescriptorPool| {
            let mut packages = pool.files().map(|file| file.package_name().to_owned());
            packages.any(|package| package.starts_with("envoy."))
        };
        assert!(!envoy(&ISTIO) && envoy(&ALL));
        let names = |pool: &DescriptorPool| {
            let istio = pool
                .all_messages()
                .map(|message| message.full_name().to_owned());
            istio
                .filter(|name| name.starts_with("istio."))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&ISTIO), names(&ALL));
    }

    #[test]
    fn options_and_their_files_are_gone() {
        assert!(pool().get_file_by_name("validate/validate.proto").is_none());
        assert!(
            pool()
                .get_file_by_name("udpa/annotations/status.proto")
                .is_none()
        );
    }
}
