//! Destinations of routes: the service behind a host, and the rule that applies to it.

use pilot_model::hashed::Hashed;
use std::{collections::BTreeMap, sync::Arc};

use istio_api::networking::v1alpha3::{
    self as api,
    client_tls_settings::TlSmode as TlsMode,
    connection_pool_settings::http_settings::H2UpgradePolicy,
    load_balancer_settings::{ConsistentHashLb, LbPolicy},
    traffic_policy::PortTrafficPolicy,
};
use pilot_model::{
    class::Client,
    config::ConfigRef,
    destination_rule::Rule,
    host::Host,
    protocol::Protocol,
    service::{Resolution, Service},
    virtual_service::VirtualService,
};

use crate::name;

/// How many aliases (ExternalName) are followed in a row.
const MAX_ALIASES: usize = 8;

/// A known service and the rule that applies to its clients.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Destination<'a> {
    /// The service itself; never an alias.
    pub service: &'a Arc<Hashed<Service>>,
    /// The DestinationRule in force.
    pub rule: Option<&'a Arc<Hashed<Rule>>>,
}

impl<'a> Destination<'a> {
    /// The service that `host` refers to, through aliases, as `client` sees it.
    pub fn find(client: &Client<'a>, host: &Host) -> Option<Self> {
        let mut service = client.service(host)?;
        for _ in 0..MAX_ALIASES {
            match &service.external_name {
                Some(target) if service.resolution == Resolution::Alias => {
                    service = client.service(target)?;
                }
                _ => break,
            }
        }
        Some(Self {
            service,
            rule: client.destination_rule(service),
        })
    }
}

/// The existing destinations of a VirtualService, by the host as it is written there.
#[derive(Clone, Debug, Default, Hash)]
pub struct Destinations<'a> {
    by_host: BTreeMap<Arc<str>, Destination<'a>>,
}

impl<'a> Destinations<'a> {
    /// Looks up every host that the HTTP routes of `vs` send requests to.
    pub fn of_http(client: &Client<'a>, vs: &VirtualService) -> Self {
        let mut found = Self::default();
        for http in &vs.config.spec.http {
            let routes = http
                .route
                .iter()
                .filter_map(|route| route.destination.as_ref());
            let mirrors = http
                .mirrors
                .iter()
                .filter_map(|mirror| mirror.destination.as_ref());
            for destination in routes.chain(&http.mirror).chain(mirrors) {
                found.look_up(client, destination);
            }
        }
        found
    }

    /// Looks up every host that the TCP and TLS routes of `vs` send connections to.
    pub fn of_l4(client: &Client<'a>, vs: &VirtualService) -> Self {
        let mut found = Self::default();
        let tls = vs.config.spec.tls.iter().flat_map(|route| &route.route);
        let tcp = vs.config.spec.tcp.iter().flat_map(|route| &route.route);
        for destination in tls
            .chain(tcp)
            .filter_map(|route| route.destination.as_ref())
        {
            found.look_up(client, destination);
        }
        found
    }

    fn look_up(&mut self, client: &Client<'a>, destination: &api::Destination) {
        if self.by_host.contains_key(destination.host.as_str()) {
            return;
        }
        if let Some(found) = Destination::find(client, &Host::new(&destination.host)) {
            self.by_host.insert(destination.host.as_str().into(), found);
        }
    }

    /// The destination for a host as it is written.
    pub fn get(&self, host: &str) -> Option<&Destination<'a>> {
        self.by_host.get(host)
    }

    /// The rules that may have influenced a route.
    pub fn sources(&self) -> impl Iterator<Item = ConfigRef> {
        self.by_host
            .values()
            .filter_map(|destination| destination.rule)
            .flat_map(|rule| rule.sources.iter().cloned())
    }

    /// The cluster of `destination` for traffic that arrived on `listener_port`.
    ///
    /// Without a port it is the service's only one, else the listener's. An unknown host gets a
    /// name, too: its requests fail until the service exists.
    pub fn resolve<'b>(
        &'b self,
        destination: &'b api::Destination,
        listener_port: u32,
    ) -> Resolved<'b> {
        let known = self.get(&destination.host);
        let host = match known {
            Some(known) => known.service.host().as_str(),
            None if destination.host.is_empty() => name::UNKNOWN_SERVICE,
            None => &destination.host,
        };
        let written = destination
            .port
            .as_ref()
            .map(|port| port.number)
            .filter(|port| *port != 0);
        let port =
            written.unwrap_or_else(|| match known.map(|known| known.service.ports.as_slice()) {
                Some([only]) => only.number,
                _ => listener_port,
            });
        Resolved {
            cluster: if destination.host.is_empty() {
                name::UNKNOWN_SERVICE.to_owned()
            } else {
                name::outbound_cluster(port, &destination.subset, host)
            },
            host,
            port,
            written_port: written,
            subset: &destination.subset,
            protocol: known
                .and_then(|known| known.service.port(port))
                .map(|port| port.protocol),
            rule: known.and_then(|known| known.rule).map(|rule| &***rule),
        }
    }
}

/// A cluster that a route sends traffic to, with the settings that affect the route.
#[derive(Clone, Debug)]
pub struct Resolved<'a> {
    /// Name of the cluster.
    pub cluster: String,
    /// Host of the service.
    pub host: &'a str,
    /// Port of the service.
    pub port: u32,
    /// The port, if the route names one.
    written_port: Option<u32>,
    subset: &'a str,
    protocol: Option<Protocol>,
    rule: Option<&'a Rule>,
}

