//! Rules for ServiceEntry.

use std::collections::BTreeSet;

use super::SPEC;
use super::primitives::export::{Export, export_to};
use super::primitives::protocol::{self, Protocol};
use super::primitives::{host, label, number};
use super::report::{At, Check, quote};
use super::workload::{self, Addresses};
use istio_api::networking::v1alpha3::service_entry::{Location, Resolution};
use istio_api::networking::v1alpha3::{ServiceEntry, WorkloadEntry};

const USE_WAYPOINT: &str = "istio.io/use-waypoint";

pub(super) fn validate(check: &mut Check<'_>, spec: &ServiceEntry) {
    if let Some(selector) = &spec.workload_selector {
        let at = SPEC.field("workloadSelector");
        label::selector(check, "SE-01", &at, "labels", &selector.labels);
        check.refuse(
            !spec.endpoints.is_empty(),
            "SE-02",
            &SPEC.field("endpoints"),
            "workloadSelector and endpoints are both set: want one of them",
        );
    }
    hosts(check, spec);
    addresses(check, spec);
    ports(check, spec);
    match Resolution::try_from(spec.resolution) {
        Ok(Resolution::None) => without_resolution(check, spec),
        Ok(Resolution::Static) => fixed(check, spec),
        Ok(Resolution::Dns | Resolution::DnsRoundRobin) => resolved(check, spec),
        Ok(Resolution::DynamicDns) => resolved_on_demand(check, spec),
        Err(_) => check.error(
            "SE-33",
            &SPEC.field("resolution"),
            format!(
                "{} is not a resolution: want NONE, STATIC, DNS, DNS_ROUND_ROBIN or DYNAMIC_DNS",
                spec.resolution
            ),
        ),
    }
    export_to(check, "SE-35", &SPEC, &spec.export_to, Export::OrNowhere);
}

/// Protocols of the ports; `None` for those that are empty or unknown.
fn protocols(spec: &ServiceEntry) -> impl Iterator<Item = Option<Protocol>> {
    spec.ports
        .iter()
        .map(|port| Protocol::parse(&port.protocol))
}

fn hosts(check: &mut Check<'_>, spec: &ServiceEntry) {
    check.refuse(
        spec.hosts.is_empty(),
        "SE-03",
        &SPEC.field("hosts"),
        "there is no host: want at least one",
    );
    for (i, name) in spec.hosts.iter().enumerate() {
        let at = SPEC.item("hosts", i);
        if name == "*" {
            check.error(
                "SE-04",
                &at,
                "\"*\" would match every host: want hosts, such as \"*.example.com\"",
            );
            continue;
        }
        check.test("SE-05", &at, host::wildcard(name));
        if spec.resolution() != Resolution::DynamicDns && host::is_partial_wildcard(name) {
            check.warn("SE-06", &at, format!(
                "{} has a wildcard for part of a label, which matches nothing: want \"*\" in front of a dot",
                quote(name)
            ));
        }
    }
    let named = protocols(spec).all(|protocol| protocol.is_some_and(|p| p.is_http() || p.is_tls()));
    check.refuse(
        spec.hosts.len() > 1 && spec.resolution() != Resolution::None && !named,
        "SE-34",
        &SPEC.field("hosts"),
        "several hosts cannot be told apart on ports that are neither HTTP nor TLS: want an entry for each host",
    );
}

fn addresses(check: &mut Check<'_>, spec: &ServiceEntry) {
    for (i, address) in spec.addresses.iter().enumerate() {
        let at = SPEC.item("addresses", i);
        check.test("SE-07", &at, host::ip_or_prefix(address));
        let fits = matches!(spec.resolution(), Resolution::None | Resolution::Static);
        if address.contains('/') && !fits {
            check.error("SE-08", &at, format!(
                "{} is a prefix, which only resolution NONE or STATIC can have: want an IP address",
                quote(address)
            ));
        }
    }
}

fn ports(check: &mut Check<'_>, spec: &ServiceEntry) {
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (i, port) in spec.ports.iter().enumerate() {
        let at = SPEC.item("ports", i);
        let name = at.field("name");
        check.test("SE-14", &name, host::label(&port.name));
        if !names.insert(&port.name) && !port.name.is_empty() {
            check.error(
                "SE-10",
                &name,
                format!(
                    "{} is the name of an earlier port: want each name once",
                    quote(&port.name)
                ),
            );
        }
        let at_number = at.field("number");
        check.test("SE-12", &at_number, number::port(port.number));
        if !numbers.insert(port.number) {
            check.error(
                "SE-11",
                &at_number,
                format!(
                    "{} is the number of an earlier port: want each number once",
                    port.number
                ),
            );
        }
        if port.target_port != 0 {
            check.test(
                "SE-13",
                &at.field("targetPort"),
                number::port(port.target_port),
            );
        }
        let at = at.field("protocol");
        check.test("SE-15", &at, protocol::known_or_empty(&port.protocol));
        if matches!(port.protocol.as_str(), "" | "TCP") && spec.addresses.is_empty() {
            check.warn(
                "SE-16",
                &at,
                "without addresses, all traffic to this port number is attributed to this service, whatever its host: want addresses, or a protocol that names the host",
            );
        }
    }
}

