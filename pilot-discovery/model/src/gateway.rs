//! The Gateways of one workload, merged: which servers share a port, and which are rejected.

use std::{collections::BTreeSet, sync::Arc};

use istio_api::networking::v1alpha3::{self as api, server_tls_settings::TlSmode as TlsMode};

use crate::{
    class::Client,
    config::{Config, ConfigRef},
    host::Host,
    lookup::Lookup,
    protocol::Protocol,
    virtual_service::VirtualService,
};

/// Ports below this one need a privilege that some gateways do not have.
const FIRST_UNPRIVILEGED_PORT: u32 = 1024;

/// The servers of all Gateways that select one workload.
#[derive(Clone, Debug, Default)]
pub struct Merged<'a> {
    /// Sorted by number, then bind address.
    pub ports: Vec<Port<'a>>,
    /// Servers that were left out, in order.
    pub rejected: Vec<Rejected>,
}

/// A port and address on which the gateway listens.
#[derive(Clone, Debug)]
pub struct Port<'a> {
    /// Port on which the gateway listens: the Pod's port for the port that the servers name.
    pub number: u32,
    /// Bind address; empty for all addresses of the gateway.
    pub bind: &'a str,
    /// What the servers of the port have in common.
    pub kind: PortKind,
    /// In the order of their Gateways' age.
    pub servers: Vec<Server<'a>>,
}

/// Kind of a port, decided by its first server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// Plain-text HTTP; servers share one route configuration.
    Http,
    /// Plain-text connections to a single server.
    Tcp,
    /// TLS; servers are selected by server name.
    Tls,
}

/// How a server treats TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// No TLS.
    None,
    /// Terminated by the gateway.
    Terminated,
    /// Forwarded by server name according to VirtualServices.
    Passthrough,
    /// Forwarded by server name to the service that it names.
    AutoPassthrough,
}

/// One server that was accepted.
#[derive(Clone, Debug)]
pub struct Server<'a> {
    /// The Gateway.
    pub gateway: &'a Arc<Config<api::Gateway>>,
    /// The server as it is written.
    pub spec: &'a api::Server,
    /// Protocol of the port.
    pub protocol: Protocol,
    /// Port number in the Gateway: that of the gateway's Service.
    pub port: u32,
    /// Name of the port (`server.port.name`).
    pub port_name: &'a str,
    /// Hosts that it serves.
    pub hosts: Vec<ServerHost>,
    /// How TLS is handled.
    pub tls: Tls,
}

/// A host that a server accepts, and the namespace whose VirtualServices may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHost {
    /// `None` for any namespace.
    pub namespace: Option<Arc<str>>,
    /// The host, written in full.
    pub host: Host,
}

/// A server that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The Gateway.
    pub gateway: ConfigRef,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl ServerHost {
    /// Reads `namespace/host`, `./host`, `*/host` or `host`.
    fn parse(text: &str, own: &Arc<str>) -> Self {
        let (namespace, host) = match text.split_once('/') {
            None | Some(("*", _)) => (None, text.rsplit('/').next().unwrap_or(text)),
            Some((".", host)) => (Some(own.clone()), host),
            Some((namespace, host)) => (Some(namespace.into()), host),
        };
        Self {
            namespace,
            host: Host::new(host),
        }
    }

    /// The intersection of `host` of `namespace` with this one: the more specific of the two.
    pub fn common(&self, namespace: &str, host: &Host) -> Option<Host> {
        if self
            .namespace
            .as_deref()
            .is_some_and(|own| own != namespace)
        {
            None
        } else if host.subset_of(&self.host) {
            Some(host.clone())
        } else if self.host.subset_of(host) {
            Some(self.host.clone())
        } else {
            None
        }
    }
}

