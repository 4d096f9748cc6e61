//! Flags of the admission webhook.

use std::path::PathBuf;

use clap::{ArgAction, Args, builder::RangedU64ValueParser};

use super::any_path;

/// Flags of the admission webhook.
#[derive(Debug, Clone, Args)]
pub struct ValidationArgs {
    /// Serve the admission webhook.
    #[arg(long = "enable-validation", default_value_t = true, default_missing_value = "true",
          num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    pub enable_validation: bool,
    /// Port of the webhook.
    // 0 lets the system choose, for tests.
    #[arg(long = "validation-port", default_value_t = 443,
          value_parser = RangedU64ValueParser::<u16>::new())]
    pub validation_port: u16,
    /// ValidatingWebhookConfiguration to install; without it, only the caBundle of an existing one
    /// is kept up to date.
    #[arg(long = "validation-webhook-config-file", default_value = "", hide_default_value = true,
          value_parser = any_path)]
    pub webhook_config_file: PathBuf,
    /// Install the webhook with failure policy Ignore, and switch it to Fail once it works.
    #[arg(long = "validation-failure-policy-managed", default_value_t = false,
          default_missing_value = "true", num_args = 0..=1, require_equals = true,
          action = ArgAction::Set)]
    pub managed_policy: bool,
    /// Namespace of galley's Service.
    #[arg(long = "deployment-namespace", default_value = "istio-system", value_parser = label)]
    pub deployment_namespace: String,
    /// Accepted without effect: a namespaced Deployment cannot own a cluster-scoped object.
    #[arg(long = "deployment-name", default_value = "istio-galley", hide = true,
          value_parser = label)]
    pub deployment_name: String,
    /// Service in front of the webhook.
    #[arg(long = "service-name", default_value = "istio-galley", value_parser = label)]
    pub service_name: String,
    /// Name of the ValidatingWebhookConfiguration.
    #[arg(long = "webhook-name", default_value = "istio-galley", value_parser = label)]
    pub webhook_name: String,
}

/// A DNS label (RFC 1123), with letters of either case as in 1.1.
fn label(text: &str) -> Result<String, String> {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_label = (1..=63).contains(&text.len())
        && text.bytes().all(inside)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if is_label {
        return Ok(text.to_owned());
    }
    Err("want at most 63 letters, digits and dashes, without a dash at either end".to_owned())
}
