use std::fmt::Write as _;
use std::path::Path;

use istio_api::networking::v1alpha3::string_match::MatchType;
use istio_api::networking::v1alpha3::{Gateway, VirtualService};
use proptest::prelude::*;

use super::*;
use crate::content;
use crate::object::Item;
use crate::processing::ingress::Mode;

/// Ports of one Service, as an object that may come later.
#[derive(Debug, Default)]
struct Table(BTreeMap<(String, String), u16>);

impl Ports for Table {
    fn number(&self, service: &str, port: &str) -> Option<u16> {
        self.0.get(&(service.to_owned(), port.to_owned())).copied()
    }

    fn host(&self, namespace: &str, name: &str) -> String {
        format!("{name}.{namespace}.svc.cluster.local")
    }
}

fn objects(text: &str) -> Vec<(Key, Native)> {
    let content = content::read(&Path::new("a.yaml").into(), text);
    assert_eq!(content.problems, []);
    let each = content.entries.into_iter().map(|entry| match entry.item {
        Item::Native(native) => (entry.key, native),
        Item::Config(config) => panic!("{config:?}"),
    });
    each.collect()
}

#[derive(Debug)]
struct World {
    ingresses: Ingresses,
    ports: Table,
    state: BTreeMap<(&'static str, Name), Config>,
    issues: BTreeMap<Name, Vec<Issue>>,
}

impl World {
    fn new(mode: Mode) -> Self {
        let settings = Settings {
            mode,
            ..Settings::default()
        };
        Self {
            ingresses: Ingresses::new(settings),
            ports: Table::default(),
            state: BTreeMap::new(),
            issues: BTreeMap::new(),
        }
    }

    fn apply(&mut self, text: &str) -> Vec<String> {
        for (key, native) in objects(text) {
            self.ingresses.apply(&key, Some(&native));
        }
        self.rebuild()
    }

    fn remove(&mut self, text: &str) -> Vec<String> {
        for (key, _) in objects(text) {
            self.ingresses.apply(&key, None);
        }
        self.rebuild()
    }

    /// Names of the changed objects.
    fn rebuild(&mut self) -> Vec<String> {
        let made = self.ingresses.rebuild(&self.ports);
        let mut changed = Vec::new();
        for ((kind, name), config) in made.resources {
            let text = format!("{kind} {name}");
            let slot = (kind, name);
            if self.state.get(&slot) != config.as_ref() {
                changed.push(text);
            }
            match config {
                Some(config) => self.state.insert(slot, config),
                None => self.state.remove(&slot),
            };
        }
        for (name, issues) in made.issues {
            if issues.is_empty() {
                self.issues.remove(&name);
            } else {
                self.issues.insert(name, issues);
            }
        }
        changed
    }

    /// All objects, as text.
    fn text(&self) -> String {
        let mut text = String::new();
        for ((kind, name), config) in &self.state {
            let body = &config.resource.body.as_ref().unwrap().value;
            writeln!(text, "{kind} {name}").unwrap();
            if *kind == "Gateway" {
                let gateway = Gateway::decode(body.as_slice()).unwrap();
                write!(text, "{}", gateway_text(&gateway)).unwrap();
            } else {
                let service = VirtualService::decode(body.as_slice()).unwrap();
                write!(text, "{}", routes_text(&service)).unwrap();
                let annotations = &config.resource.metadata.as_ref().unwrap().annotations;
                assert_eq!(annotations[SEMANTICS.0], "ingress");
            }
        }
        text
    }
}

fn gateway_text(gateway: &Gateway) -> String {
    let mut text = format!("  selector {:?}\n", gateway.selector);
    for server in &gateway.servers {
        let port = server.port.as_ref().unwrap();
        let tls = server.tls.as_ref();
        let tls = tls.map(|tls| format!(" {:?} {}", tls.mode(), tls.credential_name));
        writeln!(
            text,
            "  {} {} {} {:?}{}",
            port.number,
            port.protocol,
            port.name,
            server.hosts,
            tls.unwrap_or_default()
        )
        .unwrap();
    }
    text
}

fn routes_text(service: &VirtualService) -> String {
    let mut text = format!("  {:?} {:?}\n", service.hosts, service.gateways);
    for http in &service.http {
        let matched = http.r#match.first().map(|matched| {
            match matched.uri.as_ref().unwrap().match_type.as_ref().unwrap() {
                MatchType::Exact(path) => format!("exact {path}"),
                MatchType::Prefix(path) => format!("prefix {path}"),
                MatchType::Regex(path) => format!("regex {path}"),
            }
        });
        let destination = http.route[0].destination.as_ref().unwrap();
        assert_eq!(http.route[0].weight, 100);
        writeln!(
            text,
            "  {} -> {}:{}",
            matched.as_deref().unwrap_or("any"),
            destination.host,
            destination.port.as_ref().unwrap().number
        )
        .unwrap();
    }
    text
}

