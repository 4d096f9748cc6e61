//! Locality load balancing: weights by distribution, priorities by failover.

use istio_api::{
    envoy::config::endpoint::v3::LbEndpoint,
    networking::v1alpha3::{
        LocalityLoadBalancerSetting,
        locality_load_balancer_setting::{Distribute, Failover},
    },
    well_known::labels as label,
};
use pilot_model::service::{Endpoint, Locality};

use super::ClientLocation;

/// Number of priorities that locality alone can give, see [`distance`].
const DISTANCES: u32 = 5;

/// Endpoints that share locality and priority.
#[derive(Debug)]
pub struct Group<'a> {
    /// Region, zone and sub-zone.
    pub locality: &'a Locality,
    /// 0 is preferred.
    pub priority: u32,
    /// At least 1.
    pub weight: u32,
    /// The endpoints, each with its encoded form.
    pub members: Vec<(&'a Endpoint, LbEndpoint)>,
}

impl<'a> Group<'a> {
    /// A group at priority 0 with the weight of its members.
    pub fn new(locality: &'a Locality, members: Vec<(&'a Endpoint, LbEndpoint)>) -> Self {
        let weight = members
            .iter()
            .map(|(endpoint, _)| endpoint.weight.max(1))
            .fold(0, u32::saturating_add);
        Self {
            locality,
            priority: 0,
            weight: weight.max(1),
            members,
        }
    }
}

/// Weights or orders `groups` by `setting` for a client at `location`.
pub fn apply<'a>(
    mut groups: Vec<Group<'a>>,
    location: &ClientLocation<'_>,
    setting: &LocalityLoadBalancerSetting,
    fails_over: bool,
) -> Vec<Group<'a>> {
    if !setting.distribute.is_empty() {
        distribute(&mut groups, location.locality, &setting.distribute);
        return groups;
    }
    if !fails_over {
        return groups;
    }
    if !setting.failover_priority.is_empty() {
        groups = split_by_labels(groups, location, &setting.failover_priority);
        if setting.failover.is_empty() {
            return groups;
        }
    }
    for group in &mut groups {
        group.priority = group.priority * DISTANCES
            + distance(location.locality, group.locality, &setting.failover);
    }
    compress(&mut groups);
    groups
}

