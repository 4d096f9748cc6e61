//! TLS credentials of gateways, and which gateway may be sent which.
//!
//! Some come from a directory that the operator gave to pilot; every gateway of the namespace is
//! sent those. Others are Secrets of a cluster: a gateway is sent them if its service account may
//! read the Secrets of its namespace anyway.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use imbl::OrdMap;

use crate::key::ObjectKey;

/// What a Kubernetes Secret holds for a gateway. All parts are PEM unless said otherwise; what
/// there is not is empty.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credential {
    /// Certificate chain; empty for a Secret that holds roots only.
    pub certificate: Bytes,
    /// Key of the certificate.
    pub key: Bytes,
    /// Roots that client certificates are checked against.
    pub ca: Bytes,
    /// Certificates that these roots took back.
    pub crl: Bytes,
    /// OCSP response for the certificate, in DER.
    pub staple: Bytes,
    /// Hash of all of it.
    pub version: u64,
    /// What is wrong with the newest content of the Secret, if this is an older one, or nothing.
    pub fault: Option<Arc<str>>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A service account of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account {
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Name inside the namespace.
    pub name: Arc<str>,
}

impl Account {
    /// The account `namespace/name`.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a gateway may be sent of the Secrets of the cluster, in its own namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretAccess {
    /// Nothing: there is no cluster.
    #[default]
    NoCluster,
    /// Nothing: no certificate says whose proxy it is.
    Unknown,
    /// Roots, which are public. Whether it may be sent keys is not known yet.
    Pending,
    /// Roots only: its account may not read Secrets.
    Roots,
    /// Everything.
    All,
}

impl SecretAccess {
    /// Whether it may be sent roots.
    pub fn roots(self) -> bool {
        matches!(self, Self::Pending | Self::Roots | Self::All)
    }

    /// Whether it may be sent private keys.
    pub fn keys(self) -> bool {
        self == Self::All
    }
}

/// Credentials of the cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterSecrets {
    /// There is a cluster.
    pub is_followed: bool,
    /// By `namespace/name` of the Secret.
    pub credentials: OrdMap<ObjectKey, Arc<Credential>>,
    /// Whether an account may read the Secrets of its namespace, of those that were asked about.
    pub rights: OrdMap<Account, bool>,
}

impl ClusterSecrets {
    /// What a gateway of this account may be sent; `None` when it did not prove one.
    pub fn access(&self, account: Option<&Account>) -> SecretAccess {
        match account {
            _ if !self.is_followed => SecretAccess::NoCluster,
            None => SecretAccess::Unknown,
            Some(account) => match self.rights.get(account) {
                None => SecretAccess::Pending,
                Some(false) => SecretAccess::Roots,
                Some(true) => SecretAccess::All,
            },
        }
    }
}
