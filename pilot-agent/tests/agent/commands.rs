//! The small commands, run as processes.

use std::process::Command;

use axum::{Router, routing::get};
use tokio::net::TcpListener;

use crate::AGENT;

async fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let output = tokio::process::Command::new(AGENT)
        .args(args)
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

async fn serve(app: Router) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    port
}

#[tokio::test]
async fn wait_and_probe_tell_ready_from_not_ready() {
    let port = serve(Router::new().route("/ok", get(|| async { "" }))).await;
    let url = |path: &str| format!("http://localhost:{port}{path}");
    let (status, _, error) = run(&["wait", "--periodMillis", "1", "--url", &url("/ok")]).await;
    assert_eq!(status, Some(0), "{error}");
    let (status, _, error) = run(&[
        "wait",
        "--timeoutSeconds",
        "0",
        "--periodMillis",
        "1",
        "--url",
        &url("/no"),
    ])
    .await;
    assert_eq!(status, Some(1));
    assert!(error.contains("404"), "{error}");
    assert_eq!(run(&["probe", "--url", &url("/ok")]).await.0, Some(0));
    assert_eq!(run(&["probe", "--url", &url("/no")]).await.0, Some(1));
    assert_eq!(
        run(&["probe", "--url", "https://localhost/"]).await.0,
        Some(1)
    );
}

#[test]
fn usage_errors_exit_64_and_unknown_flags_of_proxy_do_not() {
    let run = |args: &[&str]| Command::new(AGENT).args(args).output().unwrap();
    assert_eq!(run(&["proxy", "ingress"]).status.code(), Some(64));
    assert_eq!(
        run(&["request", "--debug-port=9999", "GET", "stats"])
            .status
            .code(),
        Some(64)
    );
    assert_eq!(run(&["wait", "--unknown"]).status.code(), Some(64));
    // Passes the check of the flags and stops at the environment.
    let output = Command::new(AGENT)
        .args([
            "proxy",
            "sidecar",
            "--future-flag",
            "x",
            "--parentShutdownDuration",
            "1m",
        ])
        .env("XDS_MODE", "nonsense")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("XDS_MODE"));
}

#[test]
fn version_is_machine_readable_and_alone_on_stdout() {
    let output = Command::new(AGENT)
        .args(["version", "-o", "json"])
        .output()
        .unwrap();
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(value.to_string().contains("golang_version"));
}