impl<'a> Resolved<'a> {
    /// A port of a service, without a subset.
    pub fn of_service(service: &'a Service, port: u32, rule: Option<&'a Rule>) -> Self {
        Self {
            cluster: name::outbound_cluster(port, "", service.host().as_str()),
            host: service.host().as_str(),
            port,
            written_port: Some(port),
            subset: "",
            protocol: service.port(port).map(|port| port.protocol),
            rule,
        }
    }

    fn rule_policy(&self) -> Option<&'a api::TrafficPolicy> {
        self.rule?.spec.traffic_policy.as_ref()
    }

    fn subset_policy(&self) -> Option<&'a api::TrafficPolicy> {
        self.rule?.subset(self.subset)?.traffic_policy.as_ref()
    }

    /// The setting that applies here: settings of a port replace those of their level as a whole, a
    /// subset overrides what it sets.
    fn effective<T>(
        &self,
        of_policy: impl Fn(&'a api::TrafficPolicy) -> Option<&'a T>,
        of_port: impl Fn(&'a PortTrafficPolicy) -> Option<&'a T>,
    ) -> Option<&'a T> {
        let subset = self.subset_policy();
        if let Some(port) = subset.and_then(|policy| port_level(policy, self.port)) {
            return of_port(port);
        }
        subset.and_then(&of_policy).or_else(|| {
            let policy = self.rule_policy()?;
            match port_level(policy, self.port) {
                Some(port) => of_port(port),
                None => of_policy(policy),
            }
        })
    }

    /// TLS mode of the DestinationRule; `None` leaves the decision to automatic mutual TLS.
    pub fn tls_mode(&self) -> Option<TlsMode> {
        self.effective(|policy| policy.tls.as_ref(), |port| port.tls.as_ref())
            .map(api::ClientTlsSettings::mode)
    }

    /// Connection pool settings of the DestinationRule, if any.
    pub fn pool(&self) -> Option<&'a api::ConnectionPoolSettings> {
        self.effective(
            |policy| policy.connection_pool.as_ref(),
            |port| port.connection_pool.as_ref(),
        )
    }

    /// HTTP CONNECT tunnel that TCP connections are sent through.
    pub fn tunnel(&self) -> Option<&'a api::traffic_policy::TunnelSettings> {
        self.subset_policy()
            .and_then(|policy| policy.tunnel.as_ref())
            .or_else(|| self.rule_policy()?.tunnel.as_ref())
    }

    /// Consistent hashing, from the most specific level that sets it.
    pub fn hash(&self) -> Option<&'a ConsistentHashLb> {
        let at_port = |policy: Option<&'a api::TrafficPolicy>, port: Option<u32>| {
            consistent(port_level(policy?, port?)?.load_balancer.as_ref())
        };
        let at =
            |policy: Option<&'a api::TrafficPolicy>| consistent(policy?.load_balancer.as_ref());
        let (rule, subset) = (self.rule_policy(), self.subset_policy());
        at_port(subset, Some(self.port))
            .or_else(|| at(subset))
            .or_else(|| at_port(rule, self.written_port))
            .or_else(|| at(rule))
    }

    /// Whether the cluster's HTTP version follows each request: mesh TLS must then offer its ALPN
    /// per request.
    fn follows_downstream_protocol(&self) -> bool {
        let detected = self.protocol.is_some_and(Protocol::is_auto);
        let asked = || {
            self.protocol.is_some_and(Protocol::is_http)
                && self
                    .pool()
                    .and_then(|pool| pool.http.as_ref())
                    .is_some_and(|http| http.use_client_protocol)
        };
        (detected || asked()) && matches!(self.tls_mode(), None | Some(TlsMode::IstioMutual))
    }

    /// The ALPN that mesh TLS offers on the route, if the cluster's own list does not suffice;
    /// `None` if it does.
    pub fn announcement(&self, at_gateway: bool) -> Option<Announcement> {
        if !self.follows_downstream_protocol() {
            return None;
        }
        let http = self.pool().and_then(|pool| pool.http.as_ref());
        let follows = !at_gateway || http.is_some_and(|http| http.use_client_protocol);
        Some(if follows {
            Announcement::AsDownstream
        } else if http.is_some_and(|h| h.h2_upgrade_policy() == H2UpgradePolicy::Upgrade) {
            Announcement::Http2
        } else {
            Announcement::Http1
        })
    }
}

/// The protocol that mesh TLS announces by ALPN for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// The client's, which the cluster follows.
    AsDownstream,
    /// HTTP/1.1, which gateways use for ports whose protocol is not declared.
    Http1,
    /// HTTP/2.
    Http2,
}

fn port_level(policy: &api::TrafficPolicy, port: u32) -> Option<&PortTrafficPolicy> {
    policy
        .port_level_settings
        .iter()
        .find(|settings| settings.port.as_ref().is_some_and(|p| p.number == port))
}

fn consistent(settings: Option<&api::LoadBalancerSettings>) -> Option<&ConsistentHashLb> {
    match settings?.lb_policy.as_ref()? {
        LbPolicy::ConsistentHash(hash) => Some(hash),
        LbPolicy::Simple(_) => None,
    }
}
