//! Assembles virtual hosts into one route configuration.

use bytes::Bytes;
use istio_api::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use pilot_model::{class::Client, config::ConfigRef};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};

use super::{VirtualHostEntry, fallback::Fallback, portless};
use crate::{
    hash::{TextMap, TextSet},
    name::SidecarRoute,
    resource::{Resource, Skipped, sources},
};

/// Field number of `RouteConfiguration.virtual_hosts`.
const VIRTUAL_HOSTS: u32 = 2;
/// Maximum size of a direct response, in bytes.
const MAX_BODY_BYTES: u32 = 1 << 20;

/// Concatenates `entries`, which may be in any order. A disputed name or domain goes to the entry
/// of the lowest rank; an entry that keeps no domain is left out.
pub fn assemble<'a>(
    client: &Client<'_>,
    route: &str,
    entries: impl Iterator<Item = &'a VirtualHostEntry>,
) -> (Resource, Vec<Skipped>) {
    let mut ranked: Vec<&VirtualHostEntry> = entries.collect();
    ranked.sort_by(|a, b| a.rank.cmp(&b.rank).then_with(|| a.name.cmp(&b.name)));
    let (mut kept, skipped) = settle(&ranked);
    kept.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));

    let sniffed = matches!(
        SidecarRoute::parse(route),
        Some(SidecarRoute::Sniffed { .. })
    );
    let every_port = portless(client).iter().any(|(name, _)| **name == *route);
    let has_catch_all = kept
        .iter()
        .any(|kept| kept.entry.domains.iter().any(|d| &**d == "*"));

    let size: usize = kept.iter().map(|kept| kept.body().len() + 8).sum();
    let mut bytes = Vec::with_capacity(size + 512);
    encode(
        &RouteConfiguration {
            name: route.to_owned(),
            ..Default::default()
        },
        &mut bytes,
    );
    for host in &kept {
        append(&mut bytes, host.body());
    }
    if !sniffed && !has_catch_all {
        let mesh = &client.snapshot.mesh;
        append(
            &mut bytes,
            &Fallback::of(client).virtual_host(mesh).encode_to_vec(),
        );
    }
    encode(
        &RouteConfiguration {
            validate_clusters: Some(false),
            max_direct_response_body_size_bytes: Some(MAX_BODY_BYTES),
            // Where requests for all ports meet, the port selects the service.
            ignore_port_in_host_matching: !every_port,
            ..Default::default()
        },
        &mut bytes,
    );
    let refs: Vec<ConfigRef> = kept
        .iter()
        .flat_map(|kept| kept.entry.sources.iter().cloned())
        .collect();
    (
        Resource::from_bytes(route, bytes.into(), sources(refs)),
        skipped,
    )
}

fn encode(config: &RouteConfiguration, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&config.encode_to_vec());
}

fn append(bytes: &mut Vec<u8>, host: &[u8]) {
    encode_key(VIRTUAL_HOSTS, WireType::LengthDelimited, bytes);
    encode_varint(host.len() as u64, bytes);
    bytes.extend_from_slice(host);
}

struct Kept<'a> {
    entry: &'a VirtualHostEntry,
    /// Set when the entry lost a domain and was encoded again.
    changed: Option<Bytes>,
}

impl Kept<'_> {
    fn body(&self) -> &Bytes {
        self.changed.as_ref().unwrap_or(&self.entry.body)
    }
}

