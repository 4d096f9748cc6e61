//! Mutual TLS of the mesh and of namespaces.

use super::refusal;
use crate::conversion::{Converted, Mesh, Source, made};
use istio_api::authentication::v1alpha1::peer_authentication_method::Params;
use istio_api::authentication::v1alpha1::{Policy, mutual_tls};
use istio_api::security::v1beta1::PeerAuthentication;
use istio_api::security::v1beta1::peer_authentication::{MutualTls, mutual_tls::Mode};

pub(super) const KIND: &str = "PeerAuthentication";

/// The mode that the peers of a policy ask for: that of the first `mtls`, `DISABLE` without one.
pub(super) fn mode(policy: &Policy) -> Mode {
    let first = policy.peers.iter().find_map(|peer| match &peer.params {
        Some(Params::Mtls(mtls)) => Some(mtls.mode()),
        Some(Params::Jwt(_)) => None,
        // Written as `mtls:` without a value, which 1.1 reads as STRICT.
        None => Some(mutual_tls::Mode::Strict),
    });
    match first {
        None => Mode::Disable,
        Some(mutual_tls::Mode::Strict) => Mode::Strict,
        Some(mutual_tls::Mode::Permissive) => Mode::Permissive,
    }
}

pub(super) fn mtls(mode: Mode) -> MutualTls {
    MutualTls { mode: mode.into() }
}

/// The PeerAuthentication of a policy without targets: of the mesh or of a namespace.
#[must_use]
pub fn scope(policy: &Source<Policy>, mesh: &Mesh<'_>) -> Converted {
    let mut converted = Converted::default();
    if let Some((path, message)) = refusal(policy, mesh) {
        converted.complaints.push(policy.complaint(path, message));
        return converted;
    }
    let spec = PeerAuthentication {
        mtls: Some(mtls(mode(&policy.spec))),
        ..Default::default()
    };
    let (namespace, name) = place(policy, mesh);
    let meta = made::meta(namespace, name, [&policy.origin()]);
    match made::security(KIND, meta, &spec) {
        Ok(object) => converted.objects.push(object),
        Err(message) => converted
            .complaints
            .push(policy.complaint("spec.peers", message)),
    }
    converted
}

/// Namespace and name of the objects that a policy without targets becomes.
pub(super) fn place<'a>(policy: &'a Source<Policy>, mesh: &Mesh<'a>) -> (&'a str, String) {
    let name = &policy.meta.name;
    if policy.kind == "MeshPolicy" {
        (mesh.root_namespace, format!("meshpolicy~{name}"))
    } else {
        (&policy.meta.namespace, format!("policy~{name}"))
    }
}
