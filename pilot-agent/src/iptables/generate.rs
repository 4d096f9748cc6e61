//! Generates the rules of one address family. Pure. The order of the rules is significant; the
//! numbers are the steps in README.md, "Traffic capture".

use super::{
    config::{Cidrs, Config, Family, Groups, Inbound, Mode},
    ruleset::{Ruleset, Table},
};

const IN: &str = "ISTIO_INBOUND";
const OUT: &str = "ISTIO_OUTPUT";
const REDIRECT: &str = "ISTIO_REDIRECT";
const IN_REDIRECT: &str = "ISTIO_IN_REDIRECT";
const DIVERT: &str = "ISTIO_DIVERT";
const TPROXY: &str = "ISTIO_TPROXY";
const DROP: &str = "ISTIO_DROP";
const DNS: &str = "ISTIO_OUTPUT_DNS";
const PREROUTING: &str = "PREROUTING";
const OUTPUT: &str = "OUTPUT";

/// Port of the agent's DNS proxy.
const DNS_PROXY_PORT: u16 = 15053;
/// Connection tracking zones that separate application→agent from agent→server.
const ZONE_SERVER: u8 = 1;
const ZONE_AGENT: u8 = 2;

/// All rules of one family.
#[must_use]
pub fn rules(config: &Config, family: Family) -> Ruleset {
    let mut build = Build {
        config,
        family,
        rules: Ruleset::default(),
    };
    build.interfaces();
    build.drop_invalid();
    build.redirect_chains();
    build.inbound();
    build.outbound_entry();
    build.proxy_owner();
    build.owner_groups();
    build.dns();
    build.outbound_destinations();
    build.tproxy();
    build.rules
}

struct Build<'a> {
    config: &'a Config,
    family: Family,
    rules: Ruleset,
}

