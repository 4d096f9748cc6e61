//! Descriptors of every Istio and Envoy message, for work by name: JSON, `Any`, `EnvoyFilter`.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, MessageDescriptor};

static BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    #[expect(
        clippy::expect_used,
        reason = "the bytes are part of the program; a test decodes them"
    )]
    DescriptorPool::decode(BYTES).expect("the embedded descriptor set decodes")
});

/// The pool, decoded at the first call (about 20 ms and 20 MB): a process that never needs
/// messages by name should not call this.
///
/// It knows more Envoy messages than have Rust types in [`crate::envoy`].
#[must_use]
pub fn pool() -> &'static DescriptorPool {
    &POOL
}

/// The message of this full name, e.g. `istio.networking.v1alpha3.Gateway`.
#[must_use]
pub fn message(full_name: &str) -> Option<MessageDescriptor> {
    POOL.get_message_by_name(full_name)
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
    fn options_and_their_files_are_gone() {
        assert!(pool().get_file_by_name("validate/validate.proto").is_none());
        assert!(
            pool()
                .get_file_by_name("udpa/annotations/status.proto")
                .is_none()
        );
    }
}
