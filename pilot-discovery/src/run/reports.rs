//! Reports to galleys: their content and the streams that carry them.

use std::{io, net::SocketAddr};

use anyhow::Context as _;
use futures::future::BoxFuture;
use istio_api::distribution::{COLLECTION, NODE};
use mesh_common::{
    app::App,
    drain,
    mcp::source::{Client, ClientOptions, Metrics, Source},
};
use prometheus::IntCounter;
use tokio::{net::lookup_host, sync::watch};
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

use crate::{
    args::Args,
    config::mcp::{Connector, Files, Server},
    distribution::{
        galleys::{self, Network},
        report,
    },
    world,
    xds::registry,
};

/// Maximum size of a request from galley, in bytes.
const MAX_REQUEST: usize = 1 << 20;

/// The galleys of `--statusReportAddr`.
struct Galleys {
    servers: Vec<Server>,
    /// Name in their certificates, if it is not the name that is looked up.
    server_name: Option<String>,
    files: Files,
    source: Source,
    options: ClientOptions,
    reconnections: IntCounter,
    drain: drain::Watch,
}

impl Network for Galleys {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(lookup_host(name).await?.collect()) })
    }

    fn report(&self, name: usize, address: SocketAddr) -> BoxFuture<'static, ()> {
        let Some(server) = self.servers.get(name) else {
            return Box::pin(std::future::ready(()));
        };
        let connector = Connector {
            server: Server {
                address: address.to_string(),
                secure: server.secure,
            },
            name: Some(match &self.server_name {
                Some(name) => name.clone(),
                None => server.host().to_owned(),
            }),
            files: self.files.clone(),
        };
        let options = ClientOptions {
            sink: format!("{} at {address}", server.address),
            ..self.options.clone()
        };
        let reconnections = self.reconnections.clone();
        let client = Client::new(self.source.clone(), options, connector, reconnections);
        Box::pin(client.run(self.drain.clone()))
    }
}

/// Starts the reports, if there are galleys to report to.
///
/// # Errors
/// If an address is invalid.
pub(super) fn start(
    args: &Args,
    app: &App,
    world: &world::Handle,
    streams: &registry::Registry,
) -> anyhow::Result<()> {
    let (registry, drain) = (&app.registry, app.drain());
    let addresses = args.status_reports.iter();
    let servers = addresses
        .filter(|address| !address.is_empty())
        .map(|address| Server::parse(address).context("--statusReportAddr"))
        .collect::<anyhow::Result<Vec<Server>>>()?;
    if servers.is_empty() {
        return Ok(());
    }
    let (reports, snapshots) = watch::channel(None);
    let follow = report::follow(
        world.clone(),
        streams.clone(),
        reports,
        args.status_report_interval,
        drain.clone(),
    );
    app.tasks.keep("reports", follow);
    let metrics = Metrics::register(registry, "pilot", [COLLECTION.to_owned()]);
    let mut metadata = MetadataMap::new();
    let node = format!("{}.{}", args.pod_name, args.namespace);
    let node = AsciiMetadataValue::try_from(node).context("the name of this Pod")?;
    metadata.insert(NODE, node);
    let names = servers.iter().map(|server| server.address.clone());
    let names = names.collect();
    let galleys = Galleys {
        servers,
        server_name: Some(args.status_report_server_name.clone()).filter(|name| !name.is_empty()),
        files: Files {
            cert: args.cert.clone(),
            key: args.key.clone(),
            root: args.ca_cert.clone(),
        },
        source: Source::new(snapshots, true, metrics, drain.clone()),
        options: ClientOptions {
            sink: String::new(),
            metadata,
            max_request_bytes: MAX_REQUEST,
            ping_interval: args.keepalive.interval,
            is_optional: true,
        },
        reconnections: Client::counter(registry, "pilot"),
        drain: drain.clone(),
    };
    let keep = galleys::keep(names, galleys, galleys::LOOKUP_INTERVAL, drain.clone());
    app.tasks.keep("streams of reports", keep);
    Ok(())
}
