//! Access to the writer from other tasks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use pilot_model::{mesh::Mesh, proxy::Proxy};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Accounts,
    command::{Command, Inspection},
    pace::Pace,
    state::{Published, World},
    writer::Writer,
};
use crate::metrics::Metrics;
use pilot_xds::view::View;

/// Number of queued commands above which senders wait.
const COMMANDS: usize = 1024;

/// Sends commands to the writer and reads what it published.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    published: Arc<ArcSwap<Published>>,
    gateways: watch::Receiver<Accounts>,
    next_id: Arc<AtomicU64>,
}

/// A proxy that counts as connected while this exists.
#[derive(Debug)]
pub struct Connection {
    pub id: u64,
    /// Newest view of the proxy.
    pub view: watch::Receiver<View>,
    commands: mpsc::Sender<Command>,
}

impl Handle {
    /// Starts the writer thread.
    ///
    /// # Errors
    /// If the system cannot create a thread.
    pub fn start(mesh: Mesh, pace: Pace, metrics: Metrics) -> anyhow::Result<Self> {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let published = Arc::new(ArcSwap::default());
        let writer = Writer::new(mesh, pace, published.clone(), metrics);
        let gateways = writer.world.views.accounts();
        let runtime = tokio::runtime::Handle::current();
        thread::Builder::new()
            .name("writer".into())
            .spawn(move || writer.run(receiver, &runtime))
            .context("starting the writer thread")?;
        Ok(Self {
            commands,
            published,
            gateways,
            next_id: Arc::new(AtomicU64::new(1)),
        })
    }

    pub fn published(&self) -> Arc<Published> {
        self.published.load_full()
    }

    /// The accounts that connected gateways proved.
    pub fn gateways(&self) -> watch::Receiver<Accounts> {
        self.gateways.clone()
    }

    /// Sends a command, waiting while too many are queued.
    ///
    /// # Errors
    /// If the writer ended.
    pub async fn send(&self, command: Command) -> anyhow::Result<()> {
        self.commands
            .send(command)
            .await
            .map_err(|_| anyhow::anyhow!("the writer thread ended"))
    }

    /// Waits until the writer ended, which only a defect can cause.
    pub async fn ended(&self) {
        self.commands.closed().await;
    }

    /// Registers a proxy; its resources arrive on the connection's channel.
    ///
    /// # Errors
    /// If the writer ended.
    pub async fn connect(&self, proxy: Proxy) -> anyhow::Result<Connection> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (reply, view) = oneshot::channel();
        self.send(Command::Connect {
            id,
            proxy: Box::new(proxy),
            reply,
        })
        .await?;
        let view = view.await.context("the writer thread ended")?;
        Ok(Connection {
            id,
            view,
            commands: self.commands.clone(),
        })
    }

    /// Runs `inspection` in the writer and returns its result.
    ///
    /// # Errors
    /// If the writer ended.
    pub async fn inspect<T: Send + 'static>(
        &self,
        inspection: impl FnOnce(&World) -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let (reply, result) = oneshot::channel();
        let inspection = Box::new(move |world: &World| {
            // The receiver is gone if the request was aborted.
            let _closed = reply.send(inspection(world));
        });
        self.send(Command::Inspect(Inspection(inspection))).await?;
        result.await.context("the writer thread ended")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let id = self.id;
        if let Err(mpsc::error::TrySendError::Full(command)) =
            self.commands.try_send(Command::Disconnect { id })
        {
            let commands = self.commands.clone();
            tokio::spawn(async move {
                // Fails only if the writer ended; then there is no list of proxies.
                let _ended = commands.send(command).await;
            });
        }
    }
}
