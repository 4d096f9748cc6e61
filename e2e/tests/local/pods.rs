//! The Pod runner alone, without a control plane: real namespaces, real processes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mesh::handle::Mesh;
use mesh::layout::Layout;
use mesh::manifest::Source;
use mesh::node::pod::status::{Phase, State};
use mesh::start::{self, Options, Started, binaries};
use mesh::state::RunState;
use mesh::wait::wait_until;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const MANIFESTS: &str = include_str!("pods.yaml");

struct Fixture {
    started: Started,
    // Removed after the mesh has ended.
    _directory: tempfile::TempDir,
}

impl Fixture {
    async fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (program, samples) = tokio::task::spawn_blocking(|| {
            anyhow::Ok((
                crate::fixture::program()?,
                binaries::build_package("samples")?,
            ))
        })
        .await??;
        let source = Source {
            origin: "test".to_owned(),
            text: MANIFESTS.to_owned(),
        };
        let started = start::start(Options {
            layout: Layout::new(directory.path().to_owned()),
            program,
            binaries: BTreeMap::from([("samples".to_owned(), samples)]),
            control_plane: false,
            sources: vec![source],
            log_filter: "info".to_owned(),
        })
        .await?;
        started.mesh.wait_settled(LIMIT).await?;
        Ok(Self {
            started,
            _directory: directory,
        })
    }

    fn mesh(&self) -> &Mesh {
        &self.started.mesh
    }

    async fn shell(&self, script: &str) -> Result<String> {
        let output = self
            .mesh()
            .exec("sleep", None, &["sh", "-c", script], LIMIT)
            .await?;
        ensure!(output.code == 0, "{script}: {output:?}");
        Ok(output.stdout)
    }
}

/// Host pids of the node's containers.
fn children(node: u32) -> Vec<u32> {
    let parent = format!("PPid:\t{node}");
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
            status.lines().any(|line| line == parent).then_some(())?;
            entry.file_name().to_str()?.parse().ok()
        })
        .collect()
}

