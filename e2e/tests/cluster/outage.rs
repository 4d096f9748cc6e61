//! Every part in several replicas; each of them restarted, lost and away in turn, and the API
//! server, too, while requests go on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use cluster::patience::{Seen, until};
use mesh::platform::World;
use serde_json::Value;

use crate::fixture::{ISTIO, LIMIT, Machine, RELEASES, Turn, is_asked, runtime};
use crate::load::{CLIENT, GATEWAY, Load};
use crate::scrape::scrape;

const SCALED: &str = "e2e/tests/cluster/values-scaled.yaml";
/// Deployments of the control plane.
const PARTS: [(&str, u32); 4] = [
    ("istio-citadel", 2),
    ("istio-galley", 2),
    ("istio-pilot", 3),
    ("istio-sidecar-injector", 2),
];
/// How long a part is away, after the moment in which its Pods still serve.
const AWAY: Duration = Duration::from_secs(25);
/// How long the API server is away.
const API_AWAY: Duration = Duration::from_secs(120);

fn rolled_out(machine: &Machine, part: &str) -> Result<()> {
    let name = format!("deployment/{part}");
    machine
        .kubectl(&["rollout", "status", "-n", ISTIO, &name, "--timeout=120s"])
        .map(drop)
}

/// Restarted, its Pods deleted, scaled to nothing and back.
fn disturb(machine: &Machine, part: &str, replicas: u32) -> Result<()> {
    let name = format!("deployment/{part}");
    machine.kubectl(&["rollout", "restart", "-n", ISTIO, &name])?;
    rolled_out(machine, part)?;
    let label = format!("istio={}", part.trim_start_matches("istio-"));
    machine.kubectl(&["delete", "pods", "-n", ISTIO, "-l", &label, "--wait=true"])?;
    rolled_out(machine, part)?;
    machine.kubectl(&["scale", "-n", ISTIO, &name, "--replicas=0"])?;
    cluster::patience::rest(AWAY);
    machine.kubectl(&[
        "scale",
        "-n",
        ISTIO,
        &name,
        &format!("--replicas={replicas}"),
    ])?;
    rolled_out(machine, part)
}

/// What all pilots say in their metrics of `family`, summed up.
fn pilots(machine: &Machine, family: &str) -> Result<u64> {
    Ok(scrape(machine, "pilot", family)?.values().sum())
}

/// Pods with a proxy, which are as many as there are streams.
fn proxies(machine: &Machine) -> Result<u64> {
    let pods = machine
        .cluster()
        .kubectl()
        .json(&["get", "pods", "--all-namespaces"])?;
    let has_proxy = |pod: &&Value| {
        let lists = ["/spec/containers", "/spec/initContainers"];
        let mut containers = lists
            .iter()
            .filter_map(|list| pod.pointer(list)?.as_array())
            .flatten();
        let runs = pod["status"]["phase"] == "Running";
        runs && containers.any(|container| container["name"] == "istio-proxy")
    };
    let pods = pods["items"].as_array().context("no list of Pods")?;
    Ok(pods.iter().filter(has_proxy).count().try_into()?)
}

/// Proxies are connected to the pilots that there are now, as many as before.
fn connected(machine: &Machine, wanted: u64) -> Result<()> {
    until("all proxies connected", LIMIT, || {
        Ok(match pilots(machine, "pilot_xds{") {
            Ok(now) => Seen::when(now == wanted, format!("{now} of {wanted}")),
            // One that has just begun or is about to end.
            Err(error) => Seen::Not(format!("{error:#}")),
        })
    })
}

/// All pilots are replaced, and no proxy lacks anything. Endpoints of pilot itself change; clusters
/// would, too, if there were a moment without any, as they tell whom to expect there.
fn nothing_is_sent_again(machine: &Machine, proxies: u64) -> Result<()> {
    machine.kubectl(&["rollout", "restart", "-n", ISTIO, "deployment/istio-pilot"])?;
    rolled_out(machine, "istio-pilot")?;
    connected(machine, proxies)?;
    let bytes = |kind: &str| -> Result<u64> {
        let family = format!("pilot_xds_resource_bytes_total{{type=\"{kind}\"");
        pilots(machine, &family)
    };
    for kind in ["cds", "lds", "rds", "sds"] {
        let sent = bytes(kind)?;
        ensure!(sent == 0, "new pilots sent {sent} bytes of {kind} again");
    }
    println!("bytes of endpoints that new pilots sent: {}", bytes("eds")?);
    Ok(())
}

