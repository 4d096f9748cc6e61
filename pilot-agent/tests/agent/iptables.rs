//! Capture rules in the kernel, each test in its own network namespace.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    process::{Command, Output},
    thread,
    time::Duration,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::socket::{getsockopt, sockopt},
    unistd::geteuid,
};

use crate::AGENT;

const SIDECAR: [&str; 15] = [
    "istio-iptables",
    "-p",
    "15001",
    "-z",
    "15006",
    "-u",
    "1337",
    "-m",
    "REDIRECT",
    "-i",
    "*",
    "-b",
    "*",
    "-d",
    "15020",
];
const POD: &str = "10.88.0.5";
const LIMIT: Duration = Duration::from_secs(5);

/// Runs the test on a thread in its own network namespace, or reports why it cannot.
fn in_namespace(name: &str, test: impl FnOnce() + Send + 'static) {
    if !geteuid().is_root() {
        eprintln!("skipped {name}: creating a network namespace needs root");
        return;
    }
    if Command::new("iptables-nft")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("skipped {name}: iptables is not installed");
        return;
    }
    let name = name.to_owned();
    let ran = thread::spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            eprintln!("skipped {name}: cannot create a network namespace: {error}");
            return;
        }
        sh("ip link set lo up");
        sh("ip link add pod type veth peer name wire && ip link set wire up");
        sh(&format!("ip addr add {POD}/24 dev pod"));
        sh("ip addr add fd88::5/64 dev pod nodad");
        sh("ip link set pod up");
        sh("ip route add default dev pod");
        test();
    })
    .join();
    assert!(ran.is_ok(), "the test in its namespace failed");
}

fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn agent(args: &[&str]) -> Output {
    Command::new(AGENT).args(args).output().unwrap()
}

fn apply(more: &[&str]) -> Output {
    agent(&[&SIDECAR[..], more].concat())
}

#[track_caller]
fn ok(output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn save() -> String {
    let text = sh("iptables-nft-save; ip6tables-nft-save");
    // Counters and comments differ between calls.
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(" [").next().unwrap().to_owned() + "\n")
        .collect()
}

/// The original destination of a connection that arrives at `listener`.
fn accepted(listener: &TcpListener) -> SocketAddr {
    let (stream, _) = listener.accept().unwrap();
    let original = getsockopt(&stream, sockopt::OriginalDst).unwrap();
    SocketAddr::from((
        u32::from_be(original.sin_addr.s_addr).to_be_bytes(),
        u16::from_be(original.sin_port),
    ))
}

fn connect(to: &str) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&to.parse().unwrap(), LIMIT)
}

#[test]
fn outbound_and_inbound_connections_are_redirected() {
    in_namespace("outbound_and_inbound_connections_are_redirected", || {
        ok(&apply(&["--run-validation"]));
        let outbound = TcpListener::bind("0.0.0.0:15001").unwrap();
        let inbound = TcpListener::bind("0.0.0.0:15006").unwrap();
        // An application (any user but the proxy) connects to another host.
        let waits = thread::spawn(move || accepted(&outbound));
        connect("192.0.2.7:8080").unwrap();
        assert_eq!(waits.join().unwrap(), "192.0.2.7:8080".parse().unwrap());
        // The proxy connects to a port of its own Pod, as when the application calls its own
        // service.
        let waits = thread::spawn(move || accepted(&inbound));
        let probe = Command::new(AGENT)
            .args(["probe", "--url", &format!("http://{POD}:8080/")])
            .uid(1337)
            .gid(1337)
            .output()
            .unwrap();
        assert_eq!(probe.status.code(), Some(1));
        assert_eq!(
            waits.join().unwrap(),
            format!("{POD}:8080").parse().unwrap()
        );
        // An application that connects to itself is not captured.
        let own = TcpListener::bind(format!("{POD}:9000")).unwrap();
        let mut client = connect(&format!("{POD}:9000")).unwrap();
        let (mut server, _) = own.accept().unwrap();
        server.write_all(b"direct").unwrap();
        drop(server);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "direct");
    });
}