impl Server<'_> {
    /// `<namespace>/<name>` of its Gateway, as VirtualServices name it.
    pub fn gateway_name(&self) -> String {
        format!("{}/{}", self.gateway.namespace(), self.gateway.name())
    }

    /// Whether HTTP requests are routed, rather than connections.
    pub fn is_http(&self) -> bool {
        self.protocol.is_http() || (self.protocol == Protocol::Https && self.tls == Tls::Terminated)
    }

    /// Whether plain-text requests are redirected to HTTPS.
    pub fn redirects_to_https(&self) -> bool {
        self.spec.tls.as_ref().is_some_and(|tls| tls.https_redirect)
    }

    /// Hosts that `vs` may serve here, without duplicates, in the order of the VirtualService.
    pub fn common_hosts(&self, vs: &VirtualService) -> Vec<Host> {
        let mut hosts: Vec<Host> = Vec::new();
        for claimed in &vs.hosts {
            for own in &self.hosts {
                if let Some(host) = own.common(vs.namespace(), claimed)
                    && !hosts.contains(&host)
                {
                    hosts.push(host);
                }
            }
        }
        hosts
    }

    /// Distinct hosts without their namespaces, sorted.
    pub fn plain_hosts(&self) -> BTreeSet<Host> {
        self.hosts.iter().map(|own| own.host.clone()).collect()
    }
}

/// Merges the Gateways that select the workloads of `client`, the oldest first.
pub fn merge<'a>(client: &Client<'a>) -> Merged<'a> {
    let mut merging = Merging::default();
    for gateway in client.snapshot.gateways_for(&client.class.labels) {
        for (at, spec) in gateway.spec.servers.iter().enumerate() {
            let server = match read(gateway, spec) {
                Ok(server) => server,
                Err(reason) => {
                    merging.reject(gateway, at, &reason);
                    continue;
                }
            };
            let number = listen_port(client, server.port);
            if client.class.unprivileged && number < FIRST_UNPRIVILEGED_PORT {
                let reason = format!("the gateway may not bind port {number}; use 1024 or higher");
                merging.reject(gateway, at, &reason);
            } else if let Err(reason) = merging.place(server, number) {
                merging.reject(gateway, at, &reason);
            }
        }
    }
    merging
        .merged
        .ports
        .sort_by(|a, b| (a.number, a.bind).cmp(&(b.number, b.bind)));
    merging.merged
}

fn read<'a>(
    gateway: &'a Arc<Config<api::Gateway>>,
    spec: &'a api::Server,
) -> Result<Server<'a>, String> {
    let port = spec
        .port
        .as_ref()
        .ok_or("no port: set port.number, port.name, port.protocol")?;
    if !(1..=65535).contains(&port.number) {
        return Err(format!(
            "port.number {} is not between 1 and 65535",
            port.number
        ));
    }
    let protocol = Protocol::parse(&port.protocol);
    if protocol == Protocol::Udp {
        return Err("protocol UDP is not supported".to_owned());
    }
    // For plain HTTP, TLS settings only configure the redirect.
    let tls = match spec
        .tls
        .as_ref()
        .filter(|_| !protocol.is_http())
        .map(|tls| tls.mode())
    {
        None => Tls::None,
        Some(TlsMode::Passthrough) => Tls::Passthrough,
        Some(TlsMode::AutoPassthrough) => Tls::AutoPassthrough,
        Some(_) => Tls::Terminated,
    };
    if tls == Tls::None && protocol.is_tls() {
        return Err(format!("protocol {} needs tls settings", protocol.as_str()));
    }
    let own = &gateway.reference.namespace;
    Ok(Server {
        gateway,
        spec,
        protocol,
        port: port.number,
        port_name: &port.name,
        hosts: spec
            .hosts
            .iter()
            .map(|host| ServerHost::parse(host, own))
            .collect(),
        tls,
    })
}

/// The Pod's port for `port` of the first Service that the gateway implements.
fn listen_port(client: &Client<'_>, port: u32) -> u32 {
    let mut found: Vec<(&_, u32)> = client
        .class
        .targets
        .iter()
        .filter_map(|target| {
            let service = client.snapshot.service(&target.service)?;
            let exposed = service.ports.iter().find(|p| p.name == target.port_name)?;
            (exposed.number == port).then_some((service, target.port))
        })
        .collect();
    found.sort_by(|(a, _), (b, _)| a.by_age(b));
    found.first().map_or(port, |(_, number)| *number)
}

