//! All resources of one proxy, by the public generators.

use pilot_model::hashed::{Hashed, hash_of};
use std::{collections::BTreeMap, sync::Arc};

use istio_api::json;
use pilot_model::{
    class::{Client, Server, classify},
    host::Host,
    proxy::ProxyType,
    scope::Scope,
    service::Service,
};
use pilot_networking::{
    cluster,
    endpoint::{self, Uses},
    gateway, listener,
    resource::{Built, Resource, Skipped},
    route::outbound as route,
};
use serde_json::{Value, json};

use crate::fixture::Fixture;

/// Full names of the messages, by resource type.
const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";
const ENDPOINT: &str = "envoy.config.endpoint.v3.ClusterLoadAssignment";
const LISTENER: &str = "envoy.config.listener.v3.Listener";
const ROUTE: &str = "envoy.config.route.v3.RouteConfiguration";
const SECRET: &str = "envoy.extensions.transport_sockets.tls.v3.Secret";

#[derive(Debug, Default, PartialEq)]
pub(crate) struct All {
    pub(crate) clusters: Vec<Resource>,
    pub(crate) endpoints: Vec<Resource>,
    pub(crate) listeners: Vec<Resource>,
    pub(crate) routes: Vec<Resource>,
    pub(crate) secrets: Vec<Resource>,
    pub(crate) skipped: Vec<Skipped>,
}

impl All {
    pub(crate) fn to_json(&self) -> Value {
        let list = |message: &str, resources: &[Resource]| -> Value {
            let write = |resource: &Resource| {
                json::write(message, &resource.body)
                    .unwrap_or_else(|error| panic!("{}: {error}", resource.name))
            };
            resources.iter().map(write).collect()
        };
        let skipped: Value = self
            .skipped
            .iter()
            .map(|one| {
                let source = one.source.as_ref().map(ToString::to_string);
                json!({"metric": one.metric, "reason": one.reason, "source": source})
            })
            .collect();
        json!({
            "clusters": list(CLUSTER, &self.clusters),
            "endpoints": list(ENDPOINT, &self.endpoints),
            "listeners": list(LISTENER, &self.listeners),
            "routes": list(ROUTE, &self.routes),
            "secrets": list(SECRET, &self.secrets),
            "skipped": skipped,
        })
    }

    fn take(&mut self, built: Built) -> Vec<Resource> {
        self.skipped.extend(built.skipped);
        built.resources
    }
}

pub(crate) fn all(fixture: &Fixture) -> All {
    let snapshot = &*fixture.snapshot;
    let (class, inbound) = classify(snapshot, &fixture.proxy);
    let sidecar = match class.kind {
        ProxyType::Sidecar => snapshot.sidecar_for(&fixture.proxy.namespace, &fixture.proxy.labels),
        ProxyType::Router => None,
    };
    let scope = Scope::build(snapshot, &class.namespace, sidecar);
    let client = Client {
        snapshot,
        class: &class,
        scope: &scope,
    };
    let mut all = All::default();
    match class.kind {
        ProxyType::Sidecar => {
            services(&client, scope.services.values(), &mut all);
            all.clusters.extend(cluster::fixed(&client));
            let class = &inbound.expect("sidecars have an inbound class");
            outbound(&client, &mut all);
            let server = Server {
                snapshot,
                class,
                sidecar,
            };
            let built = cluster::inbound::build(&server);
            let clusters = all.take(built);
            all.clusters.extend(clusters);
            let inputs = listener::inbound::gather(&server);
            let built = listener::inbound::build(&inputs);
            let listeners = all.take(built);
            all.listeners.extend(listeners);
        }
        ProxyType::Router => {
            let hosts = gateway::referenced_hosts(&client);
            services(
                &client,
                hosts.iter().filter_map(|host| client.service(host)),
                &mut all,
            );
            all.clusters.extend(cluster::fixed(&client));
            for host in gateway::sni_dnat_hosts(&client) {
                let service = client
                    .service(&host)
                    .expect("offered services are in scope");
                let uses = Uses {
                    routed: false,
                    passed_through: true,
                };
                let inputs = cluster::outbound::gather(&client, service, uses);
                let built = cluster::outbound::build(&inputs);
                let clusters = all.take(built);
                all.clusters.extend(clusters);
                let endpoints = endpoint::gather(&client, service, uses);
                all.endpoints.extend(endpoint::build(&endpoints).resources);
            }
            let built = gateway::listeners(&client);
            all.listeners = all.take(built);
            let built = gateway::routes(&client);
            all.routes = all.take(built);
            let built = gateway::secrets(&client);
            all.secrets = all.take(built);
        }
    }
    all
}

/// Clusters and endpoints, the oldest service first.
fn services<'a>(
    client: &Client<'a>,
    services: impl Iterator<Item = &'a Arc<Hashed<Service>>>,
    all: &mut All,
) {
    let mut services: Vec<&Arc<Hashed<Service>>> = services.collect();
    services.sort_by(|a, b| a.by_age(b));
    for service in services {
        let uses = Uses {
            routed: true,
            passed_through: false,
        };
        let inputs = cluster::outbound::gather(client, service, uses);
        let again = cluster::outbound::gather(client, service, uses);
        assert_eq!(hash_of(&inputs), hash_of(&again));
        let built = cluster::outbound::build(&inputs);
        let clusters = all.take(built);
        all.clusters.extend(clusters);
        let inputs = endpoint::gather(client, service, uses);
        let again = endpoint::gather(client, service, uses);
        assert_eq!(hash_of(&inputs), hash_of(&again));
        all.endpoints.extend(endpoint::build(&inputs).resources);
    }
}

fn outbound(client: &Client<'_>, all: &mut All) {
    for port in listener::outbound::ports(client) {
        let inputs = listener::outbound::gather_port(client, port);
        let built = listener::outbound::build(&inputs);
        let listeners = all.take(built);
        all.listeners.extend(listeners);
    }
    all.listeners.sort_by(|a, b| a.name.cmp(&b.name));
    all.listeners.extend(listener::outbound::http_proxy(client));
    all.listeners
        .extend(listener::outbound::virtual_outbound(client));

    let hosts: Vec<Host> = client.scope.services.keys().cloned().collect();
    let mut inputs: Vec<_> = hosts
        .iter()
        .map(|host| route::virtual_hosts::gather(client, host))
        .collect();
    let virtual_services: Vec<_> = client.snapshot.virtual_services.iter().collect();
    inputs.extend(
        virtual_services
            .iter()
            .map(|vs| route::for_virtual_service(client, vs)),
    );
    let mut entries: BTreeMap<Arc<str>, Vec<route::VirtualHostEntry>> = BTreeMap::new();
    for name in route::fixed_names(client) {
        entries.entry(name).or_default();
    }
    for inputs in &inputs {
        let built = route::virtual_hosts::build(inputs);
        all.skipped.extend(built.skipped);
        for (name, entry) in built.by_route {
            entries.entry(name).or_default().push(entry);
        }
    }
    for (name, entries) in &entries {
        let (resource, skipped) = route::assemble(client, name, entries.iter());
        all.routes.push(resource);
        all.skipped.extend(skipped);
    }
}