#[test]
fn connections_of_peers_reach_the_inbound_port_except_on_excluded_ports() {
    in_namespace("connections_of_peers_reach_the_inbound_port", || {
        ok(&apply(&[]));
        // The peer is another namespace behind a veth pair, entered by the pid of a sleeping
        // process.
        let mut peer = Command::new("unshare")
            .args(["-n", "sleep", "60"])
            .spawn()
            .unwrap();
        let pid = peer.id();
        let enter = format!("nsenter -t {pid} -n");
        for _ in 0..500 {
            if sh(&format!("readlink /proc/{pid}/ns/net"))
                != sh("readlink /proc/thread-self/ns/net")
            {
                break;
            }
            thread::yield_now();
        }
        sh(&format!(
            "ip link add out type veth peer name in netns {pid}"
        ));
        sh("ip addr add 10.99.0.1/24 dev out && ip link set out up");
        sh(&format!(
            "{enter} ip addr add 10.99.0.2/24 dev in && {enter} ip link set in up"
        ));
        let inbound = TcpListener::bind("0.0.0.0:15006").unwrap();
        let excluded = TcpListener::bind("0.0.0.0:15020").unwrap();
        let call = |port: u16| {
            let url = format!("http://10.99.0.1:{port}/");
            Command::new("nsenter")
                .args([
                    "-t",
                    &pid.to_string(),
                    "-n",
                    AGENT,
                    "probe",
                    "--requestTimeoutMillis",
                    "3000",
                    "--url",
                    &url,
                ])
                .spawn()
                .unwrap()
        };
        let mut caller = call(7777);
        assert_eq!(accepted(&inbound), "10.99.0.1:7777".parse().unwrap());
        assert!(!caller.wait().unwrap().success());
        let mut caller = call(15020);
        let (stream, from) = excluded.accept().unwrap();
        assert_eq!(from.ip().to_string(), "10.99.0.2");
        drop(stream);
        assert!(!caller.wait().unwrap().success());
        peer.kill().unwrap();
        peer.wait().unwrap();
    });
}

#[test]
fn a_second_run_changes_nothing_and_clean_up_leaves_nothing() {
    in_namespace(
        "a_second_run_changes_nothing_and_clean_up_leaves_nothing",
        || {
            let before = save();
            ok(&apply(&["--dual-stack"]));
            let first = save();
            assert!(first.contains("ISTIO_OUTPUT"), "{first}");
            assert!(first.contains("::6/128"), "{first}");
            ok(&apply(&["--dual-stack"]));
            assert_eq!(save(), first);
            ok(&apply(&["--dual-stack", "--force-apply"]));
            assert_eq!(save(), first);
            let differs = apply(&["--dual-stack", "-o", "3306"]);
            assert_eq!(differs.status.code(), Some(1));
            assert!(String::from_utf8_lossy(&differs.stderr).contains("--reconcile"));
            assert_eq!(save(), first);
            ok(&apply(&["--dual-stack", "-o", "3306", "--reconcile"]));
            assert!(save().contains("--dport 3306"));
            ok(&apply(&["--dual-stack", "--reconcile"]));
            assert_eq!(save(), first);
            ok(&agent(&["istio-clean-iptables"]));
            let after = save();
            assert!(!after.contains("ISTIO"), "{after}");
            assert_eq!(
                after.lines().filter(|line| line.starts_with('-')).count(),
                before.lines().filter(|line| line.starts_with('-')).count()
            );
            assert!(!sh("ip -6 addr show dev lo").contains("::6/128"));
            ok(&agent(&["istio-iptables", "--cleanup-only"]));
        },
    );
}

