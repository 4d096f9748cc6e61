//! Parts that are installed in the wrong order wait, and say for what; what is uninstalled is gone.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster::patience::{Seen, until};

use crate::fixture::{ISTIO, LIMIT, Machine, RELEASES, Turn, is_asked, path};

/// A certificate that appears after its Pod has started takes the kubelet up to two minutes.
const LATE: Duration = Duration::from_secs(240);

/// What stays on purpose: definitions with what users wrote, and the key of the mesh.
const KEPT: [&str; 4] = [
    "customresourcedefinition.apiextensions.k8s.io/",
    // Made by the API server for the definitions.
    "apiservice.apiregistration.k8s.io/",
    "secret/istio-ca-secret",
    "namespace/istio-system",
];
/// What Kubernetes itself makes for a namespace, and what only tells of what happened.
const NOT_OURS: [&str; 4] = [
    "configmap/kube-root-ca.crt",
    "serviceaccount/default",
    "event/",
    "event.events.k8s.io/",
];

/// Every object of the cluster, as `kind/name`.
fn objects(machine: &Machine) -> Result<BTreeSet<String>> {
    let kinds = machine.kubectl(&["api-resources", "--verbs=list,get", "-o", "name"])?;
    let kinds: Vec<&str> = kinds
        .lines()
        .filter(|kind| !kind.ends_with("istio.io") && !kind.starts_with("componentstatuses"))
        .collect();
    let found = machine.kubectl(&["get", &kinds.join(","), "-A", "-o", "name"])?;
    Ok(found.lines().map(str::to_owned).collect())
}

fn pod_of(machine: &Machine, component: &str) -> Result<String> {
    let label = format!("istio={component}");
    let name = machine.kubectl(&["get", "pods", "-n", ISTIO, "-l", &label, "-o", "name"])?;
    Ok(name.lines().next().context("no Pod yet")?.to_owned())
}

/// What the Pod's log or the events about it say.
fn says(machine: &Machine, component: &str, wanted: &str) -> Result<()> {
    until(&format!("{component} says {wanted:?}"), LIMIT, || {
        let log = pod_of(machine, component)
            .and_then(|pod| machine.kubectl(&["logs", "-n", ISTIO, &pod]));
        let events = machine.kubectl(&[
            "get",
            "events",
            "-n",
            ISTIO,
            "-o",
            "jsonpath={range .items[*]}{.involvedObject.name}{\" \"}{.message}{\"\\n\"}{end}",
        ])?;
        let events: Vec<&str> = events
            .lines()
            .filter(|line| line.contains(component))
            .collect();
        let all = format!("{}\n{}", log.unwrap_or_default(), events.join("\n"));
        Ok(Seen::when(all.contains(wanted), all))
    })
}

#[test]
fn a_wrong_order_only_takes_longer_and_what_is_removed_is_gone() -> Result<()> {
    if !is_asked() {
        return Ok(());
    }
    // One after the other, like all tests here.
    let _turn = Turn::take()?;
    let machine = Machine::start(3)?;
    let before = objects(&machine)?;

    let install = |release: &str| machine.install(release, release, &[]);
    install("istio-config")?;
    install("sidecar-injector")?;
    install("pilot")?;
    install("galley")?;
    says(&machine, "sidecar-injector", "waiting for certificates")?;
    says(&machine, "pilot", "read /etc/certs/root-cert.pem")?;
    says(&machine, "galley", "waiting for certificates")?;
    let ready = machine.kubectl(&[
        "get",
        "deployments",
        "-n",
        ISTIO,
        "-o",
        "jsonpath={.items[*].status.readyReplicas}",
    ])?;
    ensure!(ready.trim().is_empty(), "something is ready: {ready}");
    let restarts = machine.kubectl(&[
        "get",
        "pods",
        "-n",
        ISTIO,
        "-o",
        "jsonpath={.items[*].status.containerStatuses[*].restartCount}",
    ])?;
    ensure!(
        restarts.split(' ').all(|count| count == "0"),
        "restarts: {restarts}"
    );
    install("citadel")?;
    install("istio-init")?;
    let limit = format!("--timeout={}s", LATE.as_secs());
    machine.kubectl(&[
        "wait",
        "-n",
        ISTIO,
        "--for=condition=Available",
        "deployment",
        "--all",
        &limit,
    ])?;
    // The mesh works.
    let samples = path("samples/manifests").display().to_string();
    for file in [
        "namespaces.yaml",
        "httpbin/httpbin.yaml",
        "sleep/sleep.yaml",
    ] {
        machine.kubectl(&["apply", "--server-side", "-f", &format!("{samples}/{file}")])?;
    }
    for name in ["deployment/httpbin", "deployment/sleep"] {
        machine.kubectl(&["rollout", "status", name, "--timeout=120s"])?;
    }
    until("a request in the mesh", LIMIT, || {
        let output = machine.cluster().kubectl().output(&[
            "exec",
            "deployment/sleep",
            "--",
            "samples",
            "request",
            "http://httpbin:8000/status/200",
        ])?;
        Ok(Seen::when(
            output.status.success(),
            String::from_utf8_lossy(&output.stdout),
        ))
    })?;
    for file in ["httpbin/httpbin.yaml", "sleep/sleep.yaml"] {
        machine.kubectl(&["delete", "--wait=true", "-f", &format!("{samples}/{file}")])?;
    }

    for (release, _) in RELEASES.iter().rev() {
        machine.helm(&["uninstall", release, "-n", ISTIO, "--wait"])?;
    }
    until("everything gone", LIMIT, || {
        let now = objects(&machine)?;
        let left: Vec<&String> = now
            .difference(&before)
            .filter(|object| {
                !KEPT
                    .iter()
                    .chain(&NOT_OURS)
                    .any(|prefix| object.starts_with(prefix))
            })
            .collect();
        Ok(Seen::when(left.is_empty(), format!("{left:?}")))
    })
}
