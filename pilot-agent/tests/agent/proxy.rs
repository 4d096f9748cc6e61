//! The complete agent with a real Envoy, a fake authority and a fake pilot.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use clap::Parser as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pilot_agent::{Cli, env::Env, exit, proxy::Surroundings, settings::Paths};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    AGENT,
    authority::{Authority, Credentials, WORKLOAD},
    envoy,
    pod::{LIMIT, POLL, Pod, finished, ports, talk},
};

#[tokio::test]
async fn envoy_gets_certificates_and_configuration_and_rotates_without_a_restart() {
    let Some(binary) = envoy::binary("envoy_gets_certificates_and_configuration") else {
        return;
    };
    let mut pod = Pod::new(&binary, &[]).await;
    let (end, run) = pod.start();
    pod.wait_ready().await;
    let peer = pod
        .peers
        .wait_for(|peers| !peers.is_empty())
        .await
        .unwrap()
        .first()
        .cloned()
        .unwrap();
    assert_eq!(
        peer,
        (
            WORKLOAD.to_owned(),
            "sidecar~127.0.0.1~web-1.shop~shop.svc.cluster.local".to_owned()
        )
    );
    talk(
        &mut TcpStream::connect(("127.0.0.1", pod.inbound))
            .await
            .unwrap(),
    )
    .await;
    let pid = pod.envoy_pid().await;
    let first = pod.chain_serial().await.unwrap();

    // Another mounted root renews the certificate at once, this time authenticated by the
    // certificate instead of the token.
    let other = Authority::new();
    let bundle = format!("{}{}", pod.authority.root(), other.root());
    std::fs::write(
        pod.directory
            .path()
            .join("var/run/secrets/istio/root-cert.pem"),
        bundle,
    )
    .unwrap();
    let started = Instant::now();
    while pod.chain_serial().await.as_ref() == Some(&first) {
        assert!(
            started.elapsed() < LIMIT,
            "the new certificate did not reach Envoy"
        );
        tokio::time::sleep(POLL).await;
    }
    assert_eq!(
        *pod.authority.calls().borrow(),
        [
            Credentials::Token("Bearer token".to_owned()),
            Credentials::Certificate
        ]
    );
    assert_eq!(pod.envoy_pid().await, pid);
    assert!(
        !pod.directory
            .path()
            .join("etc/istio/proxy/envoy-rev.json")
            .metadata()
            .unwrap()
            .permissions()
            .readonly()
    );

    // Metrics of agent and Envoy in one response.
    let (status, text) = pod
        .get(pod.status, "GET", "stats/prometheus")
        .await
        .unwrap();
    assert_eq!(status, 200);
    let (agent, envoy) = (
        text.find("istio_agent_cert_expiry_seconds").unwrap(),
        text.find("envoy_server_state").unwrap(),
    );
    assert!(agent < envoy);
    assert_eq!(
        pod.get(pod.prometheus, "GET", "stats/prometheus")
            .await
            .unwrap()
            .0,
        200
    );

    assert_eq!(
        pod.get(pod.status, "GET", "quitquitquit").await.unwrap().0,
        405
    );
    let quick = Instant::now();
    assert_eq!(
        pod.get(pod.status, "POST", "quitquitquit").await.unwrap().0,
        200
    );
    finished(run).await.unwrap();
    assert!(
        quick.elapsed() < Duration::from_secs(4),
        "quitting does not drain"
    );
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    drop(end);
}

#[tokio::test]
async fn a_late_authority_delays_readiness_only() {
    let Some(binary) = envoy::binary("a_late_authority_delays_readiness_only") else {
        return;
    };
    let [ca_port] = ports();
    let pod = Pod::with_authority(&binary, &[], Some(ca_port)).await;
    let (_end, run) = pod.start();
    let started = Instant::now();
    let reason = loop {
        match pod.get(pod.status, "GET", "healthz/ready").await {
            Ok((503, text)) if text.contains("no configuration received") => break text,
            other => assert!(started.elapsed() < LIMIT, "{other:?}"),
        }
        tokio::time::sleep(POLL).await;
    };
    assert!(reason.contains("0 successful"));
    pod.authority
        .serve_on(TcpListener::bind(("127.0.0.1", ca_port)).await.unwrap());
    pod.wait_ready().await;
    run.abort();
}

#[tokio::test]
async fn told_to_end_it_drains_while_open_connections_go_on() {
    let Some(binary) = envoy::binary("told_to_end_it_drains") else {
        return;
    };
    let pod = Pod::new(&binary, &[("TERMINATION_DRAIN_DURATION_SECONDS", "3")]).await;
    let (end, run) = pod.start();
    pod.wait_ready().await;
    let mut open = TcpStream::connect(("127.0.0.1", pod.inbound))
        .await
        .unwrap();
    talk(&mut open).await;
    let started = Instant::now();
    end.send(()).unwrap();
    pod.wait_status(503).await;
    talk(&mut open).await;
    finished(run).await.unwrap();
    let took = started.elapsed();
    assert!(
        took >= Duration::from_secs(3) && took < Duration::from_secs(8),
        "{took:?}"
    );
}

