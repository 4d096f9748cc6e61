//! Ports of the workload that get filter chains.

use std::sync::Arc;

use istio_api::networking::v1alpha3::CaptureMode;
use pilot_model::{class::Server, config::ConfigRef, protocol::Protocol, proxy::Interception};

use crate::{name, resource::Skipped};

/// One port of the workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Port {
    /// Port number at the workload.
    pub(super) number: u32,
    /// Port number of the service; distinguishes virtual hosts.
    pub(super) service_port: u32,
    pub(super) protocol: Protocol,
    /// Host name of the service.
    pub(super) host: Arc<str>,
    /// Statistics prefix of TCP connections.
    pub(super) stat_prefix: String,
    /// Address of its own socket; `None` if its connections are captured.
    pub(super) bind: Option<Arc<str>>,
    pub(super) sources: Arc<[ConfigRef]>,
}

/// The ports of the Sidecar's ingress listeners, else those of its services; by number.
pub(super) fn collect(server: &Server<'_>) -> (Vec<Port>, Vec<Skipped>) {
    let mut skipped = Vec::new();
    let ingress = server
        .sidecar
        .filter(|sidecar| !sidecar.spec.ingress.is_empty());
    let mut ports = match ingress {
        Some(_) => of_sidecar(server),
        None if server.class.interception == Interception::None => Vec::new(),
        None => of_services(server, &mut skipped),
    };
    let mesh = &server.snapshot.mesh;
    let class = server.class;
    let reserved = [
        class.status_port,
        class.prometheus_port,
        mesh.outbound_port,
        mesh.inbound_port,
    ];
    ports.retain(|port| {
        let on_wildcard = port
            .bind
            .as_ref()
            .is_none_or(|bind| class.ip_mode.wildcards().contains(&&**bind));
        let refused = on_wildcard && reserved.contains(&port.number);
        if refused {
            skipped.push(conflict(
                port,
                "the proxy itself uses this port; choose another",
            ));
        }
        !refused && port.protocol != Protocol::Udp
    });
    ports.sort_by_key(|port| port.number);
    (ports, skipped)
}

fn of_services(server: &Server<'_>, skipped: &mut Vec<Skipped>) -> Vec<Port> {
    let pattern = server
        .snapshot
        .mesh
        .config
        .inbound_cluster_stat_name
        .as_str();
    let mut ports: Vec<Port> = Vec::new();
    for target in server.targets() {
        let protocol = target.service_port.protocol;
        if let Some(older) = ports.iter().find(|port| port.number == target.port) {
            if older.protocol != protocol {
                let reason = format!(
                    "an older service uses {} here, but {} uses {}; declare the same protocol",
                    older.protocol.as_str(),
                    target.service.host(),
                    protocol.as_str(),
                );
                skipped.push(conflict(older, &reason));
            }
            continue;
        }
        let stat_prefix = if pattern.is_empty() {
            name::inbound_cluster(target.port)
        } else {
            name::stat_from_pattern(
                pattern,
                target.service,
                target.service_port,
                target.port,
                "",
            )
        };
        ports.push(Port {
            number: target.port,
            service_port: target.service_port.number,
            protocol,
            host: target.service.host().to_arc(),
            stat_prefix,
            bind: None,
            sources: target.service.sources.clone(),
        });
    }
    ports
}

fn of_sidecar(server: &Server<'_>) -> Vec<Port> {
    let Some(sidecar) = server.sidecar else {
        return Vec::new();
    };
    let mut ports: Vec<Port> = Vec::new();
    for ingress in &sidecar.spec.ingress {
        let Some(port) = &ingress.port else { continue };
        let own_socket = server.class.interception == Interception::None
            || ingress.capture_mode() == CaptureMode::None;
        let bind = own_socket.then(|| {
            if ingress.bind.is_empty() {
                Arc::from(server.class.ip_mode.wildcard())
            } else {
                Arc::from(ingress.bind.as_str())
            }
        });
        if ports
            .iter()
            .any(|known| known.number == port.number && known.bind == bind)
        {
            continue;
        }
        ports.push(Port {
            number: port.number,
            service_port: port.number,
            protocol: Protocol::parse(&port.protocol),
            host: format!("{}.{}", sidecar.name(), sidecar.namespace()).into(),
            stat_prefix: name::inbound_cluster(port.number),
            bind,
            sources: [sidecar.reference.clone()].into(),
        });
    }
    ports
}

fn conflict(port: &Port, reason: &str) -> Skipped {
    Skipped {
        metric: "pilot_conflict_inbound_listener",
        reason: format!("{} port {}: {reason}", port.host, port.number),
        source: port.sources.first().cloned(),
    }
}
