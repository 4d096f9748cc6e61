//! Names in TLS settings.

use super::super::report::quote;
use super::{Outcome, ensure};

const CIPHERS: [&str; 15] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

/// A cipher suite that Envoy knows; expressions with operators are left to Envoy.
pub(in super::super) fn cipher(name: &str) -> Outcome {
    let operator = |c: char| !c.is_alphanumeric();
    let right =
        name.is_empty() || name == "ALL" || name.starts_with(operator) || CIPHERS.contains(&name);
    ensure(right, || {
        format!(
            "{} is not a cipher suite that Envoy knows, so it is ignored: want one such as ECDHE-RSA-AES128-GCM-SHA256",
            quote(name)
        )
    })
}

/// A credential in a ConfigMap of the object's namespace; other credentials pass.
pub(in super::super) fn config_map(name: &str, namespace: &str) -> Outcome {
    let Some(rest) = name.strip_prefix("configmap://") else {
        return Ok(());
    };
    let mut parts = rest.split('/');
    let (of, map) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    if of.is_empty() || map.is_empty() {
        return Err(format!(
            "{} names no ConfigMap: want configmap://namespace/name",
            quote(name)
        ));
    }
    ensure(of == namespace, || {
        format!(
            "the ConfigMap is in namespace {}: want one in the object's own, {}",
            quote(of),
            quote(namespace)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ciphers() {
        for good in ["", "ALL", "AES128-SHA", "-ALL", "[A|B]"] {
            assert_eq!(cipher(good), Ok(()));
        }
        assert!(cipher("FOO").is_err());
    }

    #[test]
    fn config_maps() {
        for good in ["a", "configmap://ns/c", "configmap://ns/c/more"] {
            assert_eq!(config_map(good, "ns"), Ok(()));
        }
        for bad in [
            "configmap://other/c",
            "configmap://ns",
            "configmap:///c",
            "configmap://ns/",
        ] {
            assert!(config_map(bad, "ns").is_err(), "{bad}");
        }
        assert!(config_map("configmap://ns/c", "").is_err());
    }
}
