//! The addresses of this Pod and the settings that follow from their families.

use std::{io, net::IpAddr};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

/// All addresses of interfaces that are up, except loopback and link-local addresses and those of
/// the interfaces in `excluded`; in the order of the kernel, without duplicates.
///
/// If the kernel does not list the interfaces.
/// The kernel does not list the interfaces.
pub fn own(excluded: &[String]) -> io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    for interface in getifaddrs()? {
        let up = interface.flags.contains(InterfaceFlags::IFF_UP)
            && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)
            && !excluded.contains(&interface.interface_name);
        let Some(address) = interface.address.filter(|_| up) else {
            continue;
        };
        let address: Option<IpAddr> = address
            .as_sockaddr_in()
            .map(|v4| v4.ip().into())
            .or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()));
        if let Some(address) = address.filter(is_usable)
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    // IPv4 first, as the family of the first address decides when no address is configured.
    found.sort_by_key(IpAddr::is_ipv6);
    Ok(found)
}

fn is_usable(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !link_local && !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
}

/// The instance addresses: the configured ones first, then those of the interfaces.
#[must_use]
pub fn merge(given: &[IpAddr], own: &[IpAddr]) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = Vec::new();
    for address in given.iter().chain(own) {
        if !all.contains(address) {
            all.push(*address);
        }
    }
    all
}

/// Settings that follow from the address families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    /// The first address is IPv6.
    pub first_is_v6: bool,
    /// Every address is IPv6.
    pub only_v6: bool,
    /// Both families are served.
    pub dual: bool,
}

impl Families {
    /// Evaluates the addresses; `dual_stack` allows both families at once.
    #[must_use]
    pub fn of(addresses: &[IpAddr], dual_stack: bool) -> Self {
        let any = |v6: bool| addresses.iter().any(|address| address.is_ipv6() == v6);
        Self {
            first_is_v6: addresses.first().is_some_and(IpAddr::is_ipv6),
            only_v6: any(true) && !any(false),
            dual: dual_stack && any(true) && any(false),
        }
    }

    /// The loopback address of the first family.
    #[must_use]
    pub const fn localhost(self) -> &'static str {
        if self.first_is_v6 { "::1" } else { "127.0.0.1" }
    }

    /// The wildcard address of the first family.
    #[must_use]
    pub const fn wildcard(self) -> &'static str {
        if self.first_is_v6 { "::" } else { "0.0.0.0" }
    }

    /// The wildcard address of the other family, with dual stack only.
    #[must_use]
    pub const fn other_wildcard(self) -> Option<&'static str> {
        match (self.dual, self.first_is_v6) {
            (false, _) => None,
            (true, true) => Some("0.0.0.0"),
            (true, false) => Some("::"),
        }
    }

    /// Envoy's DNS lookup family.
    #[must_use]
    pub const fn dns(self) -> &'static str {
        match (self.dual, self.first_is_v6) {
            (true, _) => "ALL",
            (false, true) => "V6_ONLY",
            (false, false) => "V4_ONLY",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_follow_the_first_address_and_dual_stack() {
        let v4: IpAddr = "10.0.0.1".parse().unwrap();
        let v6: IpAddr = "fd00::1".parse().unwrap();
        assert_eq!(Families::of(&[v4], true).dns(), "V4_ONLY");
        assert_eq!(Families::of(&[v6, v4], false).dns(), "V6_ONLY");
        assert!(!Families::of(&[v6, v4], false).only_v6);
        let both = Families::of(&[v4, v6], true);
        assert_eq!(
            (both.dns(), both.wildcard(), both.other_wildcard()),
            ("ALL", "0.0.0.0", Some("::"))
        );
        assert_eq!(Families::of(&[v6], false).localhost(), "::1");
    }

    #[test]
    fn given_addresses_come_first_and_only_once() {
        let a: IpAddr = "10.0.0.1".parse().unwrap();
        let b: IpAddr = "10.0.0.2".parse().unwrap();
        assert_eq!(merge(&[b], &[a, b]), [b, a]);
    }
}
