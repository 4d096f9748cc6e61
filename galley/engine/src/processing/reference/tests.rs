use istio_api::networking::v1alpha3::{Destination, HttpRoute, HttpRouteDestination};
use prost_types::Any;

use super::*;

fn resource(message: &impl Message) -> Resource {
    let body = Any {
        type_url: String::new(),
        value: message.encode_to_vec(),
    };
    Resource {
        metadata: None,
        body: Some(body),
    }
}

fn route(hosts: &[&str]) -> Resource {
    let to = |host: &&str| HttpRouteDestination {
        destination: Some(Destination {
            host: (*host).to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let http = HttpRoute {
        route: hosts.iter().map(to).collect(),
        ..Default::default()
    };
    resource(&VirtualService {
        http: vec![http],
        ..Default::default()
    })
}

fn entry(hosts: &[&str]) -> Resource {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    resource(&ServiceEntry {
        hosts,
        ..Default::default()
    })
}

fn names() -> Names {
    Names {
        domain: "cluster.local".to_owned(),
        trust_domain: "cluster.local".to_owned(),
    }
}

struct Table {
    references: References,
    now: Instant,
}

impl Table {
    fn new() -> Self {
        Self {
            references: References::default(),
            now: Instant::now(),
        }
    }

    fn route(&mut self, name: &str, hosts: Option<&[&str]>) {
        let resource = hosts.map(route);
        self.references
            .route(&name.into(), resource.as_ref(), &names());
    }

    fn entry(&mut self, name: &str, hosts: Option<&[&str]>) {
        let resource = hosts.map(entry);
        self.references.entry("c", &name.into(), resource.as_ref());
    }

    fn told(&mut self) -> Vec<String> {
        self.references.overdue(self.now);
        self.now += PATIENCE;
        let (told, next) = self.references.overdue(self.now);
        assert_eq!(next, None);
        told.into_iter()
            .map(|(route, host)| format!("{route} {host}"))
            .collect()
    }
}

#[test]
fn a_missing_host_is_told_once_after_a_while() {
    let mut table = Table::new();
    table.route("shop/a", Some(&["reviews", "www.example.com"]));
    let (told, next) = table.references.overdue(table.now);
    assert_eq!((told, next), (vec![], Some(table.now + PATIENCE)));
    assert_eq!(
        table.told(),
        [
            "shop/a reviews.shop.svc.cluster.local",
            "shop/a www.example.com"
        ]
    );
    assert!(table.told().is_empty());
    assert_eq!(table.references.missing().count(), 2);
}

#[test]
fn a_host_that_comes_in_time_is_not_told() {
    let mut table = Table::new();
    table.route("shop/a", Some(&["reviews", "x.example.com"]));
    table.entry("shop/reviews", Some(&["reviews.shop.svc.cluster.local"]));
    table.entry("shop/wild", Some(&["*.example.com"]));
    assert!(table.told().is_empty());
    table.entry("shop/reviews", None);
    table.entry("shop/wild", Some(&["*.example.org"]));
    assert_eq!(table.told().len(), 2);
    // It is reported again if it was declared in between.
    table.entry("shop/reviews", Some(&["reviews.shop.svc.cluster.local"]));
    table.entry("shop/reviews", None);
    assert_eq!(table.told(), ["shop/a reviews.shop.svc.cluster.local"]);
}

#[test]
fn a_route_that_changes_or_goes_takes_its_references_along() {
    let mut table = Table::new();
    table.route("shop/a", Some(&["x.example.com"]));
    table.route("shop/a", Some(&["y.example.com"]));
    table.route("shop/b", Some(&["z.example.com"]));
    table.route("shop/b", None);
    assert_eq!(table.told(), ["shop/a y.example.com"]);
}
