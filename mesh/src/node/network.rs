//! The node's network: one bridge in the node's namespace, one veth per Pod, addresses.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use super::sandbox::{Sandbox, ip_batch};

/// Address of the node on the bridge: gateway, DNS server and `status.hostIP` of every Pod.
pub const NODE_IP: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// Bits of the Pods' network.
const PREFIX: u8 = 16;
/// First address of the ClusterIP range, 10.96.0.0/16.
const SERVICE_BASE: u32 = u32::from_be_bytes([10, 96, 0, 0]);
/// Addresses handed out of each /16: without the network, the node and the broadcast address.
const RANGE: u32 = 65_533;
const BRIDGE: &str = "mesh0";

/// Hands out addresses in order and returns to the start only at the end of the range, so that
/// an address is not soon somebody else's.
#[derive(Debug)]
pub struct Addresses {
    base: u32,
    next: u32,
}

impl Addresses {
    /// Pod addresses, from 10.244.0.2.
    #[must_use]
    pub fn pods() -> Self {
        Self {
            base: u32::from(NODE_IP) + 1,
            next: 0,
        }
    }

    /// ClusterIPs, from 10.96.0.1.
    #[must_use]
    pub fn services() -> Self {
        Self {
            base: SERVICE_BASE + 1,
            next: 0,
        }
    }

    /// The next address that `taken` does not refuse; `None` when all are in use.
    pub fn take(&mut self, taken: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        for _ in 0..RANGE {
            let candidate = Ipv4Addr::from(self.base + self.next);
            self.next = (self.next + 1) % RANGE;
            if !taken(candidate) {
                return Some(candidate);
            }
        }
        None
    }
}

/// Makes the bridge in the calling thread's network namespace, which must be the node's own.
///
/// # Errors
/// When `ip` refuses, for example because the kernel has no bridge.
pub fn set_up_node() -> Result<()> {
    ip_batch(&format!(
        "link set lo up\n\
         link add {BRIDGE} type bridge\n\
         addr add {NODE_IP}/{PREFIX} dev {BRIDGE}\n\
         link set {BRIDGE} up\n\
         route add unreachable default\n"
    ))
    .context("make the bridge")?;
    // Packets to a ClusterIP that nothing captured are answered, not swallowed.
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("switch forwarding on")
}

/// Makes the namespaces of a Pod and connects them to the bridge. `index` must be unique while
/// the Pod lives; it names the node's end of the cable.
///
/// # Errors
/// When the kernel or `ip` refuses.
pub async fn connect_pod(
    index: u64,
    hostname: String,
    address: Ipv4Addr,
    mut sysctls: Vec<(String, String)>,
) -> Result<Sandbox> {
    // Pods are IPv4 only; duplicate address detection would only cost time.
    sysctls.insert(
        0,
        (
            "net.ipv6.conf.default.disable_ipv6".to_owned(),
            "1".to_owned(),
        ),
    );
    // As container runtimes do: no capability is needed for port 80.
    sysctls.insert(
        1,
        (
            "net.ipv4.ip_unprivileged_port_start".to_owned(),
            "0".to_owned(),
        ),
    );
    let peer = format!("veth{index}");
    // The node is pid 1, so "netns 1" is the node's namespace.
    let links = format!(
        "link set lo up\n\
         link add eth0 type veth peer name {peer} netns 1\n\
         addr add {address}/{PREFIX} dev eth0\n\
         link set eth0 up\n\
         route add default via {NODE_IP}\n"
    );
    let sandbox = Sandbox::create(hostname, sysctls, links).await?;
    tokio::task::spawn_blocking(move || ip_batch(&format!("link set {peer} master {BRIDGE} up\n")))
        .await
        .context("connect the Pod to the bridge")??;
    Ok(sandbox)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_not_reused_soon_and_taken_ones_are_skipped() {
        let mut pods = Addresses::pods();
        assert_eq!(pods.take(|_| false), Some(Ipv4Addr::new(10, 244, 0, 2)));
        assert_eq!(
            pods.take(|ip| ip == Ipv4Addr::new(10, 244, 0, 3)),
            Some(Ipv4Addr::new(10, 244, 0, 4))
        );
        assert_eq!(
            Addresses::services().take(|_| false),
            Some(Ipv4Addr::new(10, 96, 0, 1))
        );
        assert_eq!(Addresses::pods().take(|_| true), None);
    }
}
