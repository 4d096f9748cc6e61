//! The Secrets of one namespace, as reported by the API server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use mesh_common::list_watch::{Api, Closed, Event, Follower, Listed, Target};
use pilot_model::{credential::Credential, key::ObjectKey};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::status::Status;
use crate::{
    config::secrets::content::{self, Values},
    world::{self, Command, FromCluster},
};

/// Secrets per page of a list: only the API server limits their size, to a megabyte each.
const PAGE: u32 = 50;
/// Limits per namespace; Secrets beyond them are left out.
const LIMITS: Limits = Limits {
    secrets: 4096,
    bytes: 64 << 20,
};
/// Types that never contain credentials of a gateway. Some contain other secrets, which pilot
/// must not read.
const FOREIGN_TYPES: [&str; 9] = [
    "bootstrap.kubernetes.io/token",
    "helm.sh/release.v1",
    "istio.io/ca-root",
    "istio.io/key-and-cert",
    "kubernetes.io/basic-auth",
    "kubernetes.io/dockercfg",
    "kubernetes.io/dockerconfigjson",
    "kubernetes.io/service-account-token",
    "kubernetes.io/ssh-auth",
];

/// The parts of a Secret that pilot reads; the rest is skipped while parsing.
#[derive(Clone, Deserialize)]
pub(super) struct Secret {
    metadata: Metadata,
    data: Option<Data>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    resource_version: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Data {
    cert: Option<String>,
    key: Option<String>,
    cacert: Option<String>,
    crl: Option<String>,
    #[serde(rename = "tls.crt")]
    tls_crt: Option<String>,
    #[serde(rename = "tls.key")]
    tls_key: Option<String>,
    #[serde(rename = "ca.crt")]
    ca_crt: Option<String>,
    #[serde(rename = "ca.crl")]
    ca_crl: Option<String>,
    #[serde(rename = "tls.ocsp-staple")]
    staple: Option<String>,
}

impl Listed for Secret {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

impl Values for Data {
    fn value(&self, name: &'static str) -> Result<Bytes, String> {
        let value = match name {
            "cert" => &self.cert,
            "key" => &self.key,
            "cacert" => &self.cacert,
            "crl" => &self.crl,
            "tls.crt" => &self.tls_crt,
            "tls.key" => &self.tls_key,
            "ca.crt" => &self.ca_crt,
            "ca.crl" => &self.ca_crl,
            "tls.ocsp-staple" => &self.staple,
            _ => return Err(format!("data.{name} is not read of Secrets")),
        };
        let value = value.as_deref();
        value.map_or(Ok(Bytes::new()), |text| content::decode(name, text))
    }
}

#[derive(Clone, Copy)]
struct Limits {
    /// Number of Secrets with credentials.
    secrets: usize,
    /// Total size of these.
    bytes: usize,
}

/// Sends the Secrets of a namespace to the world.
pub(super) struct Secrets {
    namespace: Arc<str>,
    world: world::Handle,
    /// Notified once, when the first list arrived or failed.
    news: Option<mpsc::Sender<Arc<str>>>,
    status: Status,
    limits: Limits,
    /// Size of each Secret that the world holds.
    held: BTreeMap<String, usize>,
    bytes: usize,
    /// Whether something was left out since the last list began.
    is_full: bool,
    /// Names in the current list so far.
    listed: BTreeSet<String>,
}

impl Secrets {
    pub(super) fn new(
        namespace: Arc<str>,
        world: world::Handle,
        news: mpsc::Sender<Arc<str>>,
        status: Status,
    ) -> Self {
        Self {
            namespace,
            world,
            news: Some(news),
            status,
            limits: LIMITS,
            held: BTreeMap::new(),
            bytes: 0,
            is_full: false,
            listed: BTreeSet::new(),
        }
    }