impl Build<'_> {
    fn nat(&mut self, chain: &'static str, spec: impl Into<String>) {
        self.rules.append(Table::Nat, chain, spec);
    }

    fn mangle(&mut self, chain: &'static str, spec: impl Into<String>) {
        self.rules.append(Table::Mangle, chain, spec);
    }

    fn loopback(&self) -> String {
        match self.family {
            Family::V4 => self.config.loopback_v4.to_string(),
            Family::V6 => "::1/128".to_owned(),
        }
    }

    fn own_source(&self) -> &'static str {
        match self.family {
            Family::V4 => "127.0.0.6/32",
            Family::V6 => "::6/128",
        }
    }

    fn dns_servers(&self) -> Vec<String> {
        self.config
            .dns
            .iter()
            .flat_map(|dns| &dns.servers)
            .filter(|server| Family::of(**server) == self.family)
            .map(|server| format!("{server}/{}", self.family.bits()))
            .collect()
    }

    /// Whether DNS is captured for this family.
    fn captures_dns(&self) -> bool {
        self.config
            .dns
            .as_ref()
            .is_some_and(|dns| dns.all || !self.dns_servers().is_empty())
    }

    // 1, 2
    fn interfaces(&mut self) {
        for interface in &self.config.exclude_interfaces {
            let (incoming, outgoing) = (
                format!("-i {interface} -j RETURN"),
                format!("-o {interface} -j RETURN"),
            );
            self.nat(PREROUTING, incoming.clone());
            self.nat(OUTPUT, outgoing.clone());
            if self.config.mode == Mode::Tproxy {
                self.mangle(PREROUTING, incoming);
                self.mangle(OUTPUT, outgoing);
            }
        }
        for interface in &self.config.virtual_interfaces {
            self.rules.insert(
                Table::Nat,
                PREROUTING,
                1,
                format!("-i {interface} -j RETURN"),
            );
        }
    }

    // 3
    fn drop_invalid(&mut self) {
        if self.config.drop_invalid {
            self.mangle(
                PREROUTING,
                format!("-m conntrack --ctstate INVALID -j {DROP}"),
            );
            self.mangle(DROP, "-j DROP");
        }
    }

    // 4
    fn redirect_chains(&mut self) {
        let Config {
            proxy_port,
            inbound_port,
            tunnel_port,
            ..
        } = *self.config;
        self.nat(IN, format!("-p tcp --dport {tunnel_port} -j RETURN"));
        self.nat(
            REDIRECT,
            format!("-p tcp -j REDIRECT --to-ports {proxy_port}"),
        );
        self.nat(
            IN_REDIRECT,
            format!("-p tcp -j REDIRECT --to-ports {inbound_port}"),
        );
    }

    // 5
    fn inbound(&mut self) {
        let config = self.config;
        if config.inbound == Inbound::None {
            return;
        }
        let table = match config.mode {
            Mode::Redirect => Table::Nat,
            Mode::Tproxy => Table::Mangle,
        };
        if config.mode == Mode::Tproxy {
            let Config {
                tproxy_mark: mark,
                inbound_port,
                ..
            } = *config;
            let loopback = self.loopback();
            self.mangle(DIVERT, format!("-j MARK --set-mark {mark}"));
            self.mangle(DIVERT, "-j ACCEPT");
            self.mangle(
                TPROXY,
                format!("! -d {loopback} -p tcp -j TPROXY --tproxy-mark {mark}/0xffffffff --on-port {inbound_port}"),
            );
        }
        self.rules
            .append(table, PREROUTING, format!("-p tcp -j {IN}"));
        let matches = match &config.inbound {
            Inbound::None => Vec::new(),
            Inbound::All { except } => {
                for port in except {
                    self.rules
                        .append(table, IN, format!("-p tcp --dport {port} -j RETURN"));
                }
                vec!["-p tcp".to_owned()]
            }
            Inbound::Ports(ports) => ports
                .iter()
                .map(|port| format!("-p tcp --dport {port}"))
                .collect(),
        };
        for what in matches {
            match config.mode {
                Mode::Redirect => self.nat(IN, format!("{what} -j {IN_REDIRECT}")),
                Mode::Tproxy => {
                    self.mangle(
                        IN,
                        format!("{what} -m conntrack --ctstate RELATED,ESTABLISHED -j {DIVERT}"),
                    );
                    self.mangle(IN, format!("{what} -j {TPROXY}"));
                }
            }
        }
    }

    // 6, 7, 8
    fn outbound_entry(&mut self) {
        self.nat(OUTPUT, format!("-j {OUT}"));
        for port in &self.config.exclude_outbound_ports {
            self.nat(OUT, format!("-p tcp --dport {port} -j RETURN"));
            self.nat(OUT, format!("-p udp --dport {port} -j RETURN"));
        }
        self.nat(OUT, format!("-o lo -s {} -j RETURN", self.own_source()));
    }

    // 9, 10, and the same three rules for the proxy's socket mark
    fn proxy_owner(&mut self) {
        let (loopback, tunnel) = (self.loopback(), self.config.tunnel_port);
        let dns = self.captures_dns();
        let not_tunnel = format!("-p tcp ! --dport {tunnel}");
        let not_dns = format!("-p tcp -m multiport ! --dports 53,{tunnel}");
        let owners = self
            .config
            .proxy_uids
            .iter()
            .map(|uid| {
                (
                    format!("--uid-owner {uid}"),
                    "owner",
                    if dns { &not_dns } else { &not_tunnel },
                )
            })
            .chain(
                self.config
                    .proxy_gids
                    .iter()
                    .map(|gid| (format!("--gid-owner {gid}"), "owner", &not_tunnel)),
            )
            .chain(self.config.proxy_mark.iter().map(|mark| {
                (
                    format!("--mark {mark:#x}"),
                    "mark",
                    if dns { &not_dns } else { &not_tunnel },
                )
            }))
            .collect::<Vec<_>>();
        let skip_loopback = !self.config.captures_loopback();
        for (owner, module, ports) in owners {
            self.nat(
                OUT,
                format!("-o lo ! -d {loopback} {ports} -m {module} {owner} -j {IN_REDIRECT}"),
            );
            if skip_loopback {
                let not_dns = if dns { " -p tcp ! --dport 53" } else { "" };
                self.nat(
                    OUT,
                    format!("-o lo{not_dns} -m {module} ! {owner} -j RETURN"),
                );
            }
            self.nat(OUT, format!("-m {module} {owner} -j RETURN"));
        }
    }

    // 11
    fn owner_groups(&mut self) {
        match &self.config.owner_groups {
            Groups::AllExcept(groups) => {
                for group in groups {
                    self.nat(OUT, format!("-m owner --gid-owner {group} -j RETURN"));
                }
            }
            Groups::Only(groups) => {
                let mut spec = String::new();
                for group in groups {
                    spec.push_str(&format!("-m owner ! --gid-owner {group} "));
                }
                self.nat(OUT, format!("{spec}-j RETURN"));
            }
        }
    }

    // 12
    fn dns(&mut self) {
        if !self.captures_dns() {
            return;
        }
        let all = self.config.dns.as_ref().is_some_and(|dns| dns.all);
        let servers = if all { Vec::new() } else { self.dns_servers() };
        let toward = |direction: &str| -> Vec<String> {
            if all {
                vec![String::new()]
            } else {
                servers
                    .iter()
                    .map(|server| format!(" {direction} {server}"))
                    .collect()
            }
        };
        self.nat(OUT, format!("-j {DNS}"));
        for protocol in ["tcp", "udp"] {
            for server in toward("-d") {
                self.nat(
                    DNS,
                    format!(
                        "-p {protocol} --dport 53{server} -j REDIRECT --to-ports {DNS_PROXY_PORT}"
                    ),
                );
            }
        }
        let raw =
            |build: &mut Self, chain, spec: String| build.rules.append(Table::Raw, chain, spec);
        raw(self, OUTPUT, format!("-j {DNS}"));
        let config = self.config;
        let owners = config
            .proxy_uids
            .iter()
            .map(|uid| format!("-m owner --uid-owner {uid}"))
            .chain(
                config
                    .proxy_gids
                    .iter()
                    .map(|gid| format!("-m owner --gid-owner {gid}")),
            )
            .chain(
                config
                    .proxy_mark
                    .iter()
                    .map(|mark| format!("-m mark --mark {mark:#x}")),
            );
        for owner in owners {
            raw(
                self,
                DNS,
                format!("-p udp --dport 53 {owner} -j CT --zone {ZONE_SERVER}"),
            );
            raw(
                self,
                DNS,
                format!("-p udp --sport {DNS_PROXY_PORT} {owner} -j CT --zone {ZONE_AGENT}"),
            );
        }
        raw(self, PREROUTING, format!("-j {IN}"));
        for server in toward("-d") {
            raw(
                self,
                DNS,
                format!("-p udp --dport 53{server} -j CT --zone {ZONE_AGENT}"),
            );
        }
        for server in toward("-s") {
            raw(
                self,
                IN,
                format!("-p udp --sport 53{server} -j CT --zone {ZONE_SERVER}"),
            );
        }
    }

    // 13, 14
    fn outbound_destinations(&mut self) {
        let family = self.family;
        let loopback = self.loopback();
        self.nat(OUT, format!("-d {loopback} -j RETURN"));
        for cidr in self
            .config
            .exclude_cidrs
            .iter()
            .filter(|cidr| Family::of(cidr.addr()) == family)
        {
            self.nat(OUT, format!("-d {cidr} -j RETURN"));
        }
        for port in &self.config.outbound_ports {
            self.nat(OUT, format!("-p tcp --dport {port} -j {REDIRECT}"));
        }
        let destinations: Vec<String> = match &self.config.outbound {
            Cidrs::None => Vec::new(),
            Cidrs::All => vec![String::new()],
            Cidrs::List(list) => list
                .iter()
                .filter(|cidr| Family::of(cidr.addr()) == family)
                .map(|cidr| format!("-d {cidr} "))
                .collect(),
        };
        for destination in destinations {
            self.nat(OUT, format!("{destination}-j {REDIRECT}"));
            for interface in &self.config.virtual_interfaces {
                self.rules.insert(
                    Table::Nat,
                    PREROUTING,
                    1,
                    format!("-i {interface} {destination}-j {REDIRECT}"),
                );
            }
        }
    }

    // 15
    fn tproxy(&mut self) {
        if self.config.mode != Mode::Tproxy {
            return;
        }
        let config = self.config;
        let (loopback, mark, own) = (self.loopback(), config.tproxy_mark, self.own_source());
        let to_proxy = mark.saturating_add(1);
        self.mangle(
            PREROUTING,
            format!("-p tcp -m mark --mark {mark} -j CONNMARK --save-mark"),
        );
        self.mangle(
            OUTPUT,
            format!("-p tcp -o lo -m mark --mark {mark} -j RETURN"),
        );
        let owners = config
            .proxy_uids
            .iter()
            .map(|uid| format!("--uid-owner {uid}"))
            .chain(
                config
                    .proxy_gids
                    .iter()
                    .map(|gid| format!("--gid-owner {gid}")),
            );
        for owner in owners {
            self.mangle(
                OUTPUT,
                format!(
                    "! -d {loopback} -p tcp -o lo -m owner {owner} -j MARK --set-mark {to_proxy}"
                ),
            );
        }
        self.mangle(
            OUTPUT,
            format!("-p tcp -m connmark --mark {mark} -j CONNMARK --restore-mark"),
        );
        self.rules.insert(
            Table::Mangle,
            IN,
            1,
            format!("-p tcp -m mark --mark {mark} -j RETURN"),
        );
        self.rules.insert(
            Table::Mangle,
            IN,
            2,
            format!("-p tcp -s {own} -i lo -j RETURN"),
        );
        self.rules.insert(
            Table::Mangle,
            IN,
            3,
            format!("-p tcp -i lo -m mark ! --mark {to_proxy} -j RETURN"),
        );
    }
}

#[cfg(test)]
mod tests;
