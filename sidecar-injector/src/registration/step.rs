//! The change from the existing to the desired object: pure.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration as Configuration;
use serde_json::{Value, json};

use super::Settings;

/// Label with the revision that an object belongs to.
const REVISION: &str = "istio.io/rev";

#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Nothing,
    /// A strategic merge patch with the resource version that it was made for.
    Patch(Value),
}

/// Why an object is left unchanged.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("MutatingWebhookConfiguration {name} has revision {found}, not {wanted}")]
    Revision {
        name: String,
        found: String,
        wanted: String,
    },
    #[error("MutatingWebhookConfiguration {name} has no webhook whose name ends in {suffix}")]
    NoEntry { name: String, suffix: String },
}

/// The patch that sets `bundle` in every webhook of this injector.
pub(super) fn step(
    found: &Configuration,
    settings: &Settings,
    bundle: &[u8],
) -> Result<Step, Refusal> {
    let labels = found.metadata.labels.as_ref();
    if let Some(revision) = labels.and_then(|labels| labels.get(REVISION))
        && *revision != settings.revision
    {
        return Err(Refusal::Revision {
            name: settings.name.clone(),
            found: revision.clone(),
            wanted: settings.revision.clone(),
        });
    }
    let mut ours = found
        .webhooks
        .iter()
        .flatten()
        .filter(|webhook| webhook.name.ends_with(&settings.suffix))
        .peekable();
    if ours.peek().is_none() {
        return Err(Refusal::NoEntry {
            name: settings.name.clone(),
            suffix: settings.suffix.clone(),
        });
    }
    let bundle = ByteString(bundle.to_vec());
    let stale: Vec<Value> = ours
        .filter(|webhook| webhook.client_config.ca_bundle.as_ref() != Some(&bundle))
        .map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": bundle}}))
        .collect();
    if stale.is_empty() {
        return Ok(Step::Nothing);
    }
    // Without the resource version, a webhook that was removed in the meantime would be recreated
    // with only its name and bundle.
    Ok(Step::Patch(json!({
        "metadata": {"resourceVersion": found.metadata.resource_version},
        "webhooks": stale,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            name: "istio-sidecar-injector".to_owned(),
            suffix: "sidecar-injector.istio.io".to_owned(),
            revision: "default".to_owned(),
            ca_file: "/none".into(),
        }
    }

    fn object(revision: Option<&str>, entries: &[(&str, Option<&str>)]) -> Configuration {
        let webhooks: Vec<Value> = entries
            .iter()
            .map(|(name, bundle)| {
                json!({
                    "name": name,
                    "sideEffects": "None",
                    "admissionReviewVersions": ["v1"],
                    "clientConfig": {"caBundle": bundle, "url": "https://x"},
                })
            })
            .collect();
        let labels = revision.map(|revision| json!({REVISION: revision}));
        serde_json::from_value(json!({
            "metadata": {"name": "istio-sidecar-injector", "resourceVersion": "7", "labels": labels},
            "webhooks": webhooks,
        }))
        .unwrap()
    }

    #[test]
    fn only_stale_entries_of_ours_are_patched() {
        // "AAE=" is the base64 of the bytes 0, 1.
        let found = object(
            Some("default"),
            &[
                ("rev.namespace.sidecar-injector.istio.io", Some("AAE=")),
                ("object.sidecar-injector.istio.io", Some("BBBB")),
                ("namespace.sidecar-injector.istio.io", None),
                ("somebody.else.io", None),
            ],
        );
        let entry = |name: &str| json!({"name": name, "clientConfig": {"caBundle": "AAE="}});
        assert_eq!(
            step(&found, &settings(), &[0, 1]).unwrap(),
            Step::Patch(json!({
                "metadata": {"resourceVersion": "7"},
                "webhooks": [
                    entry("object.sidecar-injector.istio.io"),
                    entry("namespace.sidecar-injector.istio.io"),
                ],
            }))
        );
        let done = object(None, &[("sidecar-injector.istio.io", Some("AAE="))]);
        assert_eq!(step(&done, &settings(), &[0, 1]).unwrap(), Step::Nothing);
    }

    #[test]
    fn an_object_of_somebody_else_is_left_alone() {
        let canary = object(Some("canary"), &[("sidecar-injector.istio.io", None)]);
        let refusal = step(&canary, &settings(), b"x").unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "MutatingWebhookConfiguration istio-sidecar-injector has revision canary, not default"
        );
        let foreign = object(None, &[("somebody.else.io", None)]);
        assert!(matches!(
            step(&foreign, &settings(), b"x"),
            Err(Refusal::NoEntry { .. })
        ));
    }
}
