//! Workloads that are no Deployment, Services that have no address, and what people do with Pods.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster::patience::{Seen, until};
use serde_json::Value;

use crate::fixture::{LIMIT, Machine, Turn, is_asked, path, runtime};
use crate::scrape::scrape;

const NAMESPACE: &str = "workloads";

fn kubectl(machine: &Machine, arguments: &[&str]) -> Result<String> {
    machine.kubectl(&[&["--namespace", NAMESPACE], arguments].concat())
}

#[test]
fn jobs_end_sets_and_services_of_every_sort_are_reached() -> Result<()> {
    if !is_asked() {
        return Ok(());
    }
    let machine = Turn::take()?;
    let manifest = path("e2e/tests/cluster/manifests/workloads.yaml");
    let manifest = manifest.display().to_string();
    machine.kubectl(&["apply", "--server-side", "-f", &manifest])?;
    let seen = check(&machine);
    machine.kubectl(&["delete", "--wait=true", "-f", &manifest])?;
    seen
}

fn check(machine: &Machine) -> Result<()> {
    jobs_end(machine)?;
    kubectl(
        machine,
        &["rollout", "status", "statefulset/web", "--timeout=60s"],
    )?;
    probes_are_rewritten(machine)?;
    people_look_into_pods(machine)?;
    let world = machine.world();
    runtime()?.block_on(async {
        let http = world.http_from_without_reuse("default/sleep");
        for (url, what) in [
            ("http://web.workloads:8080/hostname", "a headless Service"),
            (
                "http://web-1.web.workloads:8080/hostname",
                "one Pod of a set",
            ),
            ("http://alias.workloads:8000/get", "an ExternalName"),
        ] {
            mesh::wait::wait_until(what, Duration::from_secs(20), || async {
                let answer = http.get(url).await?;
                ensure!(
                    answer.status == 200,
                    "{url}: {} {}",
                    answer.status,
                    answer.text()
                );
                let is_other = url.contains("web-1") && !answer.text().contains("web-1");
                ensure!(!is_other, "{url} was answered by {}", answer.text());
                Ok(())
            })
            .await?;
        }
        anyhow::Ok(())
    })
}

/// The proxy is a native sidecar, which does not keep a Job from ending.
fn jobs_end(machine: &Machine) -> Result<()> {
    kubectl(
        machine,
        &["create", "job", "from-cron", "--from=cronjob/often"],
    )?;
    for job in ["once", "from-cron"] {
        let name = format!("job/{job}");
        kubectl(
            machine,
            &["wait", "--for=condition=complete", &name, "--timeout=60s"],
        )
        .with_context(|| job.to_owned())?;
        let pods = kubectl(
            machine,
            &[
                "get",
                "pods",
                "-l",
                &format!("job-name={job}"),
                "-o",
                "json",
            ],
        )?;
        let pods: Value = serde_json::from_str(&pods)?;
        let pod = pods.pointer("/items/0").context("the Job has no Pod")?;
        ensure!(
            container(pod, "istio-proxy").is_some(),
            "{job} has no proxy"
        );
        ensure!(pod["status"]["phase"] == "Succeeded", "{}", pod["status"]);
    }
    Ok(())
}

fn container<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    ["/spec/containers", "/spec/initContainers"]
        .into_iter()
        .filter_map(|list| pod.pointer(list)?.as_array())
        .flatten()
        .find(|container| container["name"] == name)
}

/// The kubelet asks the agent, so that probes work under mutual TLS, too.
fn probes_are_rewritten(machine: &Machine) -> Result<()> {
    let pod: Value =
        serde_json::from_str(&kubectl(machine, &["get", "pod", "web-0", "-o", "json"])?)?;
    let web = container(&pod, "web").context("no container web")?;
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let (path, port) = (
            &web[probe]["httpGet"]["path"],
            &web[probe]["httpGet"]["port"],
        );
        let path = path.as_str().unwrap_or_default();
        ensure!(
            path.starts_with("/app-health/web/"),
            "{probe}: {}",
            web[probe]
        );
        ensure!(
            *port == 15_020 || *port == "status-port" || port.as_u64() == Some(15_020),
            "{probe}: {port}"
        );
    }
    Ok(())
}

