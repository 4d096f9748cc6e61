//! Load balancing.

use istio_api::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{
                    ClusterDiscoveryType, DiscoveryType, LbConfig, LbPolicy, LeastRequestLbConfig,
                    MaglevLbConfig, RingHashLbConfig, RoundRobinLbConfig, SlowStartConfig,
                    common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig},
                },
            },
            core::v3::RuntimeDouble,
        },
        r#type::v3::Percent,
    },
    networking::v1alpha3::{
        LoadBalancerSettings, LocalityLoadBalancerSetting,
        load_balancer_settings::{ConsistentHashLb, SimpleLb, consistent_hash_lb::HashAlgorithm},
    },
};

use crate::policy::Policy;

/// Minimum size of a hash ring when the rule sets none.
const RING_SIZE: u64 = 1024;
/// Envoy requires the name of a runtime override; this one cannot be set by any.
const NO_RUNTIME_KEY: &str = "(";

/// Applies the policy's load balancing to `cluster`, whose discovery type must be set already.
pub(super) fn apply(
    cluster: &mut Cluster,
    policy: &Policy<'_>,
    locality: Option<&LocalityLoadBalancerSetting>,
) {
    let original = ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into());
    if cluster.cluster_discovery_type.as_ref() == Some(&original) {
        cluster.lb_policy = LbPolicy::ClusterProvided.into();
        return;
    }
    if locality.is_some_and(|setting| weighs_localities(setting, policy.fails_over())) {
        cluster
            .common_lb_config
            .get_or_insert_default()
            .locality_config_specifier = Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(
            LocalityWeightedLbConfig {},
        ));
    }
    if let Some(hash) = policy.consistent_hash() {
        let (lb_policy, config) = consistent_hash(hash);
        cluster.lb_policy = lb_policy.into();
        cluster.lb_config = config;
        return;
    }
    let slow_start = policy.load_balancer.and_then(slow_start);
    match policy.simple_balancer() {
        SimpleLb::Random => cluster.lb_policy = LbPolicy::Random.into(),
        SimpleLb::RoundRobin => {
            cluster.lb_policy = LbPolicy::RoundRobin.into();
            cluster.lb_config = slow_start.map(|slow_start| {
                LbConfig::RoundRobinLbConfig(RoundRobinLbConfig {
                    slow_start_config: Some(slow_start),
                })
            });
        }
        _ => {
            cluster.lb_policy = LbPolicy::LeastRequest.into();
            cluster.lb_config = slow_start.map(|slow_start| {
                LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                    slow_start_config: Some(slow_start),
                    ..Default::default()
                })
            });
        }
    }
}

fn weighs_localities(setting: &LocalityLoadBalancerSetting, fails_over: bool) -> bool {
    !setting.distribute.is_empty()
        || (fails_over && !(setting.failover.is_empty() && setting.failover_priority.is_empty()))
}

fn consistent_hash(hash: &ConsistentHashLb) -> (LbPolicy, Option<LbConfig>) {
    let ring = |size: u64| {
        LbConfig::RingHashLbConfig(RingHashLbConfig {
            minimum_ring_size: (size > 0).then_some(size),
            ..Default::default()
        })
    };
    match &hash.hash_algorithm {
        Some(HashAlgorithm::Maglev(maglev)) => {
            let size = (maglev.table_size > 0).then_some(maglev.table_size);
            let config = LbConfig::MaglevLbConfig(MaglevLbConfig { table_size: size });
            (LbPolicy::Maglev, Some(config))
        }
        Some(HashAlgorithm::RingHash(settings)) => {
            (LbPolicy::RingHash, Some(ring(settings.minimum_ring_size)))
        }
        None => {
            let size = match hash.minimum_ring_size {
                0 => RING_SIZE,
                size => size,
            };
            (LbPolicy::RingHash, Some(ring(size)))
        }
    }
}

/// How the traffic share of a new endpoint grows.
fn slow_start(settings: &LoadBalancerSettings) -> Option<SlowStartConfig> {
    if let Some(warmup) = &settings.warmup {
        return Some(SlowStartConfig {
            slow_start_window: warmup.duration,
            aggression: Some(RuntimeDouble {
                default_value: warmup.aggression.unwrap_or(1.0),
                runtime_key: NO_RUNTIME_KEY.to_owned(),
            }),
            min_weight_percent: Some(Percent {
                value: warmup.minimum_percent.unwrap_or(10.0),
            }),
        });
    }
    settings.warmup_duration_secs.map(|window| SlowStartConfig {
        slow_start_window: Some(window),
        ..Default::default()
    })
}
