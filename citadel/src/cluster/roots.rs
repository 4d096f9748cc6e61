//! The root certificates in a ConfigMap of every namespace, so that Pods can verify citadel and
//! each other.
//!
//! ```text
//! namespaces ── watch ─┐ facts                next            config_map::put
//! ConfigMaps ── watch ─┴──────► Board (pure) ──────► up to 8 ────────────────► API server
//!   (with our name)               ▲ done, failed ──────┘
//! ```

mod board;
mod facts;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use mesh_common::backoff::Backoff;
use mesh_common::kubeclient::Client;
use mesh_common::list_watch::{Api, Target};
use mesh_common::metrics::IntCounter;
use mesh_common::owner::Owner;
use mesh_core::rate::LogLimit;
use tokio::sync::{mpsc, watch};

use super::at;
use super::config_map::{self, Content, PutError};
use super::trouble::Trouble;
use crate::ca::Authority;
use board::Board;
use facts::{Fact, Forward, Map, Namespace};

/// Key of the root certificates in the ConfigMap.
const KEY: &str = "root-cert.pem";

/// Maximum number of concurrent writes.
const AT_A_TIME: usize = 8;

/// Capacity of the channels of pages and events.
const FACTS: usize = 4;

/// Page size of client-go.
const PAGE: u32 = 500;

/// Minimum time between two log lines about failed writes.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(60);

/// Dependencies of the task.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) client: Client,
    pub(crate) api: Api,
    /// Name of the ConfigMap.
    pub(crate) name: String,
    pub(crate) authority: Arc<Authority>,
    /// Owner of the ConfigMaps.
    pub(crate) owner: Owner,
    pub(crate) errors: IntCounter,
    /// First and longest delay while the API server is unreachable.
    pub(crate) pauses: (Duration, Duration),
}

/// Maintains the ConfigMaps until it is dropped.
pub(crate) async fn run(options: Options) {
    let (namespaces, mut namespaces_rx) = mpsc::channel(FACTS);
    let (maps, mut maps_rx) = mpsc::channel(FACTS);
    let all = Target {
        url: "/api/v1/namespaces".to_owned(),
        page: PAGE,
        fields: None,
    };
    let ours = Target {
        url: "/api/v1/configmaps".to_owned(),
        page: PAGE,
        fields: Some(format!("metadata.name={}", options.name)),
    };
    let mut namespaces = Forward {
        facts: namespaces,
        trouble: Trouble::new("namespaces"),
    };
    let mut maps = Forward {
        facts: maps,
        trouble: Trouble::new("ConfigMaps of the root"),
    };
    let mut keeper = Keeper::new(options.clone());
    tokio::select! {
        _ = options.api.follow(&all, &mut namespaces) => {}
        _ = options.api.follow(&ours, &mut maps) => {}
        () = keeper.run(&mut namespaces_rx, &mut maps_rx) => {}
    }
}

struct Keeper {
    options: Options,
    board: Board,
    changes: watch::Receiver<u64>,
    /// The desired root certificates.
    content: Arc<Content>,
    backoff: Backoff,
    /// The API server is unreachable: no requests before this time.
    paused: Option<Instant>,
    trouble: LogLimit,
}

/// Result of a write, with the roots that were written.
type Written = (Box<str>, Arc<Content>, Result<bool, PutError>);

impl Keeper {
    fn new(options: Options) -> Self {
        let mut changes = options.authority.subscribe();
        changes.mark_unchanged();
        Self {
            content: Arc::new(content(&options)),
            board: Board::default(),
            changes,
            backoff: Backoff::new(options.pauses.0, options.pauses.1),
            paused: None,
            trouble: LogLimit::new(TROUBLE_INTERVAL, 1),
            options,
        }
    }

    async fn run(
        &mut self,
        namespaces: &mut mpsc::Receiver<Fact<Namespace>>,
        maps: &mut mpsc::Receiver<Fact<Map>>,
    ) {
        let mut writes = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            self.paused = self.paused.filter(|until| *until > now);
            while self.paused.is_none() && writes.len() < AT_A_TIME {
                let Some((namespace, is_there)) = self.board.next(now) else {
                    break;
                };
                writes.push(self.write(namespace, is_there));
            }
            // Starts no further writes at the limit.
            let is_full = writes.len() >= AT_A_TIME;
            let wake = self.paused.or_else(|| self.board.wake());
            let wake = wake.filter(|_| !is_full);
            tokio::select! {
                Some(fact) = namespaces.recv() => self.namespaces(fact),
                Some(fact) = maps.recv() => self.maps(fact),
                Some(written) = writes.next() => self.written(written),
                Ok(()) = self.changes.changed() => {
                    self.content = Arc::new(content(&self.options));
                    self.board.root_changed();
                }
                () = at(wake) => {}
                // Both watches have ended, and the authority is gone.
                else => return,
            }
        }
    }

    fn namespaces(&mut self, fact: Fact<Namespace>) {
        match fact {
            Fact::Begin => self.board.namespaces_begin(),
            Fact::There(all) => {
                for one in all {
                    self.board.namespace(&one.metadata.name, one.is_active());
                }
            }
            Fact::Gone(one) => self.board.namespace_gone(&one.metadata.name),
            Fact::End => self.board.namespaces_end(),
        }
    }

    fn maps(&mut self, fact: Fact<Map>) {
        match fact {
            Fact::Begin => self.board.maps_begin(),
            Fact::There(all) => {
                for one in all {
                    let is_right = one.root() == Some(&self.content.value);
                    self.board.map(&one.metadata.namespace, is_right);
                }
            }
            Fact::Gone(one) => self.board.map_gone(&one.metadata.namespace),
            Fact::End => self.board.maps_end(),
        }
    }

    fn write(
        &self,
        namespace: Box<str>,
        is_there: bool,
    ) -> impl Future<Output = Written> + Send + use<> {
        let (client, content) = (self.options.client.clone(), Arc::clone(&self.content));
        async move {
            let result = config_map::put(&client, &namespace, &content, is_there).await;
            (namespace, content, result)
        }
    }

    fn written(&mut self, (namespace, content, result): Written) {
        let now = Instant::now();
        let error = match result {
            Ok(is_new) => {
                self.backoff.reset();
                let is_right = Arc::ptr_eq(&content, &self.content);
                self.board.done(&namespace, is_right, is_new, now);
                return;
            }
            Err(error) => error,
        };
        if !matches!(error, PutError::NoNamespace) {
            self.options.errors.inc();
            if let Some(left_out) = self.trouble.allow(now) {
                let name = &self.options.name;
                tracing::warn!(%namespace, name, left_out, %error, "cannot write the ConfigMap");
            }
        }
        match error {
            PutError::Away(_) => {
                self.board.postponed(&namespace);
                if self.paused.is_none() {
                    self.paused = Some(now + self.backoff.next());
                }
            }
            PutError::Conflict | PutError::Other(_) => self.board.failed(&namespace, false, now),
            PutError::NoNamespace | PutError::Forbidden(_) | PutError::NoOwner(_) => {
                self.board.failed(&namespace, true, now);
            }
        }
    }
}

fn content(options: &Options) -> Content {
    Content {
        name: options.name.clone(),
        key: KEY,
        value: options.authority.bundle().root_pem().to_owned(),
        is_labelled: true,
        owner: options.owner.clone(),
    }
}
