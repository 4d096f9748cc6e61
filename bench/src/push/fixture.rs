//! The configuration of the benchmark: as files, and as what sidecars must make of it.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;

use super::held::Service;

/// Size of the mesh.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub namespaces: usize,
    pub services: usize,
    /// Endpoints of each service.
    pub endpoints: usize,
    pub virtual_services: usize,
    pub destination_rules: usize,
}

/// A directory of configuration that can be changed.
#[derive(Debug)]
pub struct Fixture {
    dir: PathBuf,
    size: Size,
    services: Vec<State>,
}

/// What can change of one service.
#[derive(Clone, Debug, Default)]
struct State {
    /// Address of an endpoint beyond the first ones.
    extra: Option<String>,
    /// Header value that its VirtualService sets; empty = it has none.
    marker: String,
    /// Connection limit of its DestinationRule; 0 = it has none.
    connections: u32,
}

/// Port of every service.
pub const PORT: u32 = 8080;

impl Fixture {
    /// Writes everything into `dir`.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn create(dir: &Path, size: Size) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut fixture = Self {
            dir: dir.to_owned(),
            size,
            services: Vec::new(),
        };
        for service in 0..size.services {
            fixture.add_service()?;
            if service < size.virtual_services {
                fixture.mark(service, "start")?;
            }
            if service < size.destination_rules {
                fixture.limit(service, 100)?;
            }
        }
        Ok(fixture)
    }

    /// The same mesh in another directory, in which what is changed later is written.
    pub fn elsewhere(&self, dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            size: self.size,
            services: self.services.clone(),
        }
    }

    fn namespace(&self, service: usize) -> String {
        format!("ns{}", service % self.size.namespaces)
    }

    fn host(&self, service: usize) -> String {
        format!("svc{service}.{}.svc.cluster.local", self.namespace(service))
    }

    /// Address of an endpoint of a service; sidecars stand at the first ones.
    pub fn address(service: usize, endpoint: usize) -> String {
        format!("10.{}.{}.{}", service / 250, service % 250, endpoint + 1)
    }

    /// Number of services now.
    pub fn len(&self) -> usize {
        self.services.len()
    }

    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// What sidecars are to hold of every service.
    pub fn all(&self) -> Arc<[Service]> {
        (0..self.len())
            .map(|service| self.expected(service))
            .collect()
    }

    /// What sidecars are to hold of one service.
    pub fn expected(&self, service: usize) -> Service {
        let state = self.services.get(service).cloned().unwrap_or_default();
        let own = (0..self.size.endpoints)
            .map(|endpoint| (version(endpoint), Self::address(service, endpoint)));
        let extra = state.extra.map(|address| ("v1", address));
        let endpoints: Vec<(&str, String)> = own.chain(extra).collect();
        let subsets: &[&str] = if state.connections > 0 {
            &["", "v1", "v2"]
        } else {
            &[""]
        };
        let host = self.host(service);
        let behind = |subset: &str| {
            let of_subset = |version: &str| subset.is_empty() || subset == version;
            let chosen = endpoints.iter().filter(|(version, _)| of_subset(version));
            chosen
                .map(|(_, address)| format!("{address}:{PORT}"))
                .collect()
        };
        Service {
            clusters: subsets
                .iter()
                .map(|subset| (format!("outbound|{PORT}|{subset}|{host}"), behind(subset)))
                .collect(),
            host,
            connections: state.connections,
            marker: state.marker,
        }
    }

    /// Adds the next service; gives its number.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add_service(&mut self) -> anyhow::Result<usize> {
        let service = self.services.len();
        self.services.push(State::default());
        self.write_service(service)?;
        Ok(service)
    }

    /// Gives a service one endpoint beyond its first ones.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_endpoint(&mut self, service: usize, address: &str) -> anyhow::Result<()> {
        if let Some(state) = self.services.get_mut(service) {
            state.extra = Some(address.to_owned());
        }
        self.write_service(service)
    }

    fn write_service(&self, service: usize) -> anyhow::Result<()> {
        let own = (0..self.size.endpoints)
            .map(|endpoint| (version(endpoint), Self::address(service, endpoint)));
        let extra = self
            .services
            .get(service)
            .into_iter()
            .flat_map(|state| &state.extra);
        let extra = extra.map(|address| ("v1", address.clone()));
        let mut endpoints = String::new();
        for (version, address) in own.chain(extra) {
            // Writing to a String cannot fail.
            let _infallible = write!(
                endpoints,
                "\n  - {{address: {address}, labels: {{app: svc{service}, version: {version}, \
                 security.istio.io/tlsMode: istio}}, serviceAccount: svc{service}}}",
            );
        }
        self.write(
            &format!("service-{service}"),
            &format!(
                "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
                 metadata: {{name: svc{service}, namespace: {namespace}}}\nspec:\n  \
                 hosts: [{host}]\n  addresses: [10.96.{high}.{low}]\n  \
                 ports: [{{number: {PORT}, name: http, protocol: HTTP}}]\n  \
                 location: MESH_INTERNAL\n  resolution: STATIC\n  endpoints:{endpoints}\n",
                namespace = self.namespace(service),
                host = self.host(service),
                high = service / 250,
                low = service % 250,
            ),
        )
    }

    /// Writes a VirtualService that sets a request header to `marker`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn mark(&mut self, service: usize, marker: &str) -> anyhow::Result<()> {
        if let Some(state) = self.services.get_mut(service) {
            marker.clone_into(&mut state.marker);
        }
        let (namespace, host) = (self.namespace(service), self.host(service));
        self.write(
            &format!("virtual-service-{service}"),
            &format!(
                "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
                 metadata: {{name: vs{service}, namespace: {namespace}}}\nspec:\n  \
                 hosts: [{host}]\n  http:\n  - match: [{{uri: {{prefix: /a}}}}]\n    \
                 headers: {{request: {{set: {{x-marker: {marker}}}}}}}\n    route:\n    \
                 - {{destination: {{host: {host}, subset: v1}}, weight: 90}}\n    \
                 - {{destination: {{host: {host}, subset: v2}}, weight: 10}}\n  \
                 - route: [{{destination: {{host: {host}}}}}]\n"
            ),
        )
    }

    /// Writes a DestinationRule with two subsets and a connection limit.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn limit(&mut self, service: usize, connections: u32) -> anyhow::Result<()> {
        if let Some(state) = self.services.get_mut(service) {
            state.connections = connections;
        }
        let (namespace, host) = (self.namespace(service), self.host(service));
        self.write(
            &format!("destination-rule-{service}"),
            &format!(
                "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                 metadata: {{name: dr{service}, namespace: {namespace}}}\nspec:\n  \
                 host: {host}\n  trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: \
                 {connections}}}}}}}\n  subsets:\n  - {{name: v1, labels: {{version: v1}}}}\n  \
                 - {{name: v2, labels: {{version: v2}}}}\n"
            ),
        )
    }

    /// Atomic, as an editor or a volume update does it.
    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.dir.join(format!("{name}.yaml"));
        let temporary = self.dir.join(format!("{name}.tmp"));
        fs::write(&temporary, text).with_context(|| format!("writing {}", temporary.display()))?;
        fs::rename(&temporary, &path).with_context(|| format!("writing {}", path.display()))
    }
}

fn version(endpoint: usize) -> &'static str {
    if endpoint.is_multiple_of(2) {
        "v1"
    } else {
        "v2"
    }
}