#[derive(Default)]
struct Merging<'a> {
    merged: Merged<'a>,
    /// Names of HTTPS routes: port, port name and Gateway, and the bind address.
    routes: BTreeSet<(u32, &'a str, &'a str, &'a str, &'a str)>,
}

impl<'a> Merging<'a> {
    fn reject(&mut self, gateway: &Config<api::Gateway>, at: usize, reason: &str) {
        self.merged.rejected.push(Rejected {
            gateway: gateway.reference.clone(),
            reason: format!("servers[{at}]: {reason}"),
        });
    }

    fn place(&mut self, server: Server<'a>, number: u32) -> Result<(), String> {
        let bind = server.spec.bind.as_str();
        let kind = match server.tls {
            Tls::None if server.protocol.is_http() => PortKind::Http,
            Tls::None => PortKind::Tcp,
            _ => PortKind::Tls,
        };
        let route = (
            server.port,
            server.port_name,
            server.gateway.name(),
            server.gateway.namespace(),
            bind,
        );
        let routed = kind == PortKind::Tls && server.is_http();
        if routed && self.routes.contains(&route) {
            return Err(format!(
                "port {} named {:?} already has a server: port names must differ",
                server.port, server.port_name
            ));
        }
        let open = self
            .merged
            .ports
            .iter_mut()
            .find(|port| port.number == number && port.bind == bind);
        match open {
            None => {
                self.merged.ports.push(Port {
                    number,
                    bind,
                    kind,
                    servers: vec![server],
                });
            }
            Some(port) => {
                join(port, kind, &server)?;
                port.servers.push(server);
            }
        }
        if routed {
            self.routes.insert(route);
        }
        Ok(())
    }
}

/// Whether `server` can share a port that is in use.
fn join(port: &Port<'_>, kind: PortKind, server: &Server<'_>) -> Result<(), String> {
    let number = port.number;
    match (port.kind, kind) {
        (PortKind::Http, PortKind::Http) => Ok(()),
        (PortKind::Tls, PortKind::Tls) => {
            let taken = server.hosts.iter().find(|own| {
                port.servers
                    .iter()
                    .flat_map(|other| &other.hosts)
                    .any(|o| o.host == own.host)
            });
            taken.map_or(Ok(()), |own| {
                Err(format!(
                    "host {} is already served on port {number}",
                    own.host
                ))
            })
        }
        (PortKind::Tls, _) => Err(format!(
            "plain text on port {number}, which an older server uses for TLS"
        )),
        (_, PortKind::Tls) => Err(format!(
            "TLS on port {number}, which an older server uses for plain text"
        )),
        _ => Err(format!(
            "protocol {} on port {number}, which an older server already uses",
            server.protocol.as_str()
        )),
    }
}

/// Label keys by which a Gateway selects gateway workloads.
pub(crate) fn lookup(gateway: &Config<api::Gateway>) -> Lookup {
    Lookup {
        gateways: gateway.spec.selector.keys().cloned().collect(),
        ..Lookup::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_hosts_name_who_may_fill_them() {
        let own: Arc<str> = "gw".into();
        let read = |text: &str| ServerHost::parse(text, &own);
        let common = |server: &str, namespace: &str, host: &str| {
            read(server)
                .common(namespace, &Host::new(host))
                .map(|host| host.to_string())
        };
        assert_eq!(common("./a.com", "gw", "a.com").as_deref(), Some("a.com"));
        assert_eq!(common("./a.com", "b", "a.com"), None);
        assert_eq!(common("b/*.com", "b", "a.com").as_deref(), Some("a.com"));
        assert_eq!(common("*/a.com", "b", "*.com").as_deref(), Some("a.com"));
        assert_eq!(common("*", "b", "*").as_deref(), Some("*"));
        assert_eq!(common("a.com", "b", "b.com"), None);
    }
}
