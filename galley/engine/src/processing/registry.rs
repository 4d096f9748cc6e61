//! Services with everything that belongs to them, indexed so that a change rebuilds only the
//! services that it affects.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::ingress::Ports;
use super::synthesis::{Names, Synthetic, Workload, Workloads, synthesise};
use crate::native::{EndpointAddress, EndpointGroup, Native, Node, Pod, Service};
use istio_api::manifest::Key;

/// `namespace/name`.
type Name = Arc<str>;

/// Endpoints from one object.
#[derive(Debug, Clone)]
struct Stated {
    service: Name,
    groups: Arc<[EndpointGroup]>,
}

/// A changed synthetic resource; `None` if it is deleted.
pub type Rebuilt = (Name, Option<Synthetic>);

/// Kubernetes objects by name, with their cross references.
#[derive(Debug)]
pub struct Registry {
    names: Names,
    services: BTreeMap<Name, Arc<Service>>,
    /// Endpoints and EndpointSlices by object; slices replace Endpoints of the same service.
    endpoints: HashMap<Key, Stated>,
    by_service: HashMap<Name, BTreeSet<Key>>,
    pods: HashMap<Name, Arc<Pod>>,
    nodes: HashMap<Name, Arc<Node>>,
    pods_of_node: HashMap<Name, BTreeSet<Name>>,
    /// Pods by namespace and address.
    pods_by_ip: HashMap<(Name, String), BTreeSet<Name>>,
    /// Services with endpoints that name a Pod, known or not.
    services_of_pod: HashMap<Name, BTreeSet<Name>>,
    /// Services with an endpoint of this address that does not name a Pod.
    services_of_ip: HashMap<(Name, String), BTreeSet<Name>>,
    withheld: HashMap<Name, usize>,
    /// Services for which no resource could be made, and why.
    failures: Vec<(Name, String)>,
    dirty: BTreeSet<Name>,
}

impl Registry {
    /// An empty registry.
    pub fn new(names: Names) -> Self {
        Self {
            names,
            services: BTreeMap::new(),
            endpoints: HashMap::new(),
            by_service: HashMap::new(),
            pods: HashMap::new(),
            nodes: HashMap::new(),
            pods_of_node: HashMap::new(),
            pods_by_ip: HashMap::new(),
            services_of_pod: HashMap::new(),
            services_of_ip: HashMap::new(),
            withheld: HashMap::new(),
            failures: Vec::new(),
            dirty: BTreeSet::new(),
        }
    }

    /// Names used in resources.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// New names: every service is rebuilt.
    pub fn rename(&mut self, names: Names) {
        if self.names != names {
            self.names = names;
            self.dirty.extend(self.services.keys().cloned());
        }
    }

    /// Applies the object in force of an identity, or its deletion.
    pub fn apply(&mut self, key: &Key, object: Option<&Native>) {
        let name: Name = key.full_name().into();
        match key.kind {
            "Service" => {
                match object {
                    Some(Native::Service(service)) => {
                        self.services.insert(name.clone(), service.clone());
                    }
                    _ => {
                        self.services.remove(&name);
                    }
                }
                self.dirty.insert(name);
            }
            "Endpoints" | "EndpointSlice" => {
                let stated = match object {
                    Some(Native::Endpoints(groups)) => Some(Stated {
                        service: name,
                        groups: groups.clone(),
                    }),
                    Some(Native::EndpointSlice(Some(service), groups)) => Some(Stated {
                        service: service.clone(),
                        groups: groups.clone(),
                    }),
                    _ => None,
                };
                self.state(key, stated);
            }
            "Pod" => {
                let pod = match object {
                    Some(Native::Pod(pod)) => Some(pod.clone()),
                    _ => None,
                };
                self.pod(name, pod);
            }
            "Node" => {
                match object {
                    Some(Native::Node(node)) => {
                        self.nodes.insert(name.clone(), node.clone());
                    }
                    _ => {
                        self.nodes.remove(&name);
                    }
                }
                let pods = self.pods_of_node.get(&name).cloned().unwrap_or_default();
                pods.iter().for_each(|pod| self.touch_pod(pod));
            }
            _ => {}
        }
    }