/// Serial numbers of the workload certificates of all proxies.
async fn certificates(world: &World) -> Result<BTreeMap<&'static str, String>> {
    let mut found = BTreeMap::new();
    for pod in [
        CLIENT,
        "default/reviews-v1",
        "default/productpage-v1",
        GATEWAY,
    ] {
        let all = world.envoy(pod).certificates().await?;
        let serial = all["certificates"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|entry| entry.pointer("/cert_chain/0/serial_number")?.as_str())
            .with_context(|| format!("the proxy of {pod} has no certificate"))?;
        found.insert(pod, serial.to_owned());
    }
    Ok(found)
}

#[test]
fn no_request_fails_while_every_part_comes_and_goes() -> Result<()> {
    if !is_asked() {
        return Ok(());
    }
    let machine = Turn::take()?;
    let values = crate::fixture::path(SCALED).display().to_string();
    for (release, chart) in &RELEASES[2..] {
        machine.install(release, chart, &["-f", &values, "--wait", "--timeout=2m"])?;
    }
    let proxies = proxies(&machine)?;
    ensure!(proxies >= 10, "{proxies} proxies");
    // Pods of the former pilot serve on for a while.
    connected(&machine, proxies)?;
    let world = machine.world();
    let runtime = runtime()?;
    let before = runtime.block_on(certificates(&world))?;
    let load = Load::start(&machine, &runtime)?;
    let outcome = (|| -> Result<()> {
        nothing_is_sent_again(&machine, proxies)?;
        for (part, replicas) in PARTS {
            let since = Instant::now();
            disturb(&machine, part, replicas)?;
            println!("{part} after {:.0} s", since.elapsed().as_secs_f64());
        }
        connected(&machine, proxies)?;
        machine.cluster().stop("kube-apiserver")?;
        cluster::patience::rest(API_AWAY);
        machine.cluster().resume("kube-apiserver")?;
        until("the API server", LIMIT, || {
            let answer = machine.cluster().kubectl().output(&[
                "get",
                "--raw=/readyz",
                "--request-timeout=2s",
            ])?;
            Ok(Seen::when(answer.status.success(), "no answer"))
        })?;
        // A new Pod is injected and gets a certificate: every part works again.
        machine.kubectl(&["rollout", "restart", "deployment/httpbin"])?;
        machine
            .kubectl(&["rollout", "status", "deployment/httpbin", "--timeout=120s"])
            .map(drop)
    })();
    let report = load.stop(&runtime);
    outcome?;
    report?.is_whole(&machine)?;
    let after = runtime.block_on(certificates(&world))?;
    ensure!(
        before == after,
        "certificates changed: {before:?}, {after:?}"
    );
    Ok(())
}

/// What the API server keeps of a Lease.
#[test]
fn one_replica_writes_roots() -> Result<()> {
    if !is_asked() {
        return Ok(());
    }
    let machine = Turn::take()?;
    let lease: Value = machine.cluster().kubectl().json(&[
        "get",
        "lease",
        "istio-namespace-controller-election",
        "-n",
        ISTIO,
    ])?;
    let holder = lease["spec"]["holderIdentity"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let pods = machine.kubectl(&[
        "get",
        "pods",
        "-n",
        ISTIO,
        "-l",
        "istio=citadel",
        "-o",
        "name",
    ])?;
    let is_one = pods
        .lines()
        .any(|pod| holder.starts_with(pod.trim_start_matches("pod/")));
    if !is_one {
        return Err(anyhow!("the holder {holder:?} is none of {pods}"));
    }
    // A root that somebody deletes comes back.
    let name = ["configmap", "istio-ca-root-cert", "-n", "default"];
    machine.kubectl(&[&["delete"], &name[..]].concat())?;
    until("the root is back", Duration::from_secs(20), || {
        let output = machine
            .cluster()
            .kubectl()
            .output(&[&["get"], &name[..]].concat())?;
        Ok(Seen::when(output.status.success(), "not there"))
    })
}
