//! Which Policy rules which port of a Service.

use super::host;
use crate::authentication::v1alpha1::port_selector::Port as Named;
use crate::authentication::v1alpha1::{Policy, PortSelector};
use crate::conversion::{Complaint, Mesh, Port, Service, Source};

/// A port with the Policy that rules it.
#[derive(Debug)]
pub(super) struct Ruled<'a> {
    pub(super) port: &'a Port,
    pub(super) policy: &'a Source<Policy>,
    /// The target in it, such as `spec.targets[0]`.
    pub(super) path: String,
}

/// The ports of a service that Policies rule, each by the oldest that names it.
#[derive(Debug, Default)]
pub(super) struct Ruling<'a> {
    pub(super) ports: Vec<Ruled<'a>>,
    pub(super) complaints: Vec<Complaint>,
}

impl<'a> Ruling<'a> {
    /// `policies` target the service, the oldest first.
    pub(super) fn of(
        service: &'a Service,
        policies: &'a [Source<Policy>],
        mesh: &Mesh<'_>,
    ) -> Self {
        let mut ruling = Self::default();
        for policy in policies {
            let targets = policy.spec.targets.iter().enumerate();
            for (i, target) in targets.filter(|(_, one)| host(policy, one, mesh) == service.host) {
                let path = format!("spec.targets[{i}]");
                let before = ruling.ports.len();
                let mut older = None;
                if target.ports.is_empty() {
                    for port in &service.ports {
                        older = ruling.rule(port, policy, &path).or(older);
                    }
                }
                for (j, wanted) in target.ports.iter().enumerate() {
                    match service.ports.iter().find(|port| names(wanted, port)) {
                        Some(port) => older = ruling.rule(port, policy, &path).or(older),
                        None => ruling.complaints.push(policy.complaint(
                            format!("{path}.ports[{j}]"),
                            format!("{} has no such port: want one of its own", service.host),
                        )),
                    }
                }
                if let Some(older) = older.filter(|_| ruling.ports.len() == before) {
                    let message = format!(
                        "{older} is older and rules these ports of {}: want one of the two",
                        service.host
                    );
                    ruling.complaints.push(policy.complaint(path, message));
                }
            }
        }
        ruling
    }

    /// Lets `policy` rule `port`, unless an older one does, which is returned.
    fn rule(&mut self, port: &'a Port, policy: &'a Source<Policy>, path: &str) -> Option<String> {
        if let Some(older) = self.ports.iter().find(|ruled| ruled.port == port) {
            return Some(older.policy.origin().title());
        }
        self.ports.push(Ruled {
            port,
            policy,
            path: path.to_owned(),
        });
        None
    }
}

fn names(wanted: &PortSelector, port: &Port) -> bool {
    match &wanted.port {
        Some(Named::Number(number)) => port.number == *number,
        Some(Named::Name(name)) => port.name == *name,
        None => false,
    }
}
