//! Gateways of the same workloads that share a certificate: a browser reuses a connection for
//! hosts of the other one, and gets 404.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::catalogue::GATEWAY_DUPLICATE_CERTIFICATE;
use super::super::super::message::names;
use super::super::super::report::Report;
use super::super::super::resources::Resources;
use super::super::super::selection::{Labels, selects};

/// What identifies a certificate: a credential, or two files.
type Certificate<'a> = (&'a str, &'a str, &'a str);

pub(in super::super) fn analyze(resources: &Resources, report: &mut Report) {
    // Gateways of a certificate, by selector.
    let mut uses: BTreeMap<Certificate<'_>, BTreeMap<&Labels, BTreeSet<usize>>> = BTreeMap::new();
    for (index, gateway) in resources.gateways.iter().enumerate() {
        for tls in gateway
            .spec
            .servers
            .iter()
            .filter_map(|one| one.tls.as_ref())
        {
            let certificate = if !tls.credential_name.is_empty() {
                (tls.credential_name.as_str(), "", "")
            } else if !tls.server_certificate.is_empty() && !tls.private_key.is_empty() {
                (
                    "",
                    tls.server_certificate.as_str(),
                    tls.private_key.as_str(),
                )
            } else {
                continue;
            };
            let by_selector = uses.entry(certificate).or_default();
            let gateways = by_selector.entry(&gateway.spec.selector).or_default();
            gateways.insert(index);
        }
    }
    let mut told: BTreeSet<(usize, String)> = BTreeSet::new();
    for by_selector in uses.values() {
        for (selector, gateways) in by_selector {
            let near = by_selector
                .iter()
                .filter(|(other, _)| selects(selector, other) || selects(other, selector));
            let near: BTreeSet<usize> = near.flat_map(|(_, indices)| indices).copied().collect();
            if near.len() < 2 {
                continue;
            }
            let all = near
                .iter()
                .filter_map(|index| resources.gateways.get(*index));
            let all = names(all.map(|gateway| gateway.full_name()));
            for index in gateways {
                let Some(gateway) = resources.gateways.get(*index) else {
                    continue;
                };
                if told.insert((*index, all.clone())) {
                    let origin = &gateway.head.origin;
                    let code = &GATEWAY_DUPLICATE_CERTIFICATE;
                    report.add(code, origin, "metadata.name", [all.clone()]);
                }
            }
        }
    }
}