/// Gives each destination of the first matching entry its share; other localities get no
/// endpoints.
fn distribute(groups: &mut [Group<'_>], from: &Locality, entries: &[Distribute]) {
    let Some(entry) = entries.iter().find(|entry| covers(&entry.from, from)) else {
        return;
    };
    let mut placed = vec![false; groups.len()];
    // More specific patterns claim their localities first.
    let mut shares: Vec<(&String, u32)> = entry.to.iter().map(|(to, share)| (to, *share)).collect();
    shares.sort_by_key(|(to, _)| (to.contains('*'), std::cmp::Reverse(to.len())));
    for (to, share) in shares.into_iter().filter(|(_, share)| *share > 0) {
        let mine: Vec<usize> = groups
            .iter()
            .zip(&placed)
            .enumerate()
            .filter(|(_, (group, placed))| !**placed && covers(to, group.locality))
            .map(|(at, _)| at)
            .collect();
        let total: u64 = mine
            .iter()
            .filter_map(|at| groups.get(*at))
            .map(|g| u64::from(g.weight))
            .sum();
        for at in mine {
            if let (Some(group), Some(placed)) = (groups.get_mut(at), placed.get_mut(at)) {
                let weight = (u64::from(group.weight) * u64::from(share)).div_ceil(total.max(1));
                group.weight = u32::try_from(weight).unwrap_or(u32::MAX).max(1);
                *placed = true;
            }
        }
    }
    for (group, placed) in groups.iter_mut().zip(placed) {
        if !placed {
            group.members.clear();
        }
    }
}

/// Whether `pattern` (`region/zone/subzone`; `*` or a missing part means any) covers `locality`.
fn covers(pattern: &str, locality: &Locality) -> bool {
    let wanted = Locality::parse(pattern);
    let part = |wanted: &str, is: &str, optional: bool| {
        wanted == "*" || (optional && wanted.is_empty()) || wanted == is
    };
    part(&wanted.region, &locality.region, false)
        && part(&wanted.zone, &locality.zone, true)
        && part(&wanted.subzone, &locality.subzone, true)
}

/// 0 in the same sub-zone, 1 in the same zone, 2 in the same region, 3 elsewhere, 4 in a region
/// that the failover setting of the client's region does not name.
fn distance(from: &Locality, to: &Locality, failover: &[Failover]) -> u32 {
    if from.region != to.region {
        return match failover.iter().find(|entry| *entry.from == *from.region) {
            Some(entry) if *entry.to != *to.region => 4,
            _ => 3,
        };
    }
    if from.zone != to.zone {
        2
    } else if from.subzone != to.subzone {
        1
    } else {
        0
    }
}

/// Orders endpoints by the first label in which they differ from the client; a locality may become
/// several groups.
fn split_by_labels<'a>(
    groups: Vec<Group<'a>>,
    location: &ClientLocation<'_>,
    labels: &[String],
) -> Vec<Group<'a>> {
    let wanted: Vec<(&str, &str)> = labels
        .iter()
        .map(|entry| match entry.split_once('=') {
            Some((key, value)) => (key, value),
            None => (entry.as_str(), of_client(location, entry)),
        })
        .collect();
    let rank = |endpoint: &Endpoint| {
        wanted
            .iter()
            .position(|(key, value)| of_endpoint(endpoint, key) != *value)
            .map_or(0, |at| u32::try_from(wanted.len() - at).unwrap_or(u32::MAX))
    };
    let mut split: Vec<Group<'a>> = Vec::new();
    for group in groups {
        let mut members: Vec<(u32, (&'a Endpoint, LbEndpoint))> = group
            .members
            .into_iter()
            .map(|member| (rank(member.0), member))
            .collect();
        members.sort_by_key(|(rank, _)| *rank);
        let mut members = members.into_iter().peekable();
        while let Some((priority, first)) = members.next() {
            let mut same = vec![first];
            while let Some((_, next)) = members.next_if(|(rank, _)| *rank == priority) {
                same.push(next);
            }
            split.push(Group {
                priority,
                ..Group::new(group.locality, same)
            });
        }
    }
    compress(&mut split);
    split
}

fn of_client<'p>(location: &'p ClientLocation<'_>, key: &str) -> &'p str {
    match key {
        label::REGION => &location.locality.region,
        label::ZONE => &location.locality.zone,
        label::SUBZONE => &location.locality.subzone,
        label::NETWORK => location.network,
        label::CLUSTER => location.cluster_id,
        _ => location
            .labels
            .get(key)
            .map(String::as_str)
            .unwrap_or_default(),
    }
}

fn of_endpoint<'e>(endpoint: &'e Endpoint, key: &str) -> &'e str {
    match key {
        label::REGION => &endpoint.locality.region,
        label::ZONE => &endpoint.locality.zone,
        label::SUBZONE => &endpoint.locality.subzone,
        label::NETWORK => &endpoint.network,
        label::CLUSTER => &endpoint.cluster_id,
        label::HOSTNAME => &endpoint.node,
        _ => endpoint
            .labels
            .get(key)
            .map(String::as_str)
            .unwrap_or_default(),
    }
}

/// Renumbers priorities from 0 without gaps.
fn compress(groups: &mut [Group<'_>]) {
    let mut used: Vec<u32> = groups.iter().map(|group| group.priority).collect();
    used.sort_unstable();
    used.dedup();
    for group in groups {
        let at = used.binary_search(&group.priority).unwrap_or_default();
        group.priority = u32::try_from(at).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
mod tests;