const WEB: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  namespace: shop
  creationTimestamp: 2024-01-01T00:00:00Z
  annotations: {kubernetes.io/ingress.class: istio}
spec:
  tls: [{hosts: [shop.example.com], secretName: shop-cert}]
  rules:
  - host: shop.example.com
    http:
      paths:
      - path: /api/*
        pathType: ImplementationSpecific
        backend: {service: {name: api, port: {number: 8080}}}
      - path: /exact
        pathType: Exact
        backend: {service: {name: web, port: {number: 80}}}
";

fn ingress(name: &str, created: u32, host: &str, paths: &[&str]) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    let mut text = format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, \
         namespace: {namespace}, creationTimestamp: '2024-01-{created:02}T00:00:00Z'}}\nspec:\n  \
         rules:\n  - host: '{host}'\n    http:\n      paths:\n"
    );
    for path in paths {
        writeln!(
            text,
            "      - {{path: '{path}', pathType: Prefix, backend: {{service: {{name: {name}, \
             port: {{number: 80}}}}}}}}"
        )
        .unwrap();
    }
    text
}

#[test]
fn the_worked_example() {
    let mut world = World::new(Mode::Strict);
    world.apply(WEB);
    assert_eq!(
        world.text(),
        "\
Gateway istio-system/web-istio-autogenerated-k8s-ingress-shop
  selector {\"istio\": \"ingressgateway\"}
  443 HTTPS https-443-ingress-web-shop-0 [\"shop.example.com\"] Simple shop-cert
  80 HTTP http-80-ingress-web-shop [\"*\"]
VirtualService shop/shop-example-com-web-istio-autogenerated-k8s-ingress
  [\"shop.example.com\"] [\"istio-system/web-istio-autogenerated-k8s-ingress-shop\"]
  exact /exact -> web.shop.svc.cluster.local:80
  prefix /api -> api.shop.svc.cluster.local:8080
"
    );
    let slot = world.state.values().next().unwrap();
    let created = slot.resource.metadata.as_ref().unwrap().create_time;
    assert_eq!(created.unwrap().seconds, 1_704_067_200);
}

#[test]
fn routes_are_in_the_order_of_the_ingress_rules() {
    let mut world = World::new(Mode::Default);
    world.apply(
        "
apiVersion: extensions/v1beta1
kind: Ingress
metadata: {name: old, namespace: shop}
spec:
  backend: {serviceName: rest, servicePort: 80}
  tls: [{secretName: all}, {hosts: [a.b]}]
  rules:
  - http:
      paths:
      - {path: /*, backend: {serviceName: any, servicePort: '80'}}
      - {path: /aaaa, backend: {serviceName: exact, servicePort: 80}}
      - {path: /aaaa.*, backend: {serviceName: prefix, servicePort: 80}}
      - {path: /aa/*, backend: {serviceName: short, servicePort: 80}}
      - {path: /, pathType: Prefix, backend: {serviceName: root, servicePort: 80}}
      - {backend: {serviceName: second, servicePort: 80}}
  - host: '*.wild.example.com'
    http: {paths: [{path: /x/, pathType: Prefix, backend: {serviceName: wild, servicePort: 80}}]}
",
    );
    assert_eq!(
        world.text(),
        "\
Gateway istio-system/old-istio-autogenerated-k8s-ingress-shop
  selector {\"istio\": \"ingressgateway\"}
  443 HTTPS https-443-ingress-old-shop-0 [\"*\"] Simple all
  80 HTTP http-80-ingress-old-shop [\"*\"]
VirtualService shop/*-wild-example-com-old-istio-autogenerated-k8s-ingress
  [\"*.wild.example.com\"] [\"istio-system/old-istio-autogenerated-k8s-ingress-shop\"]
  prefix /x/ -> wild.shop.svc.cluster.local:80
VirtualService shop/-old-istio-autogenerated-k8s-ingress
  [\"*\"] [\"istio-system/old-istio-autogenerated-k8s-ingress-shop\"]
  exact /aaaa -> exact.shop.svc.cluster.local:80
  prefix /aaaa -> prefix.shop.svc.cluster.local:80
  prefix /aa -> short.shop.svc.cluster.local:80
  prefix / -> root.shop.svc.cluster.local:80
  any -> any.shop.svc.cluster.local:80
  any -> second.shop.svc.cluster.local:80
  any -> rest.shop.svc.cluster.local:80
"
    );
}

#[test]
fn ingresses_of_a_host_are_merged_under_the_oldest() {
    let mut world = World::new(Mode::Default);
    let (older, newer) = (
        ingress("b/older", 1, "x.y", &["/same", "/older"]),
        ingress("a/newer", 2, "x.y", &["/same", "/longer"]),
    );
    world.apply(&newer);
    let changed = world.apply(&older);
    assert_eq!(
        changed,
        [
            "Gateway istio-system/older-istio-autogenerated-k8s-ingress-b",
            "VirtualService a/x-y-newer-istio-autogenerated-k8s-ingress",
            "VirtualService b/x-y-older-istio-autogenerated-k8s-ingress",
        ]
    );
    let text = world.text();
    let service = text.split("VirtualService ").nth(1).unwrap();
    assert_eq!(
        service,
        "\
b/x-y-older-istio-autogenerated-k8s-ingress
  [\"x.y\"] [\"istio-system/older-istio-autogenerated-k8s-ingress-b\", \
         \"istio-system/newer-istio-autogenerated-k8s-ingress-a\"]
  prefix /longer -> newer.a.svc.cluster.local:80
  prefix /older -> older.b.svc.cluster.local:80
  prefix /same -> older.b.svc.cluster.local:80
  prefix /same -> newer.a.svc.cluster.local:80
"
    );
    world.remove(&older);
    assert!(!text.contains("VirtualService a/"));
    assert!(world.text().contains("VirtualService a/x-y-newer"));
}

#[test]
fn a_change_touches_its_hosts_only() {
    let mut world = World::new(Mode::Default);
    let rule = |host: &str, path: &str| {
        format!(
            "  - host: {host}\n    http: {{paths: [{{path: {path}, pathType: Exact, backend: \
             {{service: {{name: s, port: {{number: 80}}}}}}}}]}}\n"
        )
    };
    let text = |path: &str| {
        let (a, b) = (rule("a.b", path), rule("c.d", "/"));
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: i, namespace: \
             n}}\nspec:\n  rules:\n{a}{b}"
        )
    };
    world.apply(&text("/1"));
    world.apply(&ingress("n/other", 1, "e.f", &["/"]));
    for (key, native) in objects(&text("/2")) {
        world.ingresses.apply(&key, Some(&native));
    }
    let made = world.ingresses.rebuild(&world.ports);
    let names: Vec<_> = made.resources.keys().map(|(_, name)| &**name).collect();
    assert_eq!(
        names,
        [
            "istio-system/i-istio-autogenerated-k8s-ingress-n",
            "n/a-b-i-istio-autogenerated-k8s-ingress",
        ]
    );
}

#[test]
fn classes_and_settings_decide_again() {
    let mut world = World::new(Mode::Strict);
    let ours = "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: mesh}
spec: {controller: istio.io/ingress-controller}
";
    let web = WEB
        .replace("annotations: {kubernetes.io/ingress.class: istio}", "")
        .replace("spec:", "spec:\n  ingressClassName: mesh");
    assert_eq!(world.apply(&web), [""; 0]);
    assert_eq!(world.apply(ours).len(), 2);
    assert_eq!(world.apply(&ours.replace("istio.io/", "x/")).len(), 2);
    assert!(world.state.is_empty());
    world.apply(ours);
    world.remove(ours);
    assert!(world.state.is_empty());

    world.apply(WEB);
    assert_eq!(world.state.len(), 2);
    let reconfigured = |world: &mut World, change: fn(&mut Settings)| {
        let mut settings = world.ingresses.settings.clone();
        change(&mut settings);
        world.ingresses.reconfigure(settings);
        world.rebuild()
    };
    let changed = reconfigured(&mut world, |settings| {
        settings.namespace = "edge".to_owned()
    });
    assert_eq!(changed.len(), 3);
    assert!(world.text().contains("[\"edge/web-"));
    reconfigured(&mut world, |settings| settings.class = "other".to_owned());
    assert!(world.state.is_empty());
    reconfigured(&mut world, |settings| settings.class = "istio".to_owned());
    assert_eq!(world.state.len(), 2);
    reconfigured(&mut world, |settings| settings.mode = Mode::Off);
    assert!(world.state.is_empty());
}

#[test]
fn what_cannot_be_routed_is_told_and_the_rest_is_served() {
    let mut world = World::new(Mode::Default);
    let text = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec:
  defaultBackend: {resource: {kind: Bucket, name: b}}
  rules:
  - host: a.b
  - host: c.d
    http:
      paths:
      - {path: /x, pathType: Exact, backend: {service: {name: s, port: {name: web}}}}
      - {path: /y, pathType: Exact, backend: {service: {name: s, port: {number: 1}}}}
      - {path: '/z?q', backend: {service: {name: s, port: {number: 1}}}}
";
    world.apply(text);
    let fields = |world: &World| -> Vec<String> {
        let issues = world.issues.values().flatten();
        issues.map(|issue| issue.field.clone()).collect()
    };
    assert_eq!(
        fields(&world),
        [
            "spec.rules[0]",
            "spec.rules[1].http.paths[0].backend",
            "spec.rules[1].http.paths[2].path",
            "spec.defaultBackend",
        ]
    );
    assert_eq!(world.text().matches(" -> ").count(), 1);

    // The Service with the port is added, gets another number, and is deleted.
    let service = Key {
        group: "",
        kind: "Service",
        namespace: "shop".into(),
        name: "s".into(),
    };
    let slot = ("shop/s".to_owned(), "web".to_owned());
    for number in [Some(8080), Some(9090), None] {
        match number {
            Some(number) => world.ports.0.insert(slot.clone(), number),
            None => world.ports.0.remove(&slot),
        };
        world.ingresses.apply(&service, None);
        assert_eq!(
            world.rebuild(),
            ["VirtualService shop/c-d-web-istio-autogenerated-k8s-ingress"]
        );
        let route = number.map(|number| format!("exact /x -> s.shop.svc.cluster.local:{number}\n"));
        match route {
            Some(route) => assert!(world.text().contains(&route), "{}", world.text()),
            None => assert!(!world.text().contains("/x"), "{}", world.text()),
        }
        assert_eq!(fields(&world).len(), if number.is_some() { 3 } else { 4 });
    }
}

#[test]
fn hosts_that_want_one_name_get_two() {
    let mut world = World::new(Mode::Default);
    let rules = |hosts: &[&str]| {
        let mut text = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i, \
                        namespace: n}\nspec:\n  rules:\n"
            .to_owned();
        for host in hosts {
            writeln!(
                text,
                "  - host: {host}\n    http: {{paths: [{{backend: {{service: {{name: s, port: \
                 {{number: 1}}}}}}}}]}}"
            )
            .unwrap();
        }
        text
    };
    world.apply(&rules(&["a.b"]));
    world.apply(&rules(&["a-b", "a.b"]));
    let both = world.text();
    assert!(
        both.contains("n/a-b-i-istio-autogenerated-k8s-ingress\n  [\"a-b\"]"),
        "{both}"
    );
    assert_eq!(both.matches("VirtualService").count(), 2, "{both}");
    world.apply(&rules(&["a.b"]));
    assert_eq!(world.text().matches("VirtualService").count(), 1);
    assert!(
        world
            .text()
            .contains("n/a-b-i-istio-autogenerated-k8s-ingress\n  [\"a.b\"]"),
        "{}",
        world.text()
    );
}

proptest! {
    /// Equal Ingresses give equal objects, in whatever order they, former versions and deleted ones
    /// came.
    #[test]
    fn the_order_of_arrival_does_not_matter(
        ingresses in prop::collection::vec((0..2u8, 0..4u8, 1..3u32, 0..4usize, 0..3usize), 1..8),
        order in Just((0..16usize).collect::<Vec<_>>()).prop_shuffle(),
        gone in 0..8usize,
    ) {
        let hosts = ["a.b", "a-b", "c.d", ""];
        let paths: [&[&str]; 3] = [&["/"], &["/x", "/yy"], &["/x"]];
        let text = |&(namespace, name, created, host, path): &(u8, u8, u32, usize, usize)| {
            ingress(&format!("n{namespace}/i{name}"), created, hosts[host], paths[path])
        };
        // The last state of a name counts.
        let last: BTreeMap<_, _> = ingresses.iter().map(|i| ((i.0, i.1), i)).collect();
        let mut expected = World::new(Mode::Default);
        for (position, ingress) in last.values().enumerate() {
            if position != gone {
                expected.apply(&text(ingress));
            }
        }
        let mut world = World::new(Mode::Default);
        for ingress in &ingresses {
            world.apply(&text(ingress));
        }
        let last: Vec<_> = last.into_values().collect();
        for position in order {
            let Some(ingress) = last.get(position) else { continue };
            if position == gone {
                world.remove(&text(ingress));
            } else {
                world.remove(&text(ingress));
                world.apply(&text(ingress));
            }
        }
        prop_assert_eq!(world.text(), expected.text());
    }
}
