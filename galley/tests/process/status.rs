//! The status of objects shows their state; one of several galleys writes it.

use serde_json::{Value, json};

use crate::cluster::{Cluster, SIDECARS};
use crate::harness::{Galley, PATIENCE, World, sidecar};

const ROUTES: &str = "/apis/networking.istio.io/v1/virtualservices";
const ENTRIES: &str = "/apis/networking.istio.io/v1/serviceentries";
const LEASES: &str = "/apis/coordination.k8s.io/v1/leases";

pub(crate) fn object(name: &str, spec: &Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name, "generation": 1},
        "spec": spec,
    })
}

pub(crate) fn good() -> Value {
    json!({"outboundTrafficPolicy": {}})
}

fn bad() -> Value {
    json!({"ingress": "none"})
}

pub(crate) async fn start(world: &World, cluster: &Cluster) -> Galley {
    let mut flags = cluster.flags(world).to_vec();
    flags.push("--enable-status".to_owned());
    flags.push("--status-writes-per-second=1000".to_owned());
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    world.start_with(&flags).await
}

async fn page(galley: &Galley) -> Value {
    let (_, body) = galley.page("/debug/status").await;
    serde_json::from_str(&body).unwrap()
}

/// Waits until the page satisfies a condition.
pub(crate) async fn until(galley: &Galley, what: &str, test: impl Fn(&Value) -> bool) -> Value {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let page = page(galley).await;
        if test(&page) {
            return page;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}: {page:#}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

/// Waits until galley is the leader, knows this many objects, and has nothing more to write.
pub(crate) async fn settled(galley: &Galley, objects: usize) {
    until(galley, "settled", |page| {
        page["ready"] == true
            && page["leader"] == true
            && page["waiting"] == 0
            && page["objects"].as_array().unwrap().len() == objects
    })
    .await;
}

/// Waits until an object in the cluster satisfies a condition.
pub(crate) async fn shows(
    cluster: &Cluster,
    path: &str,
    name: &str,
    test: impl Fn(&Value) -> bool,
) -> Value {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let object = cluster.object(path, name);
        if test(&object) {
            return object;
        }
        assert!(tokio::time::Instant::now() < deadline, "{object:#}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

/// `status reason` of the condition `Accepted`.
fn accepted(object: &Value) -> Option<String> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|one| one["type"] == "Accepted")?;
    let text = |member: &str| found[member].as_str().unwrap_or_default();
    Some(format!("{} {}", text("status"), text("reason")))
}

fn is_accepted(object: &Value, generation: i64) -> bool {
    accepted(object).as_deref() == Some("True Valid")
        && object["status"]["observedGeneration"] == generation
}

#[tokio::test(flavor = "multi_thread")]
async fn each_object_says_whether_it_is_accepted_and_is_written_once() {
    let (world, cluster) = (World::new(), Cluster::start());
    cluster.apply(SIDECARS, object("good", &good()));
    cluster.apply(SIDECARS, object("bad", &bad()));
    let mut other = object("other", &good());
    other["status"] = json!({"conditions": [{"type": "X", "status": "True"}], "addresses": [1]});
    cluster.apply(SIDECARS, other);
    let galley = start(&world, &cluster).await;
    let good_object = shows(&cluster, SIDECARS, "shop/good", |one| is_accepted(one, 1)).await;
    let refused = |one: &Value| accepted(one).as_deref() == Some("False Invalid");
    let bad_object = shows(&cluster, SIDECARS, "shop/bad", refused).await;
    let message = &bad_object["status"]["conditions"][0]["message"];
    assert!(
        message.as_str().unwrap().contains("spec.ingress"),
        "{message}"
    );
    // Conditions of other writers are still there.
    let other = shows(&cluster, SIDECARS, "shop/other", |one| is_accepted(one, 1)).await;
    assert_eq!(other["status"]["conditions"][0]["type"], "X");
    assert_eq!(other["status"]["addresses"], json!([1]));
    settled(&galley, 3).await;
    let all = ["shop/bad", "shop/good", "shop/other"];
    assert_eq!(cluster.statuses(), all);

    // A new galley finds nothing to write.
    galley.stop().await;
    let galley = start(&world, &cluster).await;
    settled(&galley, 3).await;
    assert_eq!(cluster.statuses(), all);

    // A corrected object is accepted; the time of a valid one does not change for another reason.
    cluster.edit(SIDECARS, "shop/bad", good());
    cluster.edit(SIDECARS, "shop/good", good());
    shows(&cluster, SIDECARS, "shop/bad", |one| is_accepted(one, 2)).await;
    let same = shows(&cluster, SIDECARS, "shop/good", |one| is_accepted(one, 2)).await;
    let since = |one: &Value| one["status"]["conditions"][0]["lastTransitionTime"].clone();
    assert!(since(&same).is_string());
    assert_eq!(since(&same), since(&good_object));
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_analysis_says_comes_and_goes() {
    let (world, cluster) = (World::new(), Cluster::start());
    cluster.define("VirtualService", "virtualservices");
    cluster.define("ServiceEntry", "serviceentries");
    let route = json!({
        "hosts": ["web.test"],
        "http": [{"route": [{"destination": {"host": "db.test"}}]}],
    });
    cluster.apply(ROUTES, object("web", &route));
    let galley = start(&world, &cluster).await;
    let code = |one: &Value| one["status"]["validationMessages"][0]["type"]["code"].clone();
    let object_now = shows(&cluster, ROUTES, "shop/web", |one| code(one) == "IST0101").await;
    assert!(is_accepted(&object_now, 1));
    let page = until(&galley, "messages", |page| {
        page["objects"][0]["messages"][0]["code"] == "IST0101"
    })
    .await;
    let message = page["objects"][0]["messages"][0]["message"]
        .as_str()
        .unwrap();
    assert!(message.contains("db.test"), "{message}");

    let entry = json!({
        "hosts": ["db.test"], "resolution": "DNS",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
    });
    cluster.apply(ENTRIES, object("db", &entry));
    let is_clean = |one: &Value| is_accepted(one, 1) && code(one).is_null();
    shows(&cluster, ROUTES, "shop/web", is_clean).await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_writes_and_the_other_goes_on_when_it_ends() {
    let (world, cluster) = (World::new(), Cluster::start());
    let first = start(&world, &cluster).await;
    settled(&first, 0).await;
    let second = start(&world, &cluster).await;
    cluster.apply(SIDECARS, object("a", &good()));
    shows(&cluster, SIDECARS, "shop/a", |one| is_accepted(one, 1)).await;
    settled(&first, 1).await;
    let seen = until(&second, "the object", |page| {
        page["objects"][0]["waiting"] == false
    })
    .await;
    assert_eq!(seen["leader"], false);
    assert_eq!(cluster.statuses(), ["shop/a"]);
    let holder = |cluster: &Cluster| {
        cluster.object(LEASES, "istio-system/istio-status-leader")["spec"]["holderIdentity"].clone()
    };
    let former = holder(&cluster);

    first.stop().await;
    settled(&second, 1).await;
    assert_ne!(holder(&cluster), former);
    cluster.apply(SIDECARS, object("b", &good()));
    shows(&cluster, SIDECARS, "shop/b", |one| is_accepted(one, 1)).await;
    settled(&second, 2).await;
    assert_eq!(cluster.statuses(), ["shop/a", "shop/b"]);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_refused_waits_for_a_change_of_its_object() {
    let (world, cluster) = (World::new(), Cluster::start());
    let galley = start(&world, &cluster).await;
    settled(&galley, 0).await;
    for (i, code) in [404, 409, 422].into_iter().enumerate() {
        let name = format!("s{i}");
        cluster.refuse_status(code);
        cluster.apply(SIDECARS, object(&name, &good()));
        let full_name = format!("shop/{name}");
        let tries = |wanted: usize| {
            let count = cluster
                .statuses()
                .iter()
                .filter(|one| **one == full_name)
                .count();
            assert_eq!(count, wanted, "{code}");
        };
        until(&galley, "tried", |_| {
            cluster.statuses().contains(&full_name)
        })
        .await;
        settled(&galley, i + 1).await;
        tries(1);
        // Other statuses are written meanwhile.
        cluster.edit(SIDECARS, &full_name, good());
        shows(&cluster, SIDECARS, &full_name, |one| is_accepted(one, 2)).await;
        tries(2);
    }
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_flag_nothing_is_written() {
    let (world, cluster) = (World::new(), Cluster::start());
    cluster.apply(SIDECARS, object("a", &good()));
    let flags = cluster.flags(&world);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let galley = world.start_with(&flags).await;
    let mut sink = world.sink(&galley);
    sink.until("the object", |state| state.len() == 1).await;
    let (status, body) = galley.page("/debug/status").await;
    assert!(status.contains("404") && body.contains("--enable-status"));
    galley.stop().await;
    assert_eq!(cluster.statuses(), Vec::<String>::new());
    assert_eq!(
        cluster.object(LEASES, "istio-system/istio-status-leader"),
        Value::Null
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_files_are_on_the_page() {
    let world = World::new();
    world.write("a.yaml", &sidecar("a", "1"));
    let bad = sidecar("b", "1").replace("{outboundTrafficPolicy: {}}", "{ingress: none}");
    world.write("b.yaml", &format!("{}---\n{bad}", sidecar("a", "2")));
    let galley = world.start_with(&["--enable-status"]).await;
    let page = until(&galley, "ready", |page| page["ready"] == true).await;
    let objects = page["objects"].as_array().unwrap();
    let rows: Vec<_> = objects
        .iter()
        .map(|one| {
            let reason = &one["status"]["conditions"][0]["reason"];
            [&one["name"], &one["file"], reason].map(|text| text.as_str().unwrap())
        })
        .collect();
    let wanted = [
        ["a", "a.yaml", "Valid"],
        ["a", "b.yaml", "Shadowed"],
        ["b", "b.yaml", "Invalid"],
    ];
    assert_eq!(rows, wanted);
    assert_eq!(page["leader"], false);
    let (_, body) = galley
        .page("/debug/status?name=b&kind=Sidecar&namespace=shop")
        .await;
    let page: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(page["objects"].as_array().unwrap().len(), 1);
    galley.stop().await;
}