fn people_look_into_pods(machine: &Machine) -> Result<()> {
    let said = kubectl(
        machine,
        &[
            "exec",
            "web-0",
            "--",
            "samples",
            "request",
            "http://127.0.0.1:8080/hostname",
        ],
    )?;
    ensure!(said.contains("200"), "{said}");
    let said = kubectl(
        machine,
        &[
            "exec",
            "web-0",
            "-c",
            "istio-proxy",
            "--",
            "pilot-agent",
            "request",
            "GET",
            "/server_info",
        ],
    )?;
    ensure!(said.contains("LIVE"), "{said}");
    let said = kubectl(
        machine,
        &["logs", "web-0", "-c", "istio-proxy", "--tail=50"],
    )?;
    ensure!(!said.is_empty(), "the proxy says nothing");
    forward(machine)
}

/// Through the kubelet into the Pod's network, where traffic of the loopback is not captured.
fn forward(machine: &Machine) -> Result<()> {
    use std::io::{BufRead as _, BufReader};
    let mut child = machine
        .cluster()
        .kubectl()
        .command()
        .args([
            "--namespace",
            NAMESPACE,
            "port-forward",
            "pod/web-0",
            ":8080",
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("start kubectl")?;
    // It writes a line for each connection, and ends when nobody reads.
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let line = lines.next();
    let answered = (|| {
        let line = line.context("kubectl ended")??;
        // Forwarding from 127.0.0.1:PORT -> 8080
        let address = line
            .split_whitespace()
            .find(|word| word.starts_with("127.0.0.1:"))
            .with_context(|| line.clone())?;
        let url = format!("http://{address}/hostname");
        let answer = runtime()?.block_on(mesh::http::Http::from_host(false).get(&url))?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(())
    })();
    child.kill().context("end kubectl")?;
    child.wait().context("wait for kubectl")?;
    answered
}

/// A Pod as somebody writes it, and what must come of it.
struct Case {
    what: &'static str,
    metadata: &'static str,
    spec: &'static str,
    wanted: Wanted,
}

enum Wanted {
    Injected,
    LeftAlone,
    Refused(&'static str),
}

const PLAIN: &str = "containers: [{name: app, image: 'keelson/samples:0.1.0'}]";

const CASES: [Case; 9] = [
    Case {
        what: "the host's network",
        metadata: "labels: {app: x}",
        spec: "hostNetwork: true, containers: [{name: app, image: 'keelson/samples:0.1.0'}]",
        wanted: Wanted::LeftAlone,
    },
    Case {
        what: "no labels",
        metadata: "annotations: {}",
        spec: PLAIN,
        wanted: Wanted::Injected,
    },
    Case {
        what: "a proxy of one's own",
        metadata: "labels: {app: x}",
        spec: "containers: [{name: app, image: 'keelson/samples:0.1.0'}, {name: istio-proxy, image: auto}]",
        wanted: Wanted::Injected,
    },
    Case {
        what: "a port that the proxy has, too",
        metadata: "labels: {app: x}",
        spec: "containers: [{name: app, image: 'keelson/samples:0.1.0', ports: [{containerPort: 15090}]}]",
        wanted: Wanted::Injected,
    },
    Case {
        what: "a volume with the name of one of ours",
        metadata: "labels: {app: x}",
        spec: "volumes: [{name: istio-envoy, emptyDir: {}}], containers: [{name: app, image: 'keelson/samples:0.1.0'}]",
        wanted: Wanted::Injected,
    },
    Case {
        what: "annotations that nobody knows",
        metadata: "annotations: {sidecar.istio.io/noSuchThing: x, example.org/mine: 'y'}",
        spec: PLAIN,
        wanted: Wanted::Injected,
    },
    Case {
        what: "an annotation that cannot be used",
        metadata: "annotations: {traffic.sidecar.istio.io/excludeInboundPorts: 'http'}",
        spec: PLAIN,
        wanted: Wanted::Refused("traffic.sidecar.istio.io/excludeInboundPorts"),
    },
    Case {
        what: "a template that is not there",
        metadata: "annotations: {inject.istio.io/templates: none-such}",
        spec: PLAIN,
        wanted: Wanted::Refused("unknown template"),
    },
    Case {
        what: "a mark that says no",
        metadata: "labels: {sidecar.istio.io/inject: 'false'}",
        spec: PLAIN,
        wanted: Wanted::LeftAlone,
    },
];

#[test]
fn odd_pods_are_injected_left_alone_or_refused_and_never_hang() -> Result<()> {
    if !is_asked() {
        return Ok(());
    }
    let machine = Turn::take()?;
    let create = |text: &str| {
        let arguments = [
            "create",
            "--dry-run=server",
            "-o",
            "json",
            "--request-timeout=10s",
            "-f",
            "-",
        ];
        machine.cluster().kubectl().feed(&arguments, text)
    };
    for case in &CASES {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: odd, namespace: default, {}}}\nspec: {{{}}}\n",
            case.metadata, case.spec
        );
        let made = create(&text);
        match (&case.wanted, made) {
            (Wanted::Refused(reason), Err(error)) => {
                ensure!(
                    format!("{error:#}").contains(reason),
                    "{}: {error:#}",
                    case.what
                );
            }
            (Wanted::Refused(reason), Ok(_)) => {
                anyhow::bail!("{}: taken, though {reason}", case.what);
            }
            (wanted, made) => {
                let pod: Value = serde_json::from_str(&made.context(case.what)?)?;
                let is_injected =
                    container(&pod, "istio-proxy").is_some_and(|proxy| proxy["image"] != "auto");
                let is_wanted = matches!(wanted, Wanted::Injected);
                ensure!(
                    is_injected == is_wanted,
                    "{}: injected {is_injected}",
                    case.what
                );
            }
        }
    }
    // Larger than what the API server takes: it says so, whatever the webhook does.
    let blob = "x".repeat(3 << 20);
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: odd, namespace: default, annotations: {{a: {blob}}}}}\nspec: {{{PLAIN}}}\n"
    );
    let error = create(&text).unwrap_err();
    ensure!(
        format!("{error:#}").contains("large") || format!("{error:#}").contains("Too long"),
        "{error:.300}"
    );
    Ok(())
}

