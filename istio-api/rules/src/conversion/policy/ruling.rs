//! Which Policy applies to which port of a Service.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Targeting;
use crate::conversion::{Complaint, Port, Service, Source};
use istio_api::authentication::v1alpha1::port_selector::Port as Named;
use istio_api::authentication::v1alpha1::{Policy, PortSelector};

/// A port with the Policy that applies to it.
#[derive(Debug)]
pub(super) struct Ruled<'a> {
    pub(super) port: &'a Port,
    pub(super) policy: &'a Source<Policy>,
    /// The target in it, such as `spec.targets[0]`.
    pub(super) path: String,
}

/// The ports of a service that Policies apply to: to each the oldest that names it.
#[derive(Debug, Default)]
pub(super) struct Ruling<'a> {
    pub(super) ports: Vec<Ruled<'a>>,
    pub(super) complaints: Vec<Complaint>,
    /// Indices in `ports`, by number of the port.
    by_number: BTreeMap<u32, usize>,
}

impl<'a> Ruling<'a> {
    /// `policies` target the service, the oldest first.
    pub(super) fn of(service: &'a Service, policies: &'a [Arc<Targeting>]) -> Self {
        let mut ruling = Self::default();
        for targeting in policies {
            let policy = targeting.source();
            for (path, target) in targeting.at(&service.host) {
                let before = ruling.ports.len();
                let mut older = None;
                if target.ports.is_empty() {
                    for port in &service.ports {
                        let known = ruling.rule(port, policy, &path);
                        older = older.or(known);
                    }
                }
                for (j, wanted) in target.ports.iter().enumerate() {
                    match service.ports.iter().find(|port| names(wanted, port)) {
                        Some(port) => {
                            let known = ruling.rule(port, policy, &path);
                            older = older.or(known);
                        }
                        None => ruling.complaints.push(policy.complaint(
                            format!("{path}.ports[{j}]"),
                            format!("{} has no such port: want one of its ports", service.host),
                        )),
                    }
                }
                if let Some(older) = older.filter(|_| ruling.ports.len() == before) {
                    let message = if std::ptr::eq(older, policy) {
                        format!(
                            "an earlier target names these ports of {} already: want each once",
                            service.host
                        )
                    } else {
                        format!(
                            "{} is older and applies to these ports of {}: want one of the two",
                            older.origin().title(),
                            service.host
                        )
                    };
                    ruling.complaints.push(policy.complaint(path, message));
                }
            }
        }
        ruling
    }

    /// Applies `policy` to `port`, unless one applies already, which is returned.
    fn rule(
        &mut self,
        port: &'a Port,
        policy: &'a Source<Policy>,
        path: &str,
    ) -> Option<&'a Source<Policy>> {
        let known = self.by_number.get(&port.number);
        if let Some(ruled) = known.and_then(|at| self.ports.get(*at)) {
            return Some(ruled.policy);
        }
        self.by_number.insert(port.number, self.ports.len());
        self.ports.push(Ruled {
            port,
            policy,
            path: path.to_owned(),
        });
        None
    }

    /// The policy that applies to a port.
    pub(super) fn at(&self, port: &Port) -> Option<&Ruled<'a>> {
        let at = self.by_number.get(&port.number)?;
        self.ports.get(*at)
    }
}

fn names(wanted: &PortSelector, port: &Port) -> bool {
    match &wanted.port {
        Some(Named::Number(number)) => port.number == *number,
        Some(Named::Name(name)) => port.name == *name,
        None => false,
    }
}
