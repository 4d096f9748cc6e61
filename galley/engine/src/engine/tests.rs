use std::path::Path;

use super::*;
use crate::content;
use crate::processing::synthesis::Names;

fn engine() -> Engine {
    let names = Names {
        domain: "cluster.local".to_owned(),
        trust_domain: "cluster.local".to_owned(),
    };
    Engine::new(names, "e")
}

fn files(path: &str, text: &str) -> Update {
    let path: Arc<Path> = Path::new(path).into();
    let content = content::read(&path, text);
    Update::Files(vec![FileUpdate::Read(path, content)])
}

fn sidecar(name: &str, label: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}, labels: \
         {{l: {label}}}}}\nspec: {{outboundTrafficPolicy: {{}}}}\n"
    )
}

const SIDECARS: &str = "istio/networking/v1alpha3/sidecars";

#[test]
fn nothing_is_published_before_the_first_synchronisation() {
    let mut engine = engine();
    engine.apply(files("a.yaml", &sidecar("x", "a")));
    assert!(!engine.is_dirty());
    engine.apply(Update::Synced);
    assert!(engine.is_dirty());
    let snapshot = engine.publish();
    assert!(!engine.is_dirty());
    let sidecars = snapshot.get(SIDECARS).unwrap();
    assert_eq!((&*sidecars.version, sidecars.resources.len()), ("e-1", 1));
    // All known collections exist, including empty ones.
    let gateways = snapshot.get("istio/networking/v1alpha3/gateways").unwrap();
    assert_eq!((&*gateways.version, gateways.resources.len()), ("0", 0));
    assert!(snapshot.get("k8s/core/v1/services").is_some());
}

#[test]
fn a_version_changes_with_its_collection_only() {
    let mut engine = engine();
    engine.apply(files("a.yaml", &sidecar("x", "a")));
    engine.apply(Update::Synced);
    let first = engine.publish();
    engine.apply(files(
        "a.yaml",
        &format!("# a comment\n{}", sidecar("x", "a")),
    ));
    assert!(!engine.is_dirty());
    engine.apply(files(
        "b.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n",
    ));
    let second = engine.publish();
    let version = |snapshot: &Snapshot, name: &str| snapshot.get(name).unwrap().version.clone();
    assert_eq!(version(&first, SIDECARS), version(&second, SIDECARS));
    let synthetic = SYNTHETIC_SERVICE_ENTRIES.name;
    assert_ne!(version(&first, synthetic), version(&second, synthetic));
    // An earlier snapshot does not change.
    engine.apply(files("a.yaml", ""));
    engine.publish();
    assert_eq!(first.get(SIDECARS).unwrap().resources.len(), 1);
}

#[test]
fn a_route_to_a_missing_host_is_accepted_and_told_once() {
    let mut engine = engine();
    let route = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: r, namespace: shop}
spec:
  hosts: [reviews]
  http:
  - route: [{destination: {host: reviews}}]
";
    let report = engine.apply(files("dir/r.yaml", route));
    assert_eq!(report.new_problems, []);
    engine.apply(Update::Synced);
    assert_eq!(
        engine
            .publish()
            .get(VIRTUAL_SERVICES)
            .unwrap()
            .resources
            .len(),
        1
    );
    let now = Instant::now();
    assert!(engine.overdue(now).0.is_empty());
    let (problems, _) = engine.overdue(now + crate::processing::reference::PATIENCE);
    assert_eq!(problems.len(), 1);
    let text = problems[0].to_string();
    assert!(
        text.starts_with(
            "dir/r.yaml, document 1, line 2: VirtualService shop/r: it routes to \
             reviews.shop.svc.cluster.local, which no Service"
        ),
        "{text}"
    );
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: shop}\n";
    engine.apply(files("s.yaml", service));
    assert!(engine.problems().is_empty());
}

#[test]
fn problems_of_the_root_come_and_go() {
    let mut engine = engine();
    let problem = Problem::file(&Path::new("").into(), "gone", effect::KEPT);
    let report = engine.apply(Update::Root(vec![problem.clone()]));
    assert_eq!(report.new_problems, std::slice::from_ref(&problem));
    let report = engine.apply(Update::Root(vec![problem.clone()]));
    assert!(report.new_problems.is_empty());
    let report = engine.apply(Update::Root(vec![]));
    assert_eq!(report.solved, [problem]);
}
