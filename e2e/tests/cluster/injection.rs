//! What the webhooks answer: the Pod that `kube-inject` makes, and the messages of validation.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::fixture::{Turn, is_asked, path};

/// What differs between two Pods although nothing was done differently.
const OF_EACH: [&str; 6] = [
    "/metadata/creationTimestamp",
    "/metadata/managedFields",
    "/metadata/name",
    "/metadata/generateName",
    "/metadata/uid",
    "/metadata/namespace",
];

fn comparable(mut pod: Value) -> Value {
    for pointer in OF_EACH {
        if let Some(value) = pod.pointer_mut(pointer) {
            *value = Value::Null;
        }
    }
    // The API server adds its own volume before or after the others.
    if let Some(volumes) = pod
        .pointer_mut("/spec/volumes")
        .and_then(Value::as_array_mut)
    {
        volumes.sort_by_key(|volume| volume["name"].to_string());
    }
    // It mounts the account's token under a random name.
    let text = pod.to_string();
    let name = text
        .split('"')
        .find(|part| part.starts_with("kube-api-access-"))
        .map(str::to_owned);
    match name {
        Some(name) => serde_json::from_str(&text.replace(&name, "kube-api-access")).unwrap_or(pod),
        None => pod,
    }
}

#[test]
fn the_webhook_and_kube_inject_make_the_same_pod() -> Result<()> {
    if !is_asked() {
        return Ok(());
    }
    let machine = Turn::take()?;
    // Both go through the API server, so that its defaults are in both; one namespace is injected.
    machine.kubectl(&["create", "namespace", "by-hand"])?;
    let compared = (|| {
        for sample in [
            "httpbin/httpbin.yaml",
            "sleep/sleep.yaml",
            "tcp-echo/tcp-echo.yaml",
        ] {
            let file = path(&format!("samples/manifests/{sample}"));
            let text = std::fs::read_to_string(&file)?;
            for (index, document) in text.split("\n---\n").enumerate() {
                let object: Value = serde_yaml::from_str(document)?;
                if object["kind"] != "Deployment" {
                    continue;
                }
                compare(&machine, &object)
                    .with_context(|| format!("{sample}, document {index}"))?;
            }
        }
        Ok(())
    })();
    machine.kubectl(&["delete", "namespace", "by-hand", "--wait=false"])?;
    compared
}

fn compare(machine: &Turn, deployment: &Value) -> Result<()> {
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "compared".into();
    // Accounts of the samples are only in the injected namespace.
    if let Some(spec) = pod["spec"].as_object_mut() {
        spec.remove("serviceAccountName");
    }
    let create = |namespace: &str, pod: &Value| -> Result<Value> {
        let arguments = [
            "create",
            "--dry-run=server",
            "-o",
            "json",
            "-n",
            namespace,
            "-f",
            "-",
        ];
        let text = machine
            .cluster()
            .kubectl()
            .feed(&arguments, &pod.to_string())?;
        Ok(serde_json::from_str(&text)?)
    };
    let by_webhook = create("default", &pod)?;

    let file = tempfile::NamedTempFile::with_suffix(".json")?;
    std::fs::write(file.path(), pod.to_string())?;
    let injected = Command::new(machine.target().join("debug/istioctl"))
        .args(["kube-inject", "-n", "default", "-f"])
        .arg(file.path())
        .env("KUBECONFIG", machine.cluster().layout().kubeconfig())
        .output()
        .context("start istioctl")?;
    ensure!(
        injected.status.success(),
        "{}",
        String::from_utf8_lossy(&injected.stderr)
    );
    let injected: Value = serde_json::from_slice(&injected.stdout)?;
    let by_hand = create("by-hand", &injected)?;
    let (one, other) = (comparable(by_webhook), comparable(by_hand));
    ensure!(
        one == other,
        "by the webhook:\n{one:#}\nby kube-inject:\n{other:#}"
    );
    Ok(())
}

#[test]
fn a_wrong_object_is_refused_with_the_validators_message() -> Result<()> {
    if !is_asked() {
        return Ok(());
    }
    let machine = Turn::take()?;
    for (text, wanted) in [
        (
            // The schema has no bound for it.
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: wrong}\n\
             spec: {selector: {istio: x}, servers: [{port: {number: 99999, name: a, protocol: ZZZ}, hosts: [a.b]}]}\n",
            "99999",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: wrong}\n\
             spec: {hosts: [a.b], http: [{route: [{destination: {host: one}, weight: 40}, {destination: {host: two}, weight: -1}]}]}\n",
            "weight",
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: wrong}\n\
             spec: {mtls: {mode: SOMETIMES}}\n",
            "SOMETIMES",
        ),
    ] {
        let error = machine
            .cluster()
            .kubectl()
            .feed(&["create", "-f", "-"], text)
            .unwrap_err();
        ensure!(format!("{error:#}").contains(wanted), "{error:#}");
    }
    Ok(())
}
