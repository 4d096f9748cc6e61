//! The desired object, and the step towards it: pure, except for reading the files.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingWebhook, ValidatingWebhookConfiguration as Configuration,
};
use mesh_common::tls;
use serde_json::{Value, json};

use super::Settings;

/// Label that Istio's own objects of this kind have.
const LABEL: (&str, &str) = ("istio", "galley");
const FAIL: &str = "Fail";
const IGNORE: &str = "Ignore";

/// Why there is nothing to register.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("cannot load the CA bundle: {0}")]
    Bundle(#[from] tls::Error),
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error(
        "{path}: want a ValidatingWebhookConfiguration of admissionregistration.k8s.io/v1: {reason}"
    )]
    Content { path: String, reason: String },
}

impl LoadError {
    /// The class of the error, for a label.
    pub(super) fn class(&self) -> &'static str {
        match self {
            Self::Bundle(_) => "bundle",
            Self::Read { .. } => "read",
            Self::Content { .. } => "content",
        }
    }
}

/// The desired object.
#[derive(Debug)]
pub(super) struct Desired {
    name: String,
    bundle: ByteString,
    /// The webhooks to install, with all defaults; without them something else owns the object.
    webhooks: Option<Vec<ValidatingWebhook>>,
    managed_policy: bool,
}

/// What changes the object that was found into the desired one.
#[derive(Debug)]
pub(super) enum Step {
    Nothing,
    Create(Box<Configuration>),
    /// A strategic merge patch.
    Patch(Value),
    Replace(Box<Configuration>),
}

impl Desired {
    /// Reads the files.
    pub(super) fn load(settings: &Settings) -> Result<Self, LoadError> {
        // Only certificates that can verify a server; the text goes to the API server unchanged.
        tls::load_roots(&settings.ca_file)?;
        let bundle = ByteString(read(&settings.ca_file)?);
        let webhooks = match &settings.file {
            None => None,
            Some(path) => {
                let text = read(path)?;
                let wrong = |reason: String| LoadError::Content {
                    path: path.display().to_string(),
                    reason,
                };
                let object: Configuration =
                    serde_yaml::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
                let webhooks = object.webhooks.unwrap_or_default();
                if webhooks.is_empty() {
                    return Err(wrong("it has no `webhooks`".to_owned()));
                }
                Some(webhooks)
            }
        };
        Ok(Self::new(settings, bundle, webhooks))
    }

    fn new(
        settings: &Settings,
        bundle: ByteString,
        webhooks: Option<Vec<ValidatingWebhook>>,
    ) -> Self {
        let complete = |mut webhook: ValidatingWebhook| {
            if settings.managed_policy {
                webhook.failure_policy = Some(IGNORE.to_owned());
            }
            webhook.client_config.ca_bundle = Some(bundle.clone());
            with_defaults(webhook)
        };
        Self {
            name: settings.name.clone(),
            webhooks: webhooks.map(|webhooks| webhooks.into_iter().map(complete).collect()),
            bundle,
            managed_policy: settings.managed_policy,
        }
    }

    /// Whether galley owns the whole object.
    pub(super) fn is_owner(&self) -> bool {
        self.webhooks.is_some()
    }

    /// The step from `found` to the desired object.
    pub(super) fn step(&self, found: Option<&Configuration>) -> Step {
        let Some(wanted) = &self.webhooks else {
            return found.map_or(Step::Nothing, |found| self.bundles(found));
        };
        let Some(found) = found else {
            let mut object = Configuration::default();
            object.metadata.name = Some(self.name.clone());
            let (label, value) = LABEL;
            object.metadata.labels = Some([(label.to_owned(), value.to_owned())].into());
            object.webhooks = Some(wanted.clone());
            return Step::Create(Box::new(object));
        };
        let is = found.webhooks.clone().unwrap_or_default();
        let is: Vec<_> = is.into_iter().map(with_defaults).collect();
        let mut wanted = wanted.clone();
        if self.managed_policy {
            // Once a webhook fails closed, it never goes back to letting everything through.
            for webhook in &mut wanted {
                let closed = is.iter().any(|one| {
                    one.name == webhook.name && one.failure_policy.as_deref() == Some(FAIL)
                });
                if closed {
                    webhook.failure_policy = Some(FAIL.to_owned());
                }
            }
        }
        if is == wanted {
            return Step::Nothing;
        }
        Step::Replace(Box::new(Configuration {
            metadata: found.metadata.clone(),
            webhooks: Some(wanted),
        }))
    }

    /// Updates only the caBundles: everything else belongs to the owner of the object, who must see
    /// no difference.
    fn bundles(&self, found: &Configuration) -> Step {
        let stale: Vec<Value> = found
            .webhooks
            .iter()
            .flatten()
            .filter(|webhook| webhook.client_config.ca_bundle.as_ref() != Some(&self.bundle))
            .map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": self.bundle}}))
            .collect();
        if stale.is_empty() {
            return Step::Nothing;
        }
        Step::Patch(json!({"webhooks": stale}))
    }

    /// The object with all policies set to `Fail`, if galley manages them and not all are yet.
    pub(super) fn fail_closed(&self, found: Option<Configuration>) -> Option<Configuration> {
        let mut object = found.filter(|_| self.managed_policy && self.is_owner())?;
        let mut open = object
            .webhooks
            .iter_mut()
            .flatten()
            .filter(|webhook| webhook.failure_policy.as_deref() != Some(FAIL))
            .peekable();
        open.peek()?;
        open.for_each(|webhook| webhook.failure_policy = Some(FAIL.to_owned()));
        Some(object)
    }
}

/// The webhook as an API server stores it; without the defaults every comparison would find a
/// difference.
fn with_defaults(mut webhook: ValidatingWebhook) -> ValidatingWebhook {
    let text = |value: &mut Option<String>, default: &str| {
        value.get_or_insert_with(|| default.to_owned());
    };
    text(&mut webhook.failure_policy, FAIL);
    text(&mut webhook.match_policy, "Equivalent");
    webhook.timeout_seconds.get_or_insert(10);
    webhook.namespace_selector.get_or_insert_default();
    webhook.object_selector.get_or_insert_default();
    if webhook.side_effects.is_empty() {
        "None".clone_into(&mut webhook.side_effects);
    }
    if webhook.admission_review_versions.is_empty() {
        webhook.admission_review_versions.push("v1".to_owned());
    }
    if let Some(service) = &mut webhook.client_config.service {
        service.port.get_or_insert(443);
    }
    for rule in webhook.rules.iter_mut().flatten() {
        text(&mut rule.scope, "*");
    }
    webhook
}

/// Maximum size of a file, in bytes: as large as an object that an API server accepts.
const MAX_FILE: u64 = 3 << 20;

pub(super) fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let mut bytes = Vec::new();
    let taken = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    match taken {
        Ok(taken) if taken as u64 > MAX_FILE => Err(LoadError::Content {
            path: path.display().to_string(),
            reason: format!("the file has more than {MAX_FILE} bytes"),
        }),
        Ok(_) => Ok(bytes),
        Err(source) => Err(LoadError::Read {
            path: path.display().to_string(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests;
