//! Addresses and names of one of the clusters that a machine can hold side by side.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The number of a cluster, from which everything follows that must differ between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Number(u8);

impl Number {
    /// Largest number.
    pub const MAX: u8 = 99;

    /// `None` above [`Self::MAX`].
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        (number <= Self::MAX).then_some(Self(number))
    }

    /// The host's end of the cable to the node.
    #[must_use]
    pub fn host(self) -> Ipv4Addr {
        Ipv4Addr::new(172, 30, self.0, 1)
    }

    /// The node's address: the API server listens there on port 6443.
    #[must_use]
    pub fn node(self) -> Ipv4Addr {
        Ipv4Addr::new(172, 30, self.0, 2)
    }

    /// Range of Pods.
    #[must_use]
    pub fn pods(self) -> String {
        format!("10.244.{}.0/24", self.0)
    }

    /// Range of Services.
    #[must_use]
    pub fn services(self) -> String {
        format!("{}/16", self.service(0))
    }

    /// Service `kubernetes`.
    #[must_use]
    pub fn api_service(self) -> Ipv4Addr {
        self.service(1)
    }

    /// Service `kube-dns`.
    #[must_use]
    pub fn dns(self) -> Ipv4Addr {
        self.service(10)
    }

    fn service(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + self.0, 0, last)
    }

    /// Interface on the host.
    #[must_use]
    pub fn host_link(self) -> String {
        format!("keelson{}h", self.0)
    }

    /// Interface in the node.
    #[must_use]
    pub fn node_link(self) -> String {
        format!("keelson{}n", self.0)
    }

    /// Control group below which the kubelet puts its Pods.
    #[must_use]
    pub fn cgroup(self) -> String {
        format!("keelson{}", self.0)
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().ok().and_then(Self::new).ok_or_else(|| {
            format!(
                "{text:?} is not the number of a cluster: want 0 to {}",
                Self::MAX
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clusters_share_nothing() {
        let [first, second] = [0, 1].map(|number| Number::new(number).unwrap());
        assert_ne!(first.node(), second.node());
        assert_ne!(first.pods(), second.pods());
        assert_ne!(first.services(), second.services());
        assert_ne!(first.host_link(), second.host_link());
        assert_ne!(first.cgroup(), second.cgroup());
        // Names of interfaces have at most 15 bytes.
        assert!(Number::new(Number::MAX).unwrap().host_link().len() <= 15);
        assert!("100".parse::<Number>().is_err());
    }
}