#[tokio::test]
async fn with_counting_it_ends_when_the_last_connection_closes() {
    let Some(binary) = envoy::binary("with_counting_it_ends") else {
        return;
    };
    let env = [
        ("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true"),
        ("MINIMUM_DRAIN_DURATION", "100ms"),
    ];
    let pod = Pod::new(&binary, &env).await;
    let (end, run) = pod.start();
    pod.wait_ready().await;
    let mut open = TcpStream::connect(("127.0.0.1", pod.inbound))
        .await
        .unwrap();
    talk(&mut open).await;
    end.send(()).unwrap();
    pod.wait_status(503).await;
    // Longer than several counts and than Envoy's drain time.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!run.is_finished());
    talk(&mut open).await;
    drop(open);
    finished(run).await.unwrap();
}

#[tokio::test]
async fn drained_before_it_ends_at_once() {
    let Some(binary) = envoy::binary("drained_before_it_ends_at_once") else {
        return;
    };
    let pod = Pod::new(&binary, &[("TERMINATION_DRAIN_DURATION_SECONDS", "60")]).await;
    let (end, run) = pod.start();
    pod.wait_ready().await;
    assert_eq!(pod.get(pod.status, "POST", "drain").await.unwrap().0, 200);
    talk(
        &mut TcpStream::connect(("127.0.0.1", pod.inbound))
            .await
            .unwrap(),
    )
    .await;
    pod.wait_ready().await;
    end.send(()).unwrap();
    finished(run).await.unwrap();
}

#[tokio::test]
async fn an_envoy_that_crashes_ends_the_agent_with_an_error() {
    let Some(binary) = envoy::binary("an_envoy_that_crashes") else {
        return;
    };
    let pod = Pod::new(&binary, &[]).await;
    let (_end, run) = pod.start();
    pod.wait_ready().await;
    let pid = pod.envoy_pid().await;
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let error = finished(run).await.unwrap_err().to_string();
    assert!(
        error.contains("killed by signal 9") && error.contains("memory limit"),
        "{error}"
    );
    assert!(
        !Path::new(&format!("/proc/{pid}")).exists(),
        "no zombie is left"
    );
}

#[tokio::test]
async fn exit_statuses_of_the_program_follow_envoy() {
    let directory = tempfile::tempdir().unwrap();
    let fake = |name: &str, script: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = directory.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    for (script, status) in [("exit 0", 0), ("exit 7", 1), ("kill -9 $$", 1)] {
        let [port] = ports();
        let binary = fake("envoy", script).display().to_string();
        let words = [
            "pilot-agent",
            "proxy",
            "--statusPort",
            &port.to_string(),
            "--customConfigFile",
            "/dev/null",
            "--binaryPath",
            &binary,
        ];
        let cli = Cli::try_parse_from(words).unwrap();
        let surroundings = Surroundings {
            paths: Paths::below(directory.path().join(status.to_string())),
            ..Surroundings::default()
        };
        let env = Env::from_pairs([("INSTANCE_IP", "127.0.0.1")]);
        let result = timeout(
            LIMIT,
            pilot_agent::run(cli, env, surroundings, std::future::pending()),
        )
        .await
        .unwrap();
        let found = result.as_ref().map_or_else(exit::status, |()| 0);
        assert_eq!(found, status, "{script}: {result:?}");
    }
}

#[tokio::test]
async fn an_agent_that_is_killed_takes_envoy_along() {
    let directory = tempfile::tempdir().unwrap();
    let note = directory.path().join("pid");
    let mut launcher = tokio::process::Command::new("sh")
        .args(["-c", "\"$0\" exec-envoy --parent $$ -- sh -c 'echo $$ > \"$0\"; exec sleep 600' \"$1\" & wait"])
        .arg(AGENT)
        .arg(&note)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let pid: i32 = loop {
        if let Ok(text) = std::fs::read_to_string(&note)
            && let Ok(pid) = text.trim().parse()
        {
            break pid;
        }
        assert!(started.elapsed() < LIMIT);
        tokio::time::sleep(POLL).await;
    };
    assert!(alive(pid));
    launcher.kill().await.unwrap();
    while alive(pid) {
        assert!(started.elapsed() < LIMIT, "the child outlived the agent");
        tokio::time::sleep(POLL).await;
    }
}

/// Whether the process runs; a zombie does not.
fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
