use std::{collections::BTreeMap, sync::Arc};

use pilot_model::{config::Labels, service::Health};

use super::*;

fn endpoint(address: &str, location: &str, labels: &[(&str, &str)]) -> Endpoint {
    Endpoint {
        address: address.into(),
        port: 80,
        port_name: "http".into(),
        labels: Arc::new(
            labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        ),
        service_account: "".into(),
        network: "".into(),
        locality: Locality::parse(location),
        cluster_id: "".into(),
        weight: 1,
        mtls: false,
        health: Health::Healthy,
        workload: "".into(),
        node: "".into(),
        namespace: "demo".into(),
    }
}

fn grouped(endpoints: &[Endpoint]) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<&Locality, Vec<(&Endpoint, LbEndpoint)>> = BTreeMap::new();
    for endpoint in endpoints {
        groups
            .entry(&endpoint.locality)
            .or_default()
            .push((endpoint, LbEndpoint::default()));
    }
    groups
        .into_iter()
        .map(|(location, members)| Group::new(location, members))
        .collect()
}

fn summary(groups: &[Group<'_>]) -> Vec<(String, u32, u32, usize)> {
    groups
        .iter()
        .map(|g| {
            let location = format!(
                "{}/{}/{}",
                g.locality.region, g.locality.zone, g.locality.subzone
            );
            (location, g.priority, g.weight, g.members.len())
        })
        .collect()
}

fn row(location: &str, priority: u32, weight: u32, members: usize) -> (String, u32, u32, usize) {
    (location.to_owned(), priority, weight, members)
}

fn run(
    endpoints: &[Endpoint],
    from: &str,
    labels: &Labels,
    setting: &LocalityLoadBalancerSetting,
    fails_over: bool,
) -> Vec<(String, u32, u32, usize)> {
    let locality = Locality::parse(from);
    let location = ClientLocation {
        locality: &locality,
        network: "",
        cluster_id: "",
        labels,
    };
    summary(&apply(grouped(endpoints), &location, setting, fails_over))
}

#[test]
fn shares_are_rounded_up_and_other_localities_lose_their_endpoints() {
    let endpoints = [
        endpoint("1", "r1/z1/a", &[]),
        endpoint("2", "r1/z1/b", &[]),
        endpoint("3", "r1/z1/b", &[]),
        endpoint("4", "r1/z2/a", &[]),
        endpoint("5", "r2/z1/a", &[]),
    ];
    let setting = LocalityLoadBalancerSetting {
        distribute: vec![Distribute {
            from: "r1/z1/*".to_owned(),
            to: [("r1/z1/*".to_owned(), 80), ("r1/z2".to_owned(), 20)].into(),
        }],
        ..Default::default()
    };
    let got = run(&endpoints, "r1/z1/a", &Labels::new(), &setting, false);
    assert_eq!(
        got,
        [
            row("r1/z1/a", 0, 27, 1),
            row("r1/z1/b", 0, 54, 2),
            row("r1/z2/a", 0, 20, 1),
            row("r2/z1/a", 0, 1, 0),
        ]
    );
    let elsewhere = run(&endpoints, "r3/z1/a", &Labels::new(), &setting, true);
    assert!(
        elsewhere.iter().all(|row| row.1 == 0 && row.3 > 0),
        "{elsewhere:?}"
    );
}

#[test]
fn distance_gives_priorities_without_gaps() {
    let endpoints = [
        endpoint("1", "r1/z1/a", &[]),
        endpoint("2", "r1/z2/a", &[]),
        endpoint("3", "r2/z1/a", &[]),
        endpoint("4", "r3/z1/a", &[]),
    ];
    let default = LocalityLoadBalancerSetting::default();
    let got = run(&endpoints, "r1/z1/a", &Labels::new(), &default, true);
    let priorities: Vec<u32> = got.iter().map(|row| row.1).collect();
    assert_eq!(priorities, [0, 1, 2, 2]);

    let named = LocalityLoadBalancerSetting {
        failover: vec![Failover {
            from: "r1".to_owned(),
            to: "r3".to_owned(),
        }],
        ..Default::default()
    };
    let got = run(&endpoints, "r1/z1/a", &Labels::new(), &named, true);
    let priorities: Vec<u32> = got.iter().map(|row| row.1).collect();
    assert_eq!(priorities, [0, 1, 3, 2]);

    let got = run(&endpoints, "r1/z1/a", &Labels::new(), &default, false);
    assert!(
        got.iter().all(|row| row.1 == 0),
        "no failover without outlier detection"
    );
}

#[test]
fn labels_split_a_locality_by_the_first_difference() {
    let endpoints = [
        endpoint("1", "r1/z1/a", &[("version", "v1"), ("team", "x")]),
        endpoint("2", "r1/z1/a", &[("version", "v1")]),
        endpoint("3", "r1/z1/a", &[("version", "v2"), ("team", "x")]),
        endpoint("4", "r2/z1/a", &[("version", "v1"), ("team", "x")]),
    ];
    let labels: Labels = [("version".to_owned(), "v1".to_owned())].into();
    let setting = LocalityLoadBalancerSetting {
        failover_priority: vec!["version".to_owned(), "team=x".to_owned()],
        ..Default::default()
    };
    let got = run(&endpoints, "r1/z1/a", &labels, &setting, true);
    assert_eq!(
        got,
        [
            row("r1/z1/a", 0, 1, 1),
            row("r1/z1/a", 1, 1, 1),
            row("r1/z1/a", 2, 1, 1),
            row("r2/z1/a", 0, 1, 1),
        ]
    );
}

#[test]
fn labels_weigh_more_than_distance_when_both_are_set() {
    let endpoints = [
        endpoint("1", "r1/z1/a", &[("version", "v2")]),
        endpoint("2", "r2/z1/a", &[("version", "v1")]),
    ];
    let labels: Labels = [("version".to_owned(), "v1".to_owned())].into();
    let setting = LocalityLoadBalancerSetting {
        failover_priority: vec!["version".to_owned()],
        failover: vec![Failover {
            from: "r1".to_owned(),
            to: "r2".to_owned(),
        }],
        ..Default::default()
    };
    let got = run(&endpoints, "r1/z1/a", &labels, &setting, true);
    assert_eq!(got, [row("r1/z1/a", 1, 1, 1), row("r2/z1/a", 0, 1, 1)]);
}
