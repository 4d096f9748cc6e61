//! Pages about services and configuration.

use std::collections::BTreeMap;

use axum::{
    extract::{Query, State as Shared},
    response::Response,
};
use pilot_model::{
    hashed::hash_of,
    service::{Endpoint, Health, Registry, Resolution, Service},
};
use serde_json::{Map, Value, json};

use super::{Page, Params, failed, json as page};

pub(super) async fn registryz(Shared(state): Page, Query(params): Query<Params>) -> Response {
    let snapshot = state.world.published().snapshot.clone();
    let rows: Vec<Value> = snapshot
        .services
        .values()
        .flat_map(|services| services.iter())
        .map(|s| service(s))
        .collect();
    page(&params, &Value::Array(rows))
}

fn service(service: &Service) -> Value {
    let ports: Vec<Value> = service
        .ports
        .iter()
        .map(|port| {
            json!({"name": &*port.name, "port": port.number, "protocol": port.protocol.as_str()})
        })
        .collect();
    let addresses: Vec<&str> = service.addresses.iter().map(|address| &**address).collect();
    json!({
        "Attributes": {
            "ServiceRegistry": registry(service.registry),
            "Name": &*service.name,
            "Namespace": service.namespace(),
            "Labels": service.labels,
            "LabelSelectors": service.selector,
        },
        "hostname": service.host().as_str(),
        "ports": ports,
        "defaultAddress": addresses.first().unwrap_or(&"0.0.0.0"),
        "clusterVIPs": {"Addresses": {"Kubernetes": addresses}},
        "Resolution": resolution(service.resolution),
        "MeshExternal": service.mesh_external,
        "ResourceVersion": format!("{:032x}", hash_of(service)),
    })
}

fn registry(registry: Registry) -> &'static str {
    match registry {
        Registry::Kubernetes => "Kubernetes",
        Registry::External => "External",
    }
}

fn resolution(resolution: Resolution) -> u8 {
    match resolution {
        Resolution::ClientSideLb => 0,
        Resolution::DnsLb => 1,
        Resolution::Passthrough => 2,
        Resolution::DnsRoundRobinLb => 3,
        Resolution::Alias => 4,
    }
}

pub(super) async fn endpoint_shardz(Shared(state): Page, Query(params): Query<Params>) -> Response {
    let snapshot = state.world.published().snapshot.clone();
    let mut hosts: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for (key, endpoints) in &snapshot.endpoints {
        let mut shards: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for entry in &endpoints.list {
            shards
                .entry(format!("Kubernetes/{}", entry.cluster_id))
                .or_default()
                .push(endpoint(entry));
        }
        hosts
            .entry(key.host.as_str())
            .or_default()
            .insert(key.namespace.to_string(), json!({"Shards": shards}));
    }
    page(&params, &json!(hosts))
}

fn endpoint(endpoint: &Endpoint) -> Value {
    let locality = &endpoint.locality;
    let label = [&locality.region, &locality.zone, &locality.subzone]
        .map(|part| part.to_string())
        .join("/");
    json!({
        "Addresses": [&*endpoint.address],
        "EndpointPort": endpoint.port,
        "ServicePortName": &*endpoint.port_name,
        "ServiceAccount": &*endpoint.service_account,
        "Labels": *endpoint.labels,
        "Network": &*endpoint.network,
        "Locality": {"Label": label.trim_end_matches('/'), "ClusterID": &*endpoint.cluster_id},
        "LbWeight": endpoint.weight,
        "TLSMode": if endpoint.mtls { "istio" } else { "disabled" },
        "Namespace": &*endpoint.namespace,
        "WorkloadName": &*endpoint.workload,
        "HealthStatus": match endpoint.health {
            Health::Healthy => 1,
            Health::Unhealthy => 2,
            Health::Draining => 3,
            Health::Terminating => 4,
        },
    })
}

pub(super) async fn configz(Shared(state): Page, Query(params): Query<Params>) -> Response {
    let objects = state
        .world
        .inspect(|writer| {
            let objects = writer.builder.objects();
            let converted = writer.builder.converted();
            objects.chain(converted).cloned().collect::<Vec<_>>()
        })
        .await;
    let objects = match objects {
        Ok(objects) => objects,
        Err(error) => return failed(&error),
    };
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let spec = istio_api::json::write(object.collection.message, &object.body)
                .unwrap_or_else(|error| json!({"error": error.to_string()}));
            json!({
                "apiVersion": object.collection.api_version(),
                "kind": object.collection.kind,
                "metadata": {
                    "name": object.meta.name,
                    "namespace": object.meta.namespace,
                    "resourceVersion": object.meta.resource_version,
                    "labels": object.meta.labels,
                    "annotations": object.meta.annotations,
                },
                "spec": spec,
            })
        })
        .collect();
    page(&params, &Value::Array(rows))
}

pub(super) async fn instancesz(Shared(state): Page, Query(params): Query<Params>) -> Response {
    let snapshot = state.world.published().snapshot.clone();
    let proxies: Map<String, Value> = state
        .streams
        .list()
        .iter()
        .map(|status| {
            let targets: Vec<Value> = snapshot
                .targets(&status.proxy.ips, &status.proxy.namespace)
                .iter()
                .map(|target| {
                    json!({"Service": target.service.host.as_str(),
                           "Port": {"ServicePort": &*target.port_name, "TargetPort": target.port}})
                })
                .collect();
            (status.proxy.id.to_string(), Value::Array(targets))
        })
        .collect();
    page(&params, &Value::Object(proxies))
}

pub(super) async fn mesh(Shared(state): Page, Query(params): Query<Params>) -> Response {
    let published = state.world.published();
    match istio_api::json::write_message(&*published.snapshot.mesh.config) {
        Ok(config) => page(&params, &config),
        Err(error) => failed(&error.into()),
    }
}

/// The v1 registration page: hosts of each service port.
pub(super) async fn registration(Shared(state): Page, Query(params): Query<Params>) -> Response {
    let snapshot = state.world.published().snapshot.clone();
    let mut rows: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for service in snapshot
        .services
        .values()
        .flat_map(|services| services.iter())
    {
        if service.mesh_external {
            continue;
        }
        let endpoints = snapshot.endpoints.get(&service.key);
        for port in &service.ports {
            let hosts = endpoints
                .into_iter()
                .flat_map(|endpoints| &endpoints.list)
                .filter(|endpoint| endpoint.port_name == port.name)
                .map(|e| json!({"ip_address": &*e.address, "port": e.port}));
            rows.insert(format!("{}|{}", service.host(), port.name), hosts.collect());
        }
    }
    let rows = rows
        .into_iter()
        .map(|(key, hosts)| json!({"service-key": key, "hosts": hosts}));
    page(&params, &Value::Array(rows.collect()))
}