async fn wait_gone(pids: &[u32]) -> Result<()> {
    wait_until("processes gone", LIMIT, || async {
        let there = |pid: &&u32| Path::new(&format!("/proc/{pid}")).exists();
        let left: Vec<_> = pids.iter().filter(there).collect();
        ensure!(left.is_empty(), "{left:?} are left");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_have_names_volumes_and_reach_each_other() -> Result<()> {
    let _turn = crate::fixture::turn().await;
    let fixture = Fixture::start().await?;
    let mesh = fixture.mesh();

    assert_eq!(fixture.shell("cat /shared/file").await?, "from init\n");
    assert_eq!(
        fixture.shell("cat /etc/info/annotations").await?,
        r#"note="say \"hi\"""#
    );
    assert_eq!(fixture.shell("cat /etc/settings/colour").await?, "red");
    assert_eq!(
        fixture
            .shell("cat /var/run/secrets/tokens/token")
            .await?
            .split('.')
            .count(),
        3
    );
    assert!(fixture.shell("hostname").await?.starts_with("sleep-"));
    // The host's files and processes are not there.
    assert_eq!(
        fixture
            .shell("ls -d /home /srv /root/.cargo 2>/dev/null; true")
            .await?,
        ""
    );
    assert_eq!(
        fixture
            .shell("touch /usr/x 2>/dev/null || echo refused")
            .await?,
        "refused\n"
    );
    assert!(
        fixture
            .shell("cat /proc/1/cmdline")
            .await?
            .starts_with("samples")
    );

    // A connection made in the Pod, by ClusterIP and by Pod address.
    for host in ["httpbin:8000", "httpbin.plain.svc.cluster.local:8000"] {
        let answer = mesh
            .http_from("sleep")
            .get(&format!("http://{host}/status/204"))
            .await?;
        assert_eq!(answer.status, 204);
    }
    let error = mesh
        .http_from("sleep")
        .get("http://nobody/")
        .await
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("does not resolve in namespace plain"),
        "{error:#}"
    );

    // From the host, through the published address.
    let url = mesh.published_url("plain/edge", 80).await?;
    let answer = mesh.http_from_host().get(&format!("{url}/get")).await?;
    assert_eq!(answer.status, 200);

    // A changed ConfigMap reaches the running Pod.
    mesh.apply(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: plain}, data: {colour: blue}}",
    )
    .await?;
    wait_until("the new ConfigMap", LIMIT, || async {
        ensure!(fixture.shell("cat /etc/settings/colour").await? == "blue");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_restarted_in_place_and_deployments_scaled() -> Result<()> {
    let _turn = crate::fixture::turn().await;
    let fixture = Fixture::start().await?;
    let mesh = fixture.mesh();
    let before = mesh.status(false).await?.pod_named("httpbin")?.clone();

    mesh.kill("httpbin", None, None, None).await?;
    let status = mesh
        .wait_status("a restart", LIMIT, |status| {
            status
                .pod_named("httpbin")
                .is_ok_and(|pod| pod.ready && pod.containers[0].restarts == 1)
        })
        .await?;
    let after = status.pod_named("httpbin")?;
    assert_eq!((&after.name, after.ip), (&before.name, before.ip));
    assert_eq!(after.containers[0].last_code, Some(137));

    mesh.scale("plain/httpbin", 3).await?;
    let status = mesh.wait_settled(LIMIT).await?;
    assert_eq!(status.pods_named("httpbin").len(), 3);
    let slice = |mesh: &Mesh| -> Result<Value> {
        let path = mesh
            .layout()
            .objects()
            .join("endpointslice.discovery.k8s.io_plain_httpbin-0.yaml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(serde_yaml::from_str(&text)?)
    };
    assert_eq!(slice(mesh)?["endpoints"].as_array().unwrap().len(), 3);

    mesh.scale("plain/httpbin", 1).await?;
    let leaving = mesh
        .wait_status("Pods on their way out", LIMIT, |status| {
            status
                .pods
                .iter()
                .any(|pod| pod.phase == Phase::Terminating)
        })
        .await?;
    // It goes on for its SHUTDOWN_DELAY, out of the endpoints already.
    assert!(leaving.pods.iter().any(|pod| {
        pod.phase == Phase::Terminating && matches!(pod.containers[0].state, State::Running { .. })
    }));
    let ready = |slice: &Value| -> usize {
        let endpoints = slice["endpoints"].as_array().unwrap();
        endpoints
            .iter()
            .filter(|endpoint| endpoint["conditions"]["ready"] == true)
            .count()
    };
    assert_eq!(ready(&slice(mesh)?), 1);
    mesh.wait_settled(LIMIT).await?;
    assert_eq!(slice(mesh)?["endpoints"].as_array().unwrap().len(), 1);

    let error = mesh.scale("plain/nothing", 1).await.unwrap_err();
    assert_eq!(error.to_string(), "Deployment plain/nothing does not exist");
    let error = mesh
        .apply("{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: x}}")
        .await;
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("only Deployments and Pods")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_after_down_a_kill_or_a_lost_parent() -> Result<()> {
    let _turn = crate::fixture::turn().await;
    // In order.
    let fixture = Fixture::start().await?;
    let mesh = fixture.mesh().clone();
    let pids = children(mesh.node_pid());
    assert!(pids.len() >= 2, "{pids:?}");
    mesh.down().await?;
    wait_gone(&pids).await?;
    assert!(mesh.layout().logs().exists());
    assert!(!mesh.layout().shared().exists() && !mesh.layout().control_socket().exists());
    let error = Mesh::attach(mesh.layout().clone()).unwrap_err();
    assert!(error.to_string().contains("no mesh is up"), "{error:#}");

    // The node is killed; the supervisor clears up.
    let fixture = Fixture::start().await?;
    let mesh = fixture.mesh().clone();
    let pids = children(mesh.node_pid());
    kill(mesh.node_pid())?;
    wait_gone(&pids).await?;
    wait_until("the state file gone", LIMIT, || async {
        ensure!(RunState::running(mesh.layout())?.is_none());
        Ok(())
    })
    .await?;

    // The supervisor is killed. It stays a zombie until its parent asks, so only those below count.
    let fixture = Fixture::start().await?;
    let mesh = fixture.mesh().clone();
    let pids = [children(mesh.node_pid()), vec![mesh.node_pid()]].concat();
    let supervisor = RunState::running(mesh.layout())?.context("no state")?.pid;
    kill(supervisor)?;
    wait_gone(&pids).await?;

    // Whoever started it goes away without letting go.
    let fixture = Fixture::start().await?;
    let node = fixture.mesh().node_pid();
    let pids = [children(node), vec![node]].concat();
    drop(fixture);
    wait_gone(&pids).await
}

fn kill(pid: u32) -> Result<()> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
    Ok(nix::sys::signal::kill(
        pid,
        nix::sys::signal::Signal::SIGKILL,
    )?)
}
