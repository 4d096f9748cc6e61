//! TCP traffic to external services can be distinguished only by address.

use super::super::catalogue::SERVICE_ENTRY_ADDRESSES_REQUIRED;
use super::super::report::Report;
use super::super::resources::Resources;

const CAPTURE: &str = "ISTIO_META_DNS_CAPTURE";
const ALLOCATE: [&str; 2] = [
    "ISTIO_META_DNS_AUTO_ALLOCATE",
    "PILOT_ENABLE_IP_AUTOALLOCATE",
];

pub(super) fn analyze(resources: &Resources, report: &mut Report) {
    let proxy = resources.mesh.config.spec.default_config.as_ref();
    let is_on = |name: &str| {
        let value = proxy.and_then(|proxy| proxy.proxy_metadata.get(name));
        value.map(String::as_str) == Some("true")
    };
    if is_on(CAPTURE) && ALLOCATE.into_iter().any(is_on) {
        return;
    }
    for entry in &resources.service_entries {
        if !entry.spec.addresses.is_empty() || entry.head.status.has_addresses {
            continue;
        }
        for (i, port) in entry.spec.ports.iter().enumerate() {
            if port.protocol.is_empty() || port.protocol.eq_ignore_ascii_case("TCP") {
                let field = format!("spec.ports[{i}].protocol");
                let origin = &entry.head.origin;
                report.add(&SERVICE_ENTRY_ADDRESSES_REQUIRED, origin, field, []);
            }
        }
    }
}