fn without_resolution(check: &mut Check<'_>, spec: &ServiceEntry) {
    check.refuse(
        !spec.endpoints.is_empty(),
        "SE-17",
        &SPEC.field("endpoints"),
        "resolution NONE keeps the original destination: want STATIC or DNS, or no endpoints",
    );
    if spec.workload_selector.is_some() {
        check.warn(
            "SE-18",
            &SPEC.field("workloadSelector"),
            "resolution NONE keeps the original destination, so no workload is used: want STATIC",
        );
    }
}

fn names(spec: &ServiceEntry) -> BTreeSet<&str> {
    spec.ports.iter().map(|port| port.name.as_str()).collect()
}

fn fixed(check: &mut Check<'_>, spec: &ServiceEntry) {
    let names = names(spec);
    for (i, endpoint) in spec.endpoints.iter().enumerate() {
        let at = SPEC.item("endpoints", i);
        workload::entry(check, &at, endpoint, Addresses::Numeric);
        known_ports(check, &at, endpoint, &names);
        check.refuse(
            endpoint.address.starts_with("unix://") && spec.ports.len() != 1,
            "WE-09",
            &at.field("address"),
            "a Unix socket serves one port: want an entry with exactly one",
        );
    }
}

fn known_ports(
    check: &mut Check<'_>,
    at: &At<'_>,
    endpoint: &WorkloadEntry,
    names: &BTreeSet<&str>,
) {
    for name in endpoint.ports.keys() {
        if !names.contains(name.as_str()) {
            check.error(
                "SE-26",
                &at.entry("ports", name),
                format!(
                    "{} is not a port of this entry: want the name of one of its ports",
                    quote(name)
                ),
            );
        }
    }
}

fn resolved(check: &mut Check<'_>, spec: &ServiceEntry) {
    if spec.endpoints.is_empty() {
        for (i, name) in spec
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, name)| !host::is_name(name))
        {
            check.error(
                "SE-22",
                &SPEC.item("hosts", i),
                format!(
                    "{} cannot be looked up by DNS: want a full host name, or endpoints",
                    quote(name)
                ),
            );
        }
    }
    check.refuse(
        spec.resolution() == Resolution::DnsRoundRobin && spec.endpoints.len() > 1,
        "SE-23",
        &SPEC.field("endpoints"),
        "resolution DNS_ROUND_ROBIN supports only one endpoint: want one, or resolution DNS",
    );
    let names = names(spec);
    for (i, endpoint) in spec.endpoints.iter().enumerate() {
        let at = SPEC.item("endpoints", i);
        if !host::is_name(&endpoint.address) && !host::is_ip(&endpoint.address) {
            check.error(
                "SE-24",
                &at.field("address"),
                format!(
                    "{} is neither a host name nor an IP address: want one of them",
                    quote(&endpoint.address)
                ),
            );
        }
        label::labels(check, "SE-25", &at, "labels", &endpoint.labels);
        known_ports(check, &at, endpoint, &names);
        for (name, port) in &endpoint.ports {
            let at = at.entry("ports", name);
            check.test("SE-27", &at, host::label(name));
            check.test("SE-27", &at, number::port(*port));
        }
    }
    let tcp = protocols(spec).flatten().any(Protocol::is_tcp);
    if spec.hosts.len() > 1 && !spec.addresses.is_empty() && tcp {
        check.warn(
            "SE-28",
            &SPEC.field("hosts"),
            "on TCP ports the addresses lead to the first host only: want an entry for each host",
        );
    }
}

fn resolved_on_demand(check: &mut Check<'_>, spec: &ServiceEntry) {
    for (i, name) in spec
        .hosts
        .iter()
        .enumerate()
        .filter(|(_, name)| !name.starts_with('*'))
    {
        check.error("SE-29", &SPEC.item("hosts", i), format!(
            "{} has no wildcard, which resolution DYNAMIC_DNS requires: want one such as \"*.example.com\", or resolution DNS",
            quote(name)
        ));
    }
    let given = [
        ("addresses", !spec.addresses.is_empty()),
        ("endpoints", !spec.endpoints.is_empty()),
    ];
    for (field, given) in given {
        check.refuse(
            given,
            "SE-30",
            &SPEC.field(field),
            "resolution DYNAMIC_DNS looks up each host when it is requested: leave this out",
        );
    }
    for (i, protocol) in protocols(spec).enumerate() {
        let fits = matches!(
            protocol,
            Some(Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Tls)
        );
        let at = SPEC.item("ports", i);
        check.refuse(
            !fits,
            "SE-31",
            &at.field("protocol"),
            "with resolution DYNAMIC_DNS the protocol must name the host: want HTTP, HTTP2, GRPC or TLS",
        );
    }
    let waypoint = check
        .meta
        .labels
        .get(USE_WAYPOINT)
        .map_or("", String::as_str);
    check.refuse(
        spec.location() == Location::MeshInternal && !matches!(waypoint, "" | "none"),
        "SE-32",
        &SPEC.field("location"),
        "hosts that are looked up on demand and go through a waypoint are outside the mesh: want MESH_EXTERNAL",
    );
}
