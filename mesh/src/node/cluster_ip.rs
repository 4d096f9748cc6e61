//! ClusterIPs for Pods without a sidecar: the node rewrites their connections to Pod addresses,
//! as kube-proxy does. Pods with a sidecar never get here; their own capture comes first.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

/// Protocol of a Service port as `iptables` writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Ready Pods behind each address and port of a Service.
pub type ClusterIps = BTreeMap<(Ipv4Addr, Protocol, u16), Vec<SocketAddr>>;

const CHAIN: &str = "MESH-SERVICES";

/// Follows the Services until the sender is gone. A failure is logged: only Pods without a
/// sidecar miss something.
pub async fn follow(mut services: watch::Receiver<Arc<ClusterIps>>) {
    let jump = format!(
        "*nat\n:{CHAIN} - [0:0]\n-A PREROUTING -j {CHAIN}\n\
         -A POSTROUTING -m conntrack --ctstate DNAT -j MASQUERADE\nCOMMIT\n"
    );
    if let Err(error) = restore(&jump).await {
        tracing::warn!("ClusterIPs work for Pods with a sidecar only: {error:#}");
        return;
    }
    loop {
        let current = Arc::clone(&services.borrow_and_update());
        if let Err(error) = restore(&rules(&current)).await {
            tracing::warn!("ClusterIPs of Pods without a sidecar: {error:#}");
        }
        if services.changed().await.is_err() {
            return;
        }
    }
}

/// Input for `iptables-restore --noflush` that replaces the chain in one step.
fn rules(services: &ClusterIps) -> String {
    let mut text = format!("*nat\n:{CHAIN} - [0:0]\n");
    for ((ip, protocol, port), targets) in services {
        let protocol = match protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        for (index, target) in targets.iter().enumerate() {
            let left = targets.len() - index;
            let choice = if left > 1 {
                #[expect(clippy::cast_precision_loss, reason = "a few Pods")]
                let share = 1.0 / left as f64;
                format!(" -m statistic --mode random --probability {share:.5}")
            } else {
                String::new()
            };
            // Writing to a text cannot fail.
            let _ = writeln!(
                text,
                "-A {CHAIN} -d {ip}/32 -p {protocol} --dport {port}{choice} -j DNAT --to-destination {target}"
            );
        }
    }
    text.push_str("COMMIT\n");
    text
}

async fn restore(text: &str) -> Result<()> {
    let mut child = tokio::process::Command::new("iptables-restore")
        .arg("--noflush")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start iptables-restore")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(text.as_bytes())
            .await
            .context("write to iptables-restore")?;
    }
    let output = child
        .wait_with_output()
        .await
        .context("wait for iptables-restore")?;
    if !output.status.success() {
        bail!(
            "iptables-restore: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_evenly() {
        let targets = ["10.244.0.5:80", "10.244.0.6:80", "10.244.0.7:80"];
        let targets = targets.iter().map(|text| text.parse().unwrap()).collect();
        let services =
            ClusterIps::from([((Ipv4Addr::new(10, 96, 0, 1), Protocol::Tcp, 8_000), targets)]);
        let text = rules(&services);
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("-A")).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].contains("--probability 0.33333 -j DNAT --to-destination 10.244.0.5:80"));
        assert!(lines[1].contains("--probability 0.50000"));
        assert!(!lines[2].contains("statistic"));
    }
}
