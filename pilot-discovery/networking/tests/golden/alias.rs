//! Names of names, while what they stand for comes and goes.

use pilot_model::{
    changes::Changes,
    class::{Client, classify},
    host::Host,
    scope::Scope,
    service::Resolution,
    snapshot::Snapshot,
};
use pilot_networking::{class::dirt::Dirt, route::destination::Destination};

use crate::fixture::{self, World};

const PROXY: &str = "
id: sidecar~10.1.0.9~client.demo~demo.svc.cluster.local
metadata: {NAMESPACE: demo, INSTANCE_IPS: 10.1.0.9, LABELS: {app: client}}
";

fn named(name: &str, target: &str) -> String {
    format!(
        "kind: SyntheticServiceEntry
metadata: {{name: {name}, namespace: demo, annotations: {{internal.istio.io/external-name: {target}}}}}
spec:
  hosts: [{name}.demo.svc.cluster.local]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: {target}, ports: {{http: 80}}}}]
"
    )
}

const WEB: &str = "
kind: SyntheticServiceEntry
metadata: {name: web, namespace: demo}
spec:
  hosts: [web.demo.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
";

fn host(name: &str) -> Host {
    Host::new(&format!("{name}.demo.svc.cluster.local"))
}

/// The host that requests for `name` go to.
fn destination(snapshot: &Snapshot, name: &str) -> String {
    let proxy = fixture::proxy(PROXY);
    let (class, _) = classify(snapshot, &proxy);
    let scope = Scope::build(snapshot, &class.namespace, None);
    let client = Client {
        snapshot,
        class: &class,
        scope: &scope,
    };
    let found = Destination::find(&client, &host(name)).expect("declared");
    found.service.host().as_str().to_owned()
}

fn dirty_routes(snapshot: &Snapshot, changes: &Changes) -> Vec<Host> {
    Dirt::of(snapshot, changes).routes.into_iter().collect()
}

#[test]
fn names_follow_what_comes_and_goes_in_any_order() {
    let (alias, second) = (
        named("alias", "web.demo.svc.cluster.local"),
        named("second", "alias.demo.svc.cluster.local"),
    );
    for order in [
        [WEB, &alias, &second],
        [&second, &alias, WEB],
        [&alias, WEB, &second],
    ] {
        let mut world = World::default();
        for text in order {
            world.put(text);
            world.publish();
        }
        let (snapshot, _) = world.publish();
        for name in ["web", "alias", "second"] {
            assert_eq!(destination(&snapshot, name), "web.demo.svc.cluster.local");
        }
        // A change of the service reaches everything that stands for it.
        world.put(&WEB.replace("8080", "9090"));
        let (snapshot, changes) = world.publish();
        let dirty = dirty_routes(&snapshot, &changes);
        assert_eq!(dirty, [host("alias"), host("second"), host("web")]);

        world.remove(WEB);
        let (snapshot, changes) = world.publish();
        assert_eq!(destination(&snapshot, "alias"), host("alias").as_str());
        assert_eq!(destination(&snapshot, "second"), host("alias").as_str());
        let resolution = snapshot.services[&host("alias")][0].resolution;
        assert_eq!(resolution, Resolution::DnsLb);
        let dirty = dirty_routes(&snapshot, &changes);
        assert!(dirty.contains(&host("alias")) && dirty.contains(&host("second")));
    }
}

#[test]
fn a_circle_of_names_ends() {
    let mut world = World::default();
    world.put(&named("a", "b.demo.svc.cluster.local"));
    world.put(&named("b", "a.demo.svc.cluster.local"));
    world.put(&named("c", "c.demo.svc.cluster.local"));
    world.publish();
    world.put(&named("b", "a.demo.svc.cluster.local").replace("number: 80", "number: 81"));
    let (snapshot, changes) = world.publish();
    // None of them leads to a service; what matters is that there is an answer.
    destination(&snapshot, "a");
    assert_eq!(destination(&snapshot, "c"), host("c").as_str());
    assert_eq!(dirty_routes(&snapshot, &changes), [host("a"), host("b")]);
}
