//! Configuration from galley over MCP.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use futures::future::BoxFuture;
use istio_api::{collections, object::Object};
use mesh_common::{
    mcp::sink::{Client, Connect, Handle, Metrics, Options, Updater},
    tls,
};
use mesh_core::mcp::sink::Change as McpChange;
use pilot_model::key::ObjectKey;
use tonic::transport::{Channel, Endpoint};

use crate::world::{self, Batch, Command, command::Change};

/// One MCP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `host:port`.
    pub address: String,
    /// Mutual TLS.
    pub secure: bool,
}

impl Server {
    /// Reads `mcp://host:port` or `mcps://host:port`.
    ///
    /// # Errors
    /// If it has neither form.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let (secure, address) = match text.split_once("://") {
            Some(("mcp", address)) => (false, address),
            Some(("mcps", address)) => (true, address),
            _ => anyhow::bail!("MCP server {text:?} must be mcp://host:port or mcps://host:port"),
        };
        anyhow::ensure!(
            address.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            }),
            "MCP server {text:?} has no port"
        );
        Ok(Self {
            address: address.to_owned(),
            secure,
        })
    }

    /// The host of the address, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        let host = self.address.rsplit_once(':').map_or("", |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// Files of the certificate for the server.
#[derive(Clone, Debug)]
pub struct Files {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub root: PathBuf,
}

/// Connects to a server with the certificates in the files at that time.
#[derive(Debug)]
pub struct Connector {
    pub server: Server,
    /// Name in the server's certificate, if it is not the host of its address.
    pub name: Option<String>,
    pub files: Files,
}

impl Connect for Connector {
    fn connect(&self, ping_interval: Duration) -> BoxFuture<'_, anyhow::Result<Channel>> {
        Box::pin(async move {
            let tune = move |endpoint: Endpoint| {
                endpoint
                    .http2_keep_alive_interval(ping_interval)
                    .keep_alive_while_idle(true)
                    .connect_timeout(Duration::from_secs(10))
            };
            if self.server.secure {
                let files = tls::ClientFiles {
                    root: self.files.root.clone(),
                    pair: Some((self.files.cert.clone(), self.files.key.clone())),
                };
                let config = tls::ReloadingClientConfig::load(files, tls::Verify::Dns)
                    .context("loading the certificate for the MCP server")?;
                let name = self.name.as_deref();
                Ok(tls::channel(&self.server.address, &config, name, tune)?)
            } else {
                let endpoint = Endpoint::from_shared(format!("http://{}", self.server.address))?;
                Ok(tune(endpoint).connect().await?)
            }
        })
    }
}

/// Passes received objects to the writer.
#[derive(Debug)]
pub struct Intake {
    world: world::Handle,
}

impl Updater for Intake {
    async fn apply(&mut self, change: McpChange) -> Result<(), String> {
        let Some(collection) = collections::by_name(&change.collection) else {
            return Err(format!(
                "collection {} was not requested",
                change.collection
            ));
        };
        let mut batch = Batch::default();
        for resource in change.added {
            match Object::from_mcp(collection, resource) {
                Ok(object) => batch.changes.push(Change {
                    collection,
                    key: ObjectKey::new(&object.meta.namespace, &object.meta.name),
                    object: Some(object),
                }),
                // An invalid resource does not invalidate the others.
                Err(error) => tracing::warn!(
                    collection = collection.name,
                    error = %error,
                    "a resource is invalid; its last good version stays in force"
                ),
            }
        }
        for name in change.removed {
            let (namespace, name) = name.split_once('/').unwrap_or(("", &name));
            batch.changes.push(Change {
                collection,
                key: ObjectKey::new(namespace, name),
                object: None,
            });
        }
        self.world
            .send(Command::Apply(batch))
            .await
            .map_err(|error| error.to_string())
    }
}

/// Creates the client of one server; it connects when it runs.
pub fn client(
    server: &Server,
    files: Files,
    node_id: String,
    max_message_bytes: usize,
    metrics: Metrics,
    world: world::Handle,
) -> (Client<Intake>, Handle) {
    let options = Options {
        source: server.address.clone(),
        node_id,
        collections: subscriptions(),
        max_message_bytes,
        ..Options::default()
    };
    let connector = Connector {
        server: server.clone(),
        name: None,
        files,
    };
    Client::new(options, connector, Intake { world }, metrics)
}

/// Names of the requested collections: those written by users, and the services found by galley.
fn subscriptions() -> Vec<String> {
    collections::COLLECTIONS
        .iter()
        .chain([&collections::SYNTHETIC_SERVICE_ENTRIES])
        .filter(|collection| wanted(collection))
        .map(|collection| collection.name.to_owned())
        .collect()
}

/// Collections that pilot reads.
pub fn wanted(collection: &collections::Collection) -> bool {
    matches!(
        collection.kind,
        "ServiceEntry"
            | "VirtualService"
            | "DestinationRule"
            | "Gateway"
            | "Sidecar"
            | "PeerAuthentication"
            | "Policy"
            | "MeshPolicy"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_subscribed_to_in_both_collections() {
        let names = subscriptions();
        for wanted in [
            "istio/networking/v1alpha3/serviceentries",
            "istio/networking/v1alpha3/synthetic/serviceentries",
            "istio/networking/v1alpha3/virtualservices",
            "istio/authentication/v1alpha1/meshpolicies",
            "istio/authentication/v1alpha1/policies",
        ] {
            assert!(names.iter().any(|name| name == wanted), "{wanted}");
        }
    }

    #[test]
    fn server_addresses_need_a_scheme_and_a_port() {
        let parsed = Server::parse("mcps://galley:9901").unwrap();
        assert_eq!(
            parsed,
            Server {
                address: "galley:9901".into(),
                secure: true
            }
        );
        assert_eq!(parsed.host(), "galley");
        assert_eq!(Server::parse("mcp://[::1]:9901").unwrap().host(), "::1");
        for wrong in [
            "galley:9901",
            "http://galley:9901",
            "mcp://galley",
            "mcp://:1",
            "",
        ] {
            assert!(Server::parse(wrong).is_err(), "{wrong}");
        }
    }
}
