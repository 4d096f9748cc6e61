//! The desired traffic capture, as validated data.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::{
    args::IptablesFlags,
    env::{Env, parse_bool},
};

/// Address family of a rule set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4, `iptables`.
    V4,
    /// IPv6, `ip6tables`.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    /// The prefix length of a single address.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

/// How inbound connections reach the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// NAT; the source address is lost.
    Redirect,
    /// Transparent proxying; the source address is kept.
    Tproxy,
}

/// Inbound ports to capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// None.
    None,
    /// All but these.
    All {
        /// Excluded ports.
        except: Vec<u16>,
    },
    /// Only these.
    Ports(Vec<u16>),
}

/// Outbound destinations to capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cidrs {
    /// None.
    None,
    /// All.
    All,
    /// Only these, both families mixed.
    List(Vec<IpNet>),
}

/// Groups whose processes are captured outbound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// All groups except these names or ids.
    AllExcept(Vec<String>),
    /// Only these names or ids, at most [`MAX_GROUPS`].
    Only(Vec<String>),
}

/// Upper limit of included owner groups.
pub const MAX_GROUPS: usize = 64;

/// Capture of DNS queries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// To any destination, not only to `servers`.
    pub all: bool,
    /// The servers of `resolv.conf`.
    pub servers: Vec<IpAddr>,
}

/// The desired traffic capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Outbound capture port of Envoy.
    pub proxy_port: u16,
    /// Inbound capture port of Envoy.
    pub inbound_port: u16,
    /// Tunnel port, never captured inbound.
    pub tunnel_port: u16,
    /// User ids of the proxy.
    pub proxy_uids: Vec<String>,
    /// Group ids of the proxy.
    pub proxy_gids: Vec<String>,
    /// Socket mark of the proxy, for proxies without a user id of their own.
    pub proxy_mark: Option<u32>,
    /// Inbound mode.
    pub mode: Mode,
    /// Packet mark of TPROXY; the next number is used as well.
    pub tproxy_mark: u32,
    /// Routing table of TPROXY.
    pub tproxy_route_table: u32,
    /// Inbound ports.
    pub inbound: Inbound,
    /// Interfaces that are excluded in both directions.
    pub exclude_interfaces: Vec<String>,
    /// Interfaces whose incoming traffic is treated as outbound.
    pub virtual_interfaces: Vec<String>,
    /// Outbound destinations.
    pub outbound: Cidrs,
    /// Excluded outbound destinations.
    pub exclude_cidrs: Vec<IpNet>,
    /// Outbound ports that are captured for every destination.
    pub outbound_ports: Vec<u16>,
    /// Excluded outbound ports.
    pub exclude_outbound_ports: Vec<u16>,
    /// Captured owner groups.
    pub owner_groups: Groups,
    /// Loopback range of IPv4.
    pub loopback_v4: Ipv4Net,
    /// Drop packets that are invalid for connection tracking.
    pub drop_invalid: bool,
    /// Capture of DNS queries; `None` if disabled.
    pub dns: Option<Dns>,
    /// Write IPv4 rules.
    pub v4: bool,
    /// Write IPv6 rules.
    pub v6: bool,
}

/// Properties of the machine: addresses, name servers, the proxy's user.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Addresses of the Pod, except loopback and link-local ones.
    pub addresses: Vec<IpAddr>,
    /// Name servers of `resolv.conf`.
    pub name_servers: Vec<IpAddr>,
    /// Id of the user `ENVOY_USER`, if it exists here.
    pub proxy_user: Option<u32>,
}

/// A flag or variable with an invalid value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--{flag}: {problem}")]
pub struct Error {
    flag: &'static str,
    problem: String,
}

const DEFAULT_PROXY_ID: &str = "1337";