#[test]
fn tproxy_rules_routes_and_dns_are_accepted_and_removed() {
    in_namespace(
        "tproxy_rules_routes_and_dns_are_accepted_and_removed",
        || {
            let flags = [
                "istio-iptables",
                "-u",
                "1337",
                "-m",
                "TPROXY",
                "-i",
                "*",
                "-b",
                "*",
                "-d",
                "15020",
                "-c",
                "eth9",
                "--drop-invalid",
                "--capture-all-dns",
                "--dual-stack",
            ];
            ok(&agent(&flags));
            let first = save();
            assert!(first.contains("TPROXY --on-port 15006"), "{first}");
            let rules = sh("ip rule; ip -6 rule");
            assert_eq!(
                rules.matches("fwmark 0x539 lookup 133").count(),
                2,
                "{rules}"
            );
            assert!(sh("ip route show table 133").contains("local default dev lo"));
            ok(&agent(&flags));
            assert_eq!(save(), first);
            ok(&agent(&[&flags[..], &["--force-apply"]].concat()));
            assert_eq!(save(), first);
            ok(&agent(&["istio-clean-iptables"]));
            let after = save();
            assert!(!after.lines().any(|line| line.starts_with("-A")), "{after}");
            assert!(!sh("ip rule; ip -6 rule").contains("133"));
        },
    );
}

#[test]
fn legacy_iptables_takes_the_same_rules() {
    in_namespace("legacy_iptables_takes_the_same_rules", || {
        if !Command::new("iptables-legacy")
            .args(["-t", "nat", "-S"])
            .output()
            .is_ok_and(|output| output.status.success())
        {
            eprintln!(
                "skipped legacy_iptables_takes_the_same_rules: this kernel has no legacy tables"
            );
            return;
        }
        ok(&apply(&[
            "--force-iptables-binary",
            "legacy",
            "--run-validation",
        ]));
        let first = sh("iptables-legacy-save -t nat | grep -v '^#' | cut -d[ -f1");
        ok(&apply(&[
            "--force-iptables-binary",
            "legacy",
            "--force-apply",
        ]));
        assert_eq!(
            sh("iptables-legacy-save -t nat | grep -v '^#' | cut -d[ -f1"),
            first
        );
        ok(&agent(&[
            "istio-clean-iptables",
            "--force-iptables-binary",
            "legacy",
        ]));
        assert!(!sh("iptables-legacy-save").contains("ISTIO"));
    });
}

#[test]
fn validation_fails_with_126_where_no_rules_are() {
    in_namespace("validation_fails_with_126_where_no_rules_are", || {
        let output = apply(&[
            "--skip-rule-apply",
            "--run-validation",
            "--probe-timeout",
            "1s",
        ]);
        assert_eq!(
            output.status.code(),
            Some(126),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(String::from_utf8_lossy(&output.stderr).contains("was not redirected"));
    });
}

#[test]
fn a_socket_mark_exempts_the_proxy_where_users_cannot() {
    in_namespace("a_socket_mark_exempts_the_proxy_where_users_cannot", || {
        ok(&agent(&[
            "istio-iptables",
            "--proxy-mark",
            "0x539",
            "-i",
            "*",
            "-b",
            "*",
            "--run-validation",
        ]));
        let outbound = TcpListener::bind("0.0.0.0:15001").unwrap();
        let waits = thread::spawn(move || accepted(&outbound));
        connect("192.0.2.7:8080").unwrap();
        assert_eq!(waits.join().unwrap(), "192.0.2.7:8080".parse().unwrap());
    });
}

#[test]
fn dry_run_prints_restore_text_and_bad_flags_exit_64() {
    let output = apply(&["--dry-run"]);
    if String::from_utf8_lossy(&output.stderr).contains("no address") {
        eprintln!("skipped dry_run: this machine has no address");
        return;
    }
    ok(&output);
    assert!(String::from_utf8_lossy(&output.stdout).contains("*nat\n-N ISTIO_INBOUND\n"));
    assert_eq!(apply(&["-q", "x"]).status.code(), Some(64));
    assert_eq!(
        agent(&["istio-iptables", "--nonsense"]).status.code(),
        Some(64)
    );
}