/// What is broken keeps out, and what worked goes on.
#[test]
fn a_broken_template_changes_nothing() -> Result<()> {
    if !is_asked() {
        return Ok(());
    }
    let machine = Turn::take()?;
    let name = [
        "--namespace",
        crate::fixture::ISTIO,
        "configmap",
        "istio-sidecar-injector",
    ];
    let get = |path: &str| machine.kubectl(&[&["get"], &name[..], &["-o", path]].concat());
    let good = get("jsonpath={.data.config}")?;
    let set = |config: &str| {
        let patch = serde_json::json!({"data": {"config": config}}).to_string();
        machine.kubectl(&[&["patch"], &name[..], &["--type=merge", "-p", &patch]].concat())
    };
    let refused = || {
        let family = "injector_config_reload_total{result=\"failure\"}";
        scrape(&machine, "sidecar-injector", family)
    };
    let before = refused()?;
    ensure!(!before.is_empty(), "there is no injector");
    set("templates: {sidecar: '{{ .NoSuch '}")?;
    let seen = until("the refusal of a broken template", LIMIT, || {
        let now = refused()?;
        let all = before.iter().all(|(pod, count)| now.get(pod) > Some(count));
        Ok(Seen::when(all, format!("{before:?}, now {now:?}")))
    })
    .and_then(|()| {
        let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: odd, namespace: default}}\nspec: {{{PLAIN}}}\n");
        let arguments = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
        let pod: Value = serde_json::from_str(&machine.cluster().kubectl().feed(&arguments, &text)?)?;
        ensure!(container(&pod, "istio-proxy").is_some(), "not injected");
        Ok(())
    });
    set(&good)?;
    seen
}
