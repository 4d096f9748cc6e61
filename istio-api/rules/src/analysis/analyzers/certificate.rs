//! DestinationRules that use TLS without verifying the server's certificate.

use super::super::catalogue::{
    NO_SERVER_CERTIFICATE_VERIFICATION_DESTINATION_LEVEL as OF_RULE,
    NO_SERVER_CERTIFICATE_VERIFICATION_PORT_LEVEL as OF_PORT,
};
use super::super::report::Report;
use super::super::resources::Resources;
use istio_api::networking::v1alpha3::ClientTlsSettings;
use istio_api::networking::v1alpha3::client_tls_settings::TlSmode;

pub(super) fn analyze(resources: &Resources, report: &mut Report) {
    for rule in &resources.destination_rules {
        let Some(policy) = &rule.spec.traffic_policy else {
            continue;
        };
        let has_selector = rule.spec.workload_selector.is_some();
        let origin = &rule.head.origin;
        let about = |mode: TlSmode| {
            [
                rule.name().to_owned(),
                rule.namespace().to_owned(),
                mode.as_str_name().to_owned(),
                rule.spec.host.clone(),
            ]
        };
        if let Some(mode) = unverified(policy.tls.as_ref(), has_selector) {
            report.add(&OF_RULE, origin, "spec.trafficPolicy.tls", about(mode));
        }
        for (i, port) in policy.port_level_settings.iter().enumerate() {
            if let Some(mode) = unverified(port.tls.as_ref(), has_selector) {
                let field = format!("spec.trafficPolicy.portLevelSettings[{i}].tls");
                let number = port.port.as_ref().map_or(0, |port| port.number);
                let [name, namespace, mode, host] = about(mode);
                let parameters = [name, namespace, mode, host, number.to_string()];
                report.add(&OF_PORT, origin, field, parameters);
            }
        }
    }
}

fn unverified(tls: Option<&ClientTlsSettings>, has_selector: bool) -> Option<TlSmode> {
    let tls = tls?;
    let mode = tls.mode();
    let uses_tls = matches!(mode, TlSmode::Simple | TlSmode::Mutual);
    // Such a credential includes CA certificates, and only selected workloads may use one.
    let has_credential = has_selector && !tls.credential_name.is_empty();
    (uses_tls && tls.ca_certificates.is_empty() && !has_credential).then_some(mode)
}