    fn state(&mut self, key: &Key, stated: Option<Stated>) {
        let former = match &stated {
            Some(stated) => self.endpoints.insert(key.clone(), stated.clone()),
            None => self.endpoints.remove(key),
        };
        if let Some(former) = former {
            self.refer(&former, &former.service, false);
            if let Some(keys) = self.by_service.get_mut(&former.service) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_service.remove(&former.service);
                }
            }
            // Another object of the same service may have the same endpoints.
            for other in self
                .by_service
                .get(&former.service)
                .cloned()
                .unwrap_or_default()
            {
                if let Some(other) = self.endpoints.get(&other).cloned() {
                    self.refer(&other, &other.service, true);
                }
            }
            self.dirty.insert(former.service);
        }
        if let Some(stated) = stated {
            self.refer(&stated, &stated.service, true);
            self.by_service
                .entry(stated.service.clone())
                .or_default()
                .insert(key.clone());
            self.dirty.insert(stated.service);
        }
    }

    /// Adds or removes the references of a service's endpoints.
    fn refer(&mut self, stated: &Stated, service: &Name, on: bool) {
        let namespace: Name = service.split('/').next().unwrap_or_default().into();
        for endpoint in stated.groups.iter().flat_map(|group| &group.endpoints) {
            if let Some(pod) = &endpoint.pod {
                note(&mut self.services_of_pod, pod, service, on);
            } else {
                for address in &endpoint.addresses {
                    let ip = (namespace.clone(), address.clone());
                    note(&mut self.services_of_ip, &ip, service, on);
                }
            }
        }
    }

    fn pod(&mut self, name: Name, pod: Option<Arc<Pod>>) {
        // The services that refer to the old Pod, then those that refer to the new one.
        self.touch_pod(&name);
        let former = match &pod {
            Some(pod) => self.pods.insert(name.clone(), pod.clone()),
            None => self.pods.remove(&name),
        };
        if let Some(former) = former {
            note(&mut self.pods_of_node, &former.node, &name, false);
            for ip in &former.ips {
                let ip = (former.namespace.clone(), ip.clone());
                note(&mut self.pods_by_ip, &ip, &name, false);
            }
        }
        if let Some(pod) = pod {
            note(&mut self.pods_of_node, &pod.node, &name, true);
            for ip in &pod.ips {
                let ip = (pod.namespace.clone(), ip.clone());
                note(&mut self.pods_by_ip, &ip, &name, true);
            }
            self.touch_pod(&name);
        }
    }

    fn touch_pod(&mut self, name: &Name) {
        if let Some(services) = self.services_of_pod.get(name) {
            self.dirty.extend(services.iter().cloned());
        }
        if let Some(pod) = self.pods.get(name) {
            for ip in &pod.ips {
                let ip = (pod.namespace.clone(), ip.clone());
                if let Some(services) = self.services_of_ip.get(&ip) {
                    self.dirty.extend(services.iter().cloned());
                }
            }
        }
    }

    /// Rebuilds the resources of all services that have changed since the last call.
    pub fn rebuild(&mut self) -> Vec<Rebuilt> {
        let dirty = std::mem::take(&mut self.dirty);
        let mut rebuilt = Vec::with_capacity(dirty.len());
        let mut failures = Vec::new();
        for name in dirty {
            let synthetic = self.services.get(&name).and_then(|service| {
                let groups = self.groups(&name);
                match synthesise(
                    service,
                    groups,
                    &Lookup {
                        registry: self,
                        service,
                    },
                    &self.names,
                ) {
                    Ok(synthetic) => Some(synthetic),
                    Err(error) => {
                        failures.push((name.clone(), error.to_string()));
                        None
                    }
                }
            });
            match synthetic.as_ref().map_or(0, |synthetic| synthetic.withheld) {
                0 => self.withheld.remove(&name),
                count => self.withheld.insert(name.clone(), count),
            };
            rebuilt.push((name, synthetic));
        }
        self.failures.append(&mut failures);
        rebuilt
    }

    /// Services for which no resource could be made since the last call, and why.
    pub fn take_failures(&mut self) -> Vec<(Name, String)> {
        std::mem::take(&mut self.failures)
    }

    /// The endpoint groups of a service in a stable order: from its slices, else from its
    /// Endpoints.
    fn groups(&self, service: &Name) -> impl Iterator<Item = &EndpointGroup> {
        let keys = self.by_service.get(service);
        let sliced = keys.is_some_and(|keys| keys.iter().any(|key| key.kind == "EndpointSlice"));
        let keys = keys.into_iter().flatten();
        keys.filter(move |key| !sliced || key.kind == "EndpointSlice")
            .filter_map(|key| self.endpoints.get(key))
            .flat_map(|stated| stated.groups.iter())
    }

    /// The Service `namespace/name`.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// Number of endpoints that are withheld because their Pods are not known, by service.
    pub fn withheld(&self) -> impl Iterator<Item = (&Name, &usize)> {
        self.withheld.iter()
    }
}

impl Ports for Registry {
    fn number(&self, service: &str, port: &str) -> Option<u16> {
        let ports = &self.service(service)?.ports;
        let port = ports.iter().find(|known| known.name == port)?;
        Some(port.number)
    }

    fn host(&self, namespace: &str, name: &str) -> String {
        self.names.host(namespace, name)
    }
}

fn note<K, V>(map: &mut HashMap<K, BTreeSet<V>>, key: &K, value: &V, on: bool)
where
    K: Clone + Eq + std::hash::Hash,
    V: Clone + Ord,
{
    if on {
        map.entry(key.clone()).or_default().insert(value.clone());
    } else if let Some(values) = map.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            map.remove(key);
        }
    }
}

struct Lookup<'a> {
    registry: &'a Registry,
    service: &'a Service,
}

impl Lookup<'_> {
    fn workload(&self, pod: &Arc<Pod>) -> Workload {
        let node = self.registry.nodes.get(&pod.node);
        let node_locality = node.map(|node| node.locality.clone()).unwrap_or_default();
        Workload {
            pod: pod.clone(),
            node_locality,
        }
    }
}

impl Workloads for Lookup<'_> {
    fn of(&self, endpoint: &EndpointAddress, address: &str) -> Result<Option<Workload>, ()> {
        if let Some(name) = &endpoint.pod {
            let pod = self.registry.pods.get(name).filter(|pod| pod.alive);
            return pod.map(|pod| Some(self.workload(pod))).ok_or(());
        }
        let ip = (self.service.metadata.namespace.clone(), address.to_owned());
        let pods = self.registry.pods_by_ip.get(&ip);
        let mut pods = pods
            .into_iter()
            .flatten()
            .filter_map(|name| self.registry.pods.get(name));
        Ok(pods.find(|pod| pod.alive).map(|pod| self.workload(pod)))
    }
}

#[cfg(test)]
mod tests;
