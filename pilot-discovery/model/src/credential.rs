//! TLS credentials of gateways, and which gateway may receive them.
//!
//! Some come from a directory given to pilot by its operator; every gateway of the namespace
//! receives those. Others are Secrets of a cluster: a gateway receives them if its service account
//! may read the Secrets of its namespace anyway.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use imbl::OrdMap;

use crate::key::ObjectKey;

/// The parts of a Kubernetes Secret that a gateway uses. All are PEM unless stated otherwise;
/// absent parts are empty.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credential {
    /// Certificate chain; empty if the Secret holds only roots.
    pub certificate: Bytes,
    /// Private key of the certificate.
    pub key: Bytes,
    /// Roots that client certificates are verified against.
    pub ca: Bytes,
    /// Certificate revocation list of these roots.
    pub crl: Bytes,
    /// OCSP response for the certificate, in DER.
    pub staple: Bytes,
    /// Hash of all parts.
    pub version: u64,
    /// Why the newest content of the Secret is invalid; this one is then older, or empty.
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

/// Which Secrets of the cluster a gateway may receive, from its own namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretAccess {
    /// None: there is no cluster.
    #[default]
    NoCluster,
    /// None: the proxy has no verified account.
    Unknown,
    /// Roots, which are public. Whether it may receive keys is not known yet.
    Pending,
    /// Roots only: its account may not read Secrets.
    Roots,
    /// All.
    All,
}

impl SecretAccess {
    /// Whether it may receive roots.
    pub fn roots(self) -> bool {
        matches!(self, Self::Pending | Self::Roots | Self::All)
    }

    /// Whether it may receive private keys.
    pub fn keys(self) -> bool {
        self == Self::All
    }
}

/// Credentials of the cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterSecrets {
    /// Whether there is a cluster.
    pub is_followed: bool,
    /// By `namespace/name` of the Secret.
    pub credentials: OrdMap<ObjectKey, Arc<Credential>>,
    /// Whether an account may read the Secrets of its namespace, for the accounts asked about.
    pub rights: OrdMap<Account, bool>,
}

impl ClusterSecrets {
    /// What a gateway of this account may receive; `None`: it has no verified account.
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