/// Assigns every name and domain to one entry only.
fn settle<'a>(ranked: &[&'a VirtualHostEntry]) -> (Vec<Kept<'a>>, Vec<Skipped>) {
    let mut names = TextSet::default();
    // A short form never takes the own name of another entry.
    let mut declared: TextMap<'_, &str> = TextMap::default();
    for entry in ranked {
        if let Some(own) = entry.domains.first() {
            declared.entry(own).or_insert(&entry.name);
        }
    }
    let mut used = TextSet::default();
    let mut kept = Vec::with_capacity(ranked.len());
    let mut skipped = Vec::new();
    for entry in ranked {
        if !names.insert(&entry.name) {
            skipped.push(duplicate(entry, &entry.name));
            continue;
        }
        let mut domains: Vec<&str> = Vec::with_capacity(entry.domains.len());
        for (at, domain) in entry.domains.iter().enumerate() {
            let of_another = at > 0
                && declared
                    .get(&**domain)
                    .is_some_and(|name| **name != *entry.name);
            if of_another {
                continue;
            }
            if used.insert(domain) {
                domains.push(domain);
            } else if at == 0 {
                skipped.push(duplicate(entry, domain));
            }
        }
        if domains.is_empty() {
            continue;
        }
        let changed = (domains.len() < entry.domains.len()).then(|| trimmed(entry, &domains));
        kept.push(Kept { entry, changed });
    }
    (kept, skipped)
}

fn trimmed(entry: &VirtualHostEntry, domains: &[&str]) -> Bytes {
    match VirtualHost::decode(entry.body.clone()) {
        Ok(mut host) => {
            host.domains = domains.iter().map(|&domain| domain.to_owned()).collect();
            host.encode_to_vec().into()
        }
        // Cannot fail, as this process encoded it.
        Err(_) => entry.body.clone(),
    }
}

fn duplicate(entry: &VirtualHostEntry, what: &str) -> Skipped {
    Skipped {
        metric: "pilot_vservice_dup_domain",
        reason: format!("{what} is already served by an older object; declare it only once"),
        source: entry
            .sources
            .iter()
            .find(|source| source.kind == "VirtualService")
            .cloned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pilot_model::config::Created;

    use super::*;
    use crate::route::outbound::Rank;

    fn entry(name: &str, class: u8, seconds: i64, domains: &[&str]) -> VirtualHostEntry {
        let host = VirtualHost {
            name: name.to_owned(),
            domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
            ..Default::default()
        };
        VirtualHostEntry {
            name: name.into(),
            domains: domains.iter().map(|&domain| Arc::from(domain)).collect(),
            body: host.encode_to_vec().into(),
            version: 0,
            sources: Arc::new([]),
            rank: Rank {
                class,
                created: Created { seconds, nanos: 0 },
                name: name.into(),
                namespace: "demo".into(),
            },
        }
    }

    fn settled(entries: &[VirtualHostEntry]) -> Vec<(String, Vec<String>)> {
        let mut ranked: Vec<&VirtualHostEntry> = entries.iter().collect();
        ranked.sort_by(|a, b| a.rank.cmp(&b.rank));
        let (kept, _) = settle(&ranked);
        let decode = |kept: &Kept<'_>| VirtualHost::decode(kept.body().clone()).unwrap();
        kept.iter()
            .map(decode)
            .map(|host| (host.name, host.domains))
            .collect()
    }

    #[test]
    fn a_domain_goes_to_the_virtual_service_then_to_the_oldest() {
        let entries = [
            entry("young", 1, 2, &["young", "shared"]),
            entry("old", 1, 1, &["old", "shared"]),
            entry("ruled", 0, 9, &["old"]),
        ];
        let owned = |domains: &[&str]| domains.iter().map(|&d| d.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            settled(&entries),
            [
                ("ruled".to_owned(), owned(&["old"])),
                ("old".to_owned(), owned(&["shared"])),
                ("young".to_owned(), owned(&["young"])),
            ]
        );
    }

    #[test]
    fn a_short_form_leaves_the_name_that_another_was_declared_with() {
        let entries = [
            entry(
                "a",
                1,
                1,
                &["reviews.demo.svc.cluster.local", "reviews.demo"],
            ),
            entry("b", 1, 2, &["reviews.demo"]),
        ];
        let domains: Vec<_> = settled(&entries)
            .into_iter()
            .map(|(_, domains)| domains)
            .collect();
        assert_eq!(
            domains,
            [vec!["reviews.demo.svc.cluster.local"], vec!["reviews.demo"]]
        );
    }

    #[test]
    fn a_name_is_used_once() {
        let entries = [entry("a", 1, 1, &["x"]), entry("a", 1, 2, &["y"])];
        assert_eq!(settled(&entries).len(), 1);
    }
}
