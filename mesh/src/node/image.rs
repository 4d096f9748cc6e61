//! Images are not unpacked: an image name stands for a program of the project.

/// Entry point of an image by its name without registry and tag; `None` for an image that the
/// mesh does not know, whose containers must name their command.
#[must_use]
pub fn entry_point(image: &str) -> Option<&'static str> {
    let name = image.rsplit('/').next().unwrap_or(image);
    let name = name.split(['@', ':']).next().unwrap_or(name);
    match name {
        "proxyv2" | "proxy_init" => Some("pilot-agent"),
        "pilot" => Some("pilot-discovery"),
        "citadel" => Some("citadel"),
        "galley" => Some("galley"),
        "sidecar_injector" => Some("sidecar-injector"),
        "samples" => Some("samples"),
        _ => None,
    }
}

/// Binaries that containers find in `/usr/local/bin`, each with the package that builds it.
/// `istio_ca` is the name of the citadel binary in the images of 1.1.
pub const BINARIES: [(&str, &str); 7] = [
    ("citadel", "citadel"),
    ("galley", "galley"),
    ("istio_ca", "citadel"),
    ("pilot-agent", "pilot-agent"),
    ("pilot-discovery", "pilot-discovery"),
    ("samples", "samples"),
    ("sidecar-injector", "sidecar-injector"),
];

#[cfg(test)]
mod tests {
    use super::entry_point;

    #[test]
    fn registry_tag_and_digest_do_not_matter() {
        assert_eq!(entry_point("keelson/proxyv2:0.1.0"), Some("pilot-agent"));
        assert_eq!(
            entry_point("localhost:5000/keelson/samples"),
            Some("samples")
        );
        assert_eq!(entry_point("galley@sha256:00"), Some("galley"));
        assert_eq!(entry_point("busybox:1"), None);
    }
}