impl Config {
    /// Combines flags, variables (flags take precedence) and properties of the machine.
    ///
    /// # Errors
    /// If a value is invalid, values contradict each other, or the machine has no address.
    pub fn new(flags: &IptablesFlags, env: &Env, host: &Host) -> Result<Self, Error> {
        let text = |flag: &'static str, given: &Option<String>| -> String {
            given
                .clone()
                .unwrap_or_else(|| env.text(&variable(flag), ""))
        };
        let switch = |flag: &'static str, given: bool, others: &[&str]| -> Result<bool, Error> {
            if given {
                return Ok(true);
            }
            let names =
                std::iter::once(variable(flag)).chain(others.iter().map(|name| (*name).to_owned()));
            for name in names {
                if let Some(value) = env.get(&name) {
                    return parse_bool(value).ok_or_else(|| Error {
                        flag,
                        problem: format!("{name}={value:?} is neither true nor false"),
                    });
                }
            }
            Ok(false)
        };

        let tunnel_port = port(
            "inbound-tunnel-port",
            &text("inbound-tunnel-port", &flags.inbound_tunnel_port),
            15008,
        )?;
        let mut proxy_uids = list(&text("proxy-uid", &flags.proxy_uid));
        let proxy_mark = match text("proxy-mark", &flags.proxy_mark).as_str() {
            "" => None,
            value => Some(mark("proxy-mark", value)?),
        };
        // With a mark the proxy shares its user id with the application: no id may be exempt.
        if proxy_uids.is_empty() && proxy_mark.is_none() {
            proxy_uids.push(
                host.proxy_user
                    .map_or_else(|| DEFAULT_PROXY_ID.to_owned(), |uid| uid.to_string()),
            );
        }
        let mut proxy_gids = list(&text("proxy-gid", &flags.proxy_gid));
        if proxy_gids.is_empty() {
            proxy_gids.clone_from(&proxy_uids);
        }
        let mode = match text(
            "istio-inbound-interception-mode",
            &flags.inbound_interception_mode,
        )
        .as_str()
        {
            "" | "REDIRECT" => Mode::Redirect,
            "TPROXY" => Mode::Tproxy,
            other => {
                return Err(Error {
                    flag: "istio-inbound-interception-mode",
                    problem: format!("{other:?} is neither REDIRECT nor TPROXY"),
                });
            }
        };
        let excluded = ports(
            "istio-local-exclude-ports",
            &text("istio-local-exclude-ports", &flags.local_exclude_ports),
        )?;
        let inbound = match text("istio-inbound-ports", &flags.inbound_ports).as_str() {
            "" => Inbound::None,
            "*" => Inbound::All { except: excluded },
            some => Inbound::Ports(ports("istio-inbound-ports", some)?),
        };
        let outbound = match text("istio-service-cidr", &flags.service_cidr).as_str() {
            "" => Cidrs::None,
            "*" => Cidrs::All,
            some => Cidrs::List(cidrs("istio-service-cidr", some)?),
        };
        let redirect_dns = switch(
            "redirect-dns",
            flags.redirect_dns,
            &["ISTIO_META_DNS_CAPTURE"],
        )?;
        let all_dns = switch("capture-all-dns", flags.capture_all_dns, &[])?;
        let dual_stack = switch("dual-stack", flags.dual_stack, &["ISTIO_DUAL_STACK"])?;
        let Some(first) = host.addresses.first() else {
            return Err(Error {
                flag: "dual-stack",
                problem:
                    "no address found on any interface that is up: the address family is unknown"
                        .to_owned(),
            });
        };
        let v6 = if dual_stack {
            host.addresses.iter().any(IpAddr::is_ipv6)
        } else {
            first.is_ipv6()
        };
        Ok(Self {
            proxy_port: port("envoy-port", &text("envoy-port", &flags.envoy_port), 15001)?,
            inbound_port: port(
                "inbound-capture-port",
                &text("inbound-capture-port", &flags.inbound_capture_port),
                15006,
            )?,
            tunnel_port,
            proxy_uids: ids("proxy-uid", proxy_uids)?,
            proxy_gids: ids("proxy-gid", proxy_gids)?,
            proxy_mark,
            mode,
            tproxy_mark: number(
                "istio-inbound-tproxy-mark",
                &text("istio-inbound-tproxy-mark", &flags.tproxy_mark),
                1337,
            )?,
            tproxy_route_table: number(
                "istio-inbound-tproxy-route-table",
                &text(
                    "istio-inbound-tproxy-route-table",
                    &flags.tproxy_route_table,
                ),
                133,
            )?,
            inbound,
            exclude_interfaces: interfaces(
                "istio-exclude-interfaces",
                &text("istio-exclude-interfaces", &flags.exclude_interfaces),
            )?,
            virtual_interfaces: interfaces(
                "kube-virt-interfaces",
                &text("kube-virt-interfaces", &flags.kube_virt_interfaces),
            )?,
            outbound,
            exclude_cidrs: cidrs(
                "istio-service-exclude-cidr",
                &text("istio-service-exclude-cidr", &flags.service_exclude_cidr),
            )?,
            outbound_ports: ports(
                "istio-outbound-ports",
                &text("istio-outbound-ports", &flags.outbound_ports),
            )?,
            exclude_outbound_ports: ports(
                "istio-local-outbound-ports-exclude",
                &text(
                    "istio-local-outbound-ports-exclude",
                    &flags.local_outbound_ports_exclude,
                ),
            )?,
            owner_groups: groups(env)?,
            loopback_v4: loopback(env)?,
            drop_invalid: switch("drop-invalid", flags.drop_invalid, &["INVALID_DROP"])?,
            dns: (redirect_dns || all_dns)
                .then(|| Dns {
                    all: all_dns,
                    servers: host.name_servers.clone(),
                })
                .filter(|dns| dns.all || !dns.servers.is_empty()),
            v4: dual_stack || first.is_ipv4(),
            v6,
        })
    }

    /// Address families to write rules for.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        [(self.v4, Family::V4), (self.v6, Family::V6)]
            .into_iter()
            .filter(|(on, _)| *on)
            .map(|(_, family)| family)
            .collect()
    }

    /// Whether a captured range is a loopback range: then local calls of the application are
    /// captured, too.
    #[must_use]
    pub fn captures_loopback(&self) -> bool {
        match &self.outbound {
            Cidrs::List(list) => list.iter().any(|cidr| cidr.addr().is_loopback()),
            Cidrs::None | Cidrs::All => false,
        }
    }
}

