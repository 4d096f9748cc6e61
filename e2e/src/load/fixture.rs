//! The configuration of the benchmark, as files.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// Size of the mesh.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub namespaces: usize,
    pub services: usize,
    pub endpoints: usize,
    pub virtual_services: usize,
    pub destination_rules: usize,
}

/// A directory of configuration that can be changed.
#[derive(Debug)]
pub struct Fixture {
    dir: PathBuf,
    size: Size,
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
        let fixture = Self {
            dir: dir.to_owned(),
            size,
        };
        for service in 0..size.services {
            fixture.service(service, "")?;
        }
        for service in 0..size.virtual_services {
            fixture.virtual_service(service, "start")?;
        }
        for service in 0..size.destination_rules {
            fixture.destination_rule(service, 100)?;
        }
        Ok(fixture)
    }

    pub fn namespace(&self, service: usize) -> String {
        format!("ns{}", service % self.size.namespaces)
    }

    pub fn host(&self, service: usize) -> String {
        format!("svc{service}.{}.svc.cluster.local", self.namespace(service))
    }

    pub fn cluster(&self, service: usize) -> String {
        format!("outbound|{PORT}||{}", self.host(service))
    }

    /// Writes a service; `extra` is the address of one endpoint more.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn service(&self, service: usize, extra: &str) -> anyhow::Result<()> {
        let mut endpoints = String::new();
        for endpoint in 0..self.size.endpoints {
            let (high, low) = (service / 250, service % 250);
            let _infallible = write!(
                endpoints,
                "\n  - {{address: 10.{high}.{low}.{endpoint}, labels: {{app: svc{service}, \
                 version: v{}, security.istio.io/tlsMode: istio}}, serviceAccount: svc{service}}}",
                endpoint % 2 + 1
            );
        }
        if !extra.is_empty() {
            let _infallible = write!(
                endpoints,
                "\n  - {{address: {extra}, labels: {{app: svc{service}, version: v1, \
                 security.istio.io/tlsMode: istio}}, serviceAccount: svc{service}}}"
            );
        }
        let (high, low) = (service / 250, service % 250);
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
            ),
        )
    }

    /// Writes a VirtualService that sets a request header to `marker`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn virtual_service(&self, service: usize, marker: &str) -> anyhow::Result<()> {
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
    pub fn destination_rule(&self, service: usize, connections: u32) -> anyhow::Result<()> {
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
