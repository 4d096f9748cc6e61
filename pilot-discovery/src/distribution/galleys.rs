//! One stream to each galley, as any of them may be the one that writes statuses.

use std::{collections::BTreeMap, io, net::SocketAddr, time::Duration};

use futures::future::BoxFuture;
use mesh_common::drain;
use tokio::task::JoinHandle;

/// Interval at which names are resolved again.
pub const LOOKUP_INTERVAL: Duration = Duration::from_secs(10);
/// Timeout of a lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of streams, against names with too many addresses.
const MAX_GALLEYS: usize = 32;

/// Name resolution and connections.
pub trait Network: Send + Sync + 'static {
    /// The addresses of `host:port`.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// Reports to one address of a name until it is dropped or the process drains.
    fn report(&self, name: usize, address: SocketAddr) -> BoxFuture<'static, ()>;
}

/// Index of the name, and the address.
type Id = (usize, SocketAddr);

/// Keeps a stream to every address of every name until the process drains. Streams to addresses
/// that disappeared are closed; a failed lookup changes nothing.
///
/// Resolves names every `interval`, by default [`LOOKUP_INTERVAL`].
pub async fn keep(
    names: Vec<String>,
    network: impl Network,
    interval: Duration,
    drain: drain::Watch,
) {
    let mut streams = Streams::default();
    let mut addresses: BTreeMap<usize, Vec<SocketAddr>> = BTreeMap::new();
    loop {
        let lookups = names.iter().enumerate().map(async |(at, name)| {
            let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, network.resolve(name));
            match lookup.await {
                Ok(Ok(found)) => Some((at, found)),
                Ok(Err(error)) => {
                    tracing::debug!(name, error = %error, "cannot resolve the address of galley");
                    None
                }
                Err(_) => None,
            }
        });
        let found = tokio::select! {
            () = drain.signaled() => break,
            found = futures::future::join_all(lookups) => found,
        };
        addresses.extend(found.into_iter().flatten());
        streams.follow(&addresses, &network);
        tokio::select! {
            () = drain.signaled() => break,
            () = tokio::time::sleep(interval) => {}
        }
    }
    // They end on their own as the process drains.
    for (_, stream) in std::mem::take(&mut streams.0) {
        let _ = stream.await;
    }
}

/// Open streams; closed when dropped.
#[derive(Default)]
struct Streams(BTreeMap<Id, JoinHandle<()>>);

impl Drop for Streams {
    fn drop(&mut self) {
        self.0.values().for_each(JoinHandle::abort);
    }
}

impl Streams {
    fn follow(&mut self, addresses: &BTreeMap<usize, Vec<SocketAddr>>, network: &impl Network) {
        let ids = addresses
            .iter()
            .flat_map(|(at, list)| list.iter().map(|address| (*at, *address)));
        let mut ids: Vec<Id> = ids.collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() > MAX_GALLEYS {
            tracing::warn!(
                addresses = ids.len(),
                limit = MAX_GALLEYS,
                "too many galleys to report to; the last addresses are left out"
            );
            ids.truncate(MAX_GALLEYS);
        }
        self.0.retain(|id, stream| {
            let is_there = ids.binary_search(id).is_ok();
            if !is_there {
                tracing::info!(address = %id.1, "galley has disappeared");
                stream.abort();
            }
            is_there
        });
        for id in ids {
            let (name, address) = id;
            let open = || tokio::spawn(network.report(name, address));
            self.0.entry(id).or_insert_with(open);
        }
    }
}

#[cfg(test)]
mod tests;