    /// Follows them until it is dropped or the world ends.
    pub(super) async fn run(mut self, api: Api) {
        let others = FOREIGN_TYPES.map(|foreign| format!("type!={foreign}"));
        let target = Target {
            url: format!("/api/v1/namespaces/{}/secrets", self.namespace),
            page: PAGE,
            fields: Some(others.join(",")),
        };
        let Closed = api.follow(&target, &mut self).await;
    }

    async fn put(&mut self, secret: &Secret) -> Result<(), Closed> {
        let name = &secret.metadata.name;
        let data = secret.data.as_ref();
        let found = data.map(|data| content::credential(data, SystemTime::now()));
        match found.unwrap_or(Ok(None)) {
            Ok(None) => self.remove(name).await,
            Ok(Some(credential)) => {
                let size = size(&credential);
                if !self.hold(name, size) {
                    // The old content would be outdated, and the new one exceeds the limit.
                    return self.remove(name).await;
                }
                let key = ObjectKey::new(&self.namespace, name);
                self.send(FromCluster::Credential {
                    key,
                    credential: Some(credential),
                })
                .await
            }
            Err(fault) => {
                let size = self.held.get(name).copied().unwrap_or_default();
                if !self.hold(name, size) {
                    return Ok(());
                }
                let key = ObjectKey::new(&self.namespace, name);
                self.send(FromCluster::Faulty { key, fault }).await
            }
        }
    }

    /// Reserves space for a Secret of this size; `false` if there is none left.
    fn hold(&mut self, name: &str, size: usize) -> bool {
        let before = self.held.get(name).copied();
        let secrets = self.held.len() + usize::from(before.is_none());
        let bytes = self.bytes - before.unwrap_or_default() + size;
        if secrets > self.limits.secrets || bytes > self.limits.bytes {
            self.is_full = true;
            return false;
        }
        self.bytes = bytes;
        self.held.insert(name.to_owned(), size);
        true
    }

    async fn remove(&mut self, name: &str) -> Result<(), Closed> {
        let Some(size) = self.held.remove(name) else {
            return Ok(());
        };
        self.bytes -= size;
        let key = ObjectKey::new(&self.namespace, name);
        let credential = None;
        self.send(FromCluster::Credential { key, credential }).await
    }

    async fn send(&self, news: FromCluster) -> Result<(), Closed> {
        let sent = self.world.send(Command::Cluster(news)).await;
        sent.map_err(|_| Closed)
    }

    async fn tell_listed(&mut self) -> Result<(), Closed> {
        match self.news.take() {
            Some(news) => {
                let reported = news.send(self.namespace.clone()).await;
                reported.map_err(|_| Closed)
            }
            None => Ok(()),
        }
    }
}

impl Follower<Secret> for Secrets {
    async fn take(&mut self, event: Event<'_, Secret>) -> Result<(), Closed> {
        match event {
            Event::Started => {
                self.listed.clear();
                self.is_full = false;
            }
            Event::Page(secrets) => {
                for secret in secrets {
                    self.put(&secret).await?;
                    self.listed.insert(secret.metadata.name);
                }
            }
            Event::Complete => {
                let listed = std::mem::take(&mut self.listed);
                let gone = self.held.keys().filter(|name| !listed.contains(*name));
                for name in gone.cloned().collect::<Vec<_>>() {
                    self.remove(&name).await?;
                }
                self.tell_listed().await?;
            }
            Event::Applied(secret) => self.put(&secret).await?,
            Event::Deleted(secret) => self.remove(&secret.metadata.name).await?,
            Event::Failed(failure) => {
                self.status.failed(&self.namespace, failure);
                self.tell_listed().await?;
            }
            Event::Works => self.status.works(&self.namespace),
        }
        let secrets = self.held.len();
        self.status.holds(&self.namespace, secrets, self.is_full);
        Ok(())
    }
}

fn size(credential: &Credential) -> usize {
    let Credential {
        certificate,
        key,
        ca,
        crl,
        staple,
        ..
    } = credential;
    [certificate, key, ca, crl, staple]
        .map(Bytes::len)
        .iter()
        .sum()
}

#[cfg(test)]
mod tests;