/// The environment variable of a flag.
#[must_use]
pub fn variable(flag: &str) -> String {
    flag.to_ascii_uppercase().replace('-', "_")
}

fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

fn number(flag: &'static str, text: &str, default: u32) -> Result<u32, Error> {
    if text.is_empty() {
        return Ok(default);
    }
    text.parse().map_err(|_| Error {
        flag,
        problem: format!("{text:?} is not a number from 0 to {}", u32::MAX),
    })
}

fn mark(flag: &'static str, text: &str) -> Result<u32, Error> {
    let parsed = text.strip_prefix("0x").map_or_else(
        || text.parse().ok(),
        |hex| u32::from_str_radix(hex, 16).ok(),
    );
    parsed.filter(|mark| *mark != 0).ok_or_else(|| Error {
        flag,
        problem: format!("{text:?} is not a socket mark: 1 or more, decimal or 0x…"),
    })
}

fn port(flag: &'static str, text: &str, default: u16) -> Result<u16, Error> {
    if text.is_empty() {
        return Ok(default);
    }
    text.parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| Error {
            flag,
            problem: format!("{text:?} is not a port (1 to 65535)"),
        })
}

fn ports(flag: &'static str, text: &str) -> Result<Vec<u16>, Error> {
    list(text).iter().map(|item| port(flag, item, 0)).collect()
}

fn cidrs(flag: &'static str, text: &str) -> Result<Vec<IpNet>, Error> {
    list(text)
        .iter()
        .map(|item| {
            let parsed = item
                .parse::<IpNet>()
                .ok()
                .or_else(|| item.parse::<IpAddr>().ok().map(IpNet::from));
            parsed.map(|net| net.trunc()).ok_or_else(|| Error {
                flag,
                problem: format!("{item:?} is not a CIDR range such as 10.0.0.0/8"),
            })
        })
        .collect()
}

fn ids(flag: &'static str, ids: Vec<String>) -> Result<Vec<String>, Error> {
    match ids.iter().find(|id| id.parse::<u32>().is_err()) {
        Some(bad) => Err(Error {
            flag,
            problem: format!("{bad:?} is not a numeric id"),
        }),
        None => Ok(ids),
    }
}

/// Names become part of the restore text: only what the kernel allows, without separators.
fn interfaces(flag: &'static str, text: &str) -> Result<Vec<String>, Error> {
    let names = list(text);
    match names.iter().find(|name| !is_word(name) || name.len() > 15) {
        Some(bad) => Err(Error {
            flag,
            problem: format!("{bad:?} is not a valid interface name"),
        }),
        None => Ok(names),
    }
}

fn is_word(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '@' | ':'))
        && !text.starts_with('-')
}

fn groups(env: &Env) -> Result<Groups, Error> {
    const INCLUDE: &str = "ISTIO_OUTBOUND_OWNER_GROUPS";
    let include = env.text(INCLUDE, "*");
    let exclude = list(&env.text("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", ""));
    let (groups, all) = if include.trim() == "*" {
        (exclude, true)
    } else {
        (list(&include), false)
    };
    if let Some(bad) = groups.iter().find(|group| !is_word(group)) {
        return Err(Error {
            flag: INCLUDE,
            problem: format!("{bad:?} is not a valid group name or id"),
        });
    }
    if !all && groups.len() > MAX_GROUPS {
        return Err(Error {
            flag: INCLUDE,
            problem: format!(
                "too many groups: {}, at most {MAX_GROUPS} are allowed",
                groups.len()
            ),
        });
    }
    Ok(if all || groups.is_empty() {
        Groups::AllExcept(groups)
    } else {
        Groups::Only(groups)
    })
}

fn loopback(env: &Env) -> Result<Ipv4Net, Error> {
    const NAME: &str = "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR";
    let text = env.text(NAME, "127.0.0.1/32");
    text.parse::<Ipv4Net>()
        .ok()
        .filter(|net| net.addr().is_loopback() && net.prefix_len() >= 8)
        .ok_or_else(|| Error {
            flag: NAME,
            problem: format!("{text:?} is not a CIDR range within 127.0.0.0/8"),
        })
}

/// The name servers in a `resolv.conf`; scoped and invalid addresses are skipped.
#[must_use]
pub fn name_servers(resolv_conf: &str) -> Vec<IpAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
        })
        .collect()
}
