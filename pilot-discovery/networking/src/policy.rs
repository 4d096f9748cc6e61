//! The settings of a DestinationRule that apply to one port and subset.

use istio_api::networking::v1alpha3::{
    ClientTlsSettings, ConnectionPoolSettings, LoadBalancerSettings, LocalityLoadBalancerSetting,
    OutlierDetection, Subset, TrafficPolicy,
    client_tls_settings::TlSmode as ClientMode,
    connection_pool_settings::{HttpSettings, TcpSettings},
    load_balancer_settings::{ConsistentHashLb, LbPolicy, SimpleLb},
    traffic_policy::{PortTrafficPolicy, ProxyProtocol, RetryBudget, TunnelSettings},
};
use pilot_model::{destination_rule::Rule, mesh::Mesh, service::ServicePort};

/// The settings in force; unset ones mean the mesh's defaults.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy<'a> {
    /// `loadBalancer`.
    pub load_balancer: Option<&'a LoadBalancerSettings>,
    /// `connectionPool`.
    pub connection_pool: Option<&'a ConnectionPoolSettings>,
    /// `outlierDetection`.
    pub outlier_detection: Option<&'a OutlierDetection>,
    /// `tls`.
    pub tls: Option<&'a ClientTlsSettings>,
    /// `tunnel`.
    pub tunnel: Option<&'a TunnelSettings>,
    /// `proxyProtocol`.
    pub proxy_protocol: Option<&'a ProxyProtocol>,
    /// `retryBudget`.
    pub retry_budget: Option<&'a RetryBudget>,
}

impl<'a> Policy<'a> {
    /// The policy of `rule` for `port`, and for `subset` if one is given.
    ///
    /// Settings of a port replace those of the whole rule, all of them. A subset replaces each
    /// component that it sets, and all four if it has settings for the port.
    pub fn of(rule: Option<&'a Rule>, port: &ServicePort, subset: Option<&'a Subset>) -> Self {
        let mut policy = Self::default();
        if let Some(top) = rule.and_then(|rule| rule.spec.traffic_policy.as_ref()) {
            policy.replace_with(top);
            if let Some(settings) = port_settings(top, port) {
                policy.replace_all_with(settings);
            }
        }
        if let Some(own) = subset.and_then(|subset| subset.traffic_policy.as_ref()) {
            policy.replace_with(own);
            if let Some(settings) = port_settings(own, port) {
                policy.replace_all_with(settings);
            }
        }
        policy
    }

    fn replace_with(&mut self, other: &'a TrafficPolicy) {
        self.load_balancer = other.load_balancer.as_ref().or(self.load_balancer);
        self.connection_pool = other.connection_pool.as_ref().or(self.connection_pool);
        self.outlier_detection = other.outlier_detection.as_ref().or(self.outlier_detection);
        self.tls = other.tls.as_ref().or(self.tls);
        self.tunnel = other.tunnel.as_ref().or(self.tunnel);
        self.proxy_protocol = other.proxy_protocol.as_ref().or(self.proxy_protocol);
        self.retry_budget = other.retry_budget.as_ref().or(self.retry_budget);
    }

    fn replace_all_with(&mut self, port: &'a PortTrafficPolicy) {
        self.load_balancer = port.load_balancer.as_ref();
        self.connection_pool = port.connection_pool.as_ref();
        self.outlier_detection = port.outlier_detection.as_ref();
        self.tls = port.tls.as_ref();
    }

    /// TCP settings of the connection pool.
    pub fn tcp(&self) -> Option<&'a TcpSettings> {
        self.connection_pool?.tcp.as_ref()
    }

    /// HTTP settings of the connection pool.
    pub fn http(&self) -> Option<&'a HttpSettings> {
        self.connection_pool?.http.as_ref()
    }

    /// The TLS mode of the rule; `None` leaves the decision to automatic mutual TLS.
    pub fn tls_mode(&self) -> Option<ClientMode> {
        self.tls.map(ClientTlsSettings::mode)
    }

    /// Whether TLS is originated to a server without a mesh identity.
    pub fn originates_tls(&self) -> bool {
        matches!(
            self.tls_mode(),
            Some(ClientMode::Simple | ClientMode::Mutual)
        )
    }

    /// How to choose an endpoint if not by a hash.
    pub fn simple_balancer(&self) -> SimpleLb {
        match self
            .load_balancer
            .and_then(|balancer| balancer.lb_policy.as_ref())
        {
            // Only galley 1.1 sends an explicit 0: there it means ROUND_ROBIN.
            Some(LbPolicy::Simple(0)) => SimpleLb::RoundRobin,
            Some(LbPolicy::Simple(simple)) => {
                SimpleLb::try_from(*simple).unwrap_or(SimpleLb::Unspecified)
            }
            _ => SimpleLb::Unspecified,
        }
    }

    /// The hash that chooses an endpoint, if any.
    pub fn consistent_hash(&self) -> Option<&'a ConsistentHashLb> {
        match self.load_balancer?.lb_policy.as_ref()? {
            LbPolicy::ConsistentHash(hash) => Some(hash),
            LbPolicy::Simple(_) => None,
        }
    }

    /// Whether connections go to the dialled address.
    pub fn is_passthrough(&self) -> bool {
        self.simple_balancer() == SimpleLb::Passthrough
    }

    /// Whether upstream connections use the client's HTTP version.
    pub fn uses_client_protocol(&self) -> bool {
        self.http().is_some_and(|http| http.use_client_protocol)
    }

    /// The locality settings in force: the rule's, else the mesh's; `None` when disabled.
    pub fn locality<'b>(&self, mesh: &'b Mesh) -> Option<&'b LocalityLoadBalancerSetting>
    where
        'a: 'b,
    {
        match self
            .load_balancer
            .and_then(|balancer| balancer.locality_lb_setting.as_ref())
        {
            Some(setting) => (setting.enabled != Some(false)).then_some(setting),
            None => mesh.locality_lb.as_ref(),
        }
    }

    /// Whether other localities take over for unhealthy endpoints, which Envoy must detect first.
    pub fn fails_over(&self) -> bool {
        self.outlier_detection.is_some()
    }
}

fn port_settings<'a>(
    policy: &'a TrafficPolicy,
    port: &ServicePort,
) -> Option<&'a PortTrafficPolicy> {
    policy.port_level_settings.iter().find(|settings| {
        settings.port.as_ref().is_some_and(|selector| {
            selector.number == port.number
                || (selector.number == 0
                    && !selector.name.is_empty()
                    && *selector.name == *port.name)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balancers_of_today_and_of_1_1() {
        let chosen = |lb_policy: Option<LbPolicy>| {
            let settings = LoadBalancerSettings {
                lb_policy,
                ..LoadBalancerSettings::default()
            };
            let policy = Policy {
                load_balancer: Some(&settings),
                ..Policy::default()
            };
            policy.simple_balancer()
        };
        assert_eq!(chosen(None), SimpleLb::Unspecified);
        assert_eq!(chosen(Some(LbPolicy::Simple(0))), SimpleLb::RoundRobin);
        assert_eq!(chosen(Some(LbPolicy::Simple(4))), SimpleLb::RoundRobin);
        assert_eq!(chosen(Some(LbPolicy::Simple(2))), SimpleLb::Random);
        assert_eq!(chosen(Some(LbPolicy::Simple(99))), SimpleLb::Unspecified);
    }
}
