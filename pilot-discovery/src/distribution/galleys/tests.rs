//! Streams follow the addresses of names.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::*;

/// Waits fail after this time.
const PATIENCE: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(1);

/// Addresses by name, `None` for a failing lookup; and the open streams.
#[derive(Clone, Default)]
struct Ports {
    found: Arc<Mutex<BTreeMap<String, Option<Vec<u16>>>>>,
    open: watch::Sender<BTreeSet<(usize, u16)>>,
}

/// Closes when dropped.
struct Open(Ports, (usize, u16));

impl Drop for Open {
    fn drop(&mut self) {
        self.0
            .open
            .send_modify(|open| assert!(open.remove(&self.1)));
    }
}

impl Network for Ports {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let found = self.found.lock().get(name).cloned().flatten();
        let found = found.ok_or_else(|| io::Error::other("no such name"));
        let address = |port: &u16| SocketAddr::from(([10, 0, 0, 1], *port));
        let found = found.map(|ports| ports.iter().map(address).collect());
        Box::pin(std::future::ready(found))
    }

    fn report(&self, name: usize, address: SocketAddr) -> BoxFuture<'static, ()> {
        let (network, id) = (self.clone(), (name, address.port()));
        Box::pin(async move {
            network.open.send_modify(|open| assert!(open.insert(id)));
            let _open = Open(network, id);
            std::future::pending().await
        })
    }
}

impl Ports {
    fn set(&self, name: &str, ports: Option<&[u16]>) {
        let ports = ports.map(<[u16]>::to_vec);
        self.found.lock().insert(name.to_owned(), ports);
    }

    /// Waits until exactly these are open.
    async fn until(&self, wanted: &[(usize, u16)]) {
        let wanted: BTreeSet<_> = wanted.iter().copied().collect();
        let mut open = self.open.subscribe();
        let wait = open.wait_for(|open| *open == wanted);
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        let found = self.open.borrow().clone();
        assert!(waited.is_ok(), "want {wanted:?}, have {found:?}");
    }
}

fn start(network: &Ports, names: &[&str]) -> (drain::Trigger, JoinHandle<()>) {
    let (trigger, drain) = drain::channel();
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    (
        trigger,
        tokio::spawn(keep(names, network.clone(), SOON, drain)),
    )
}

#[tokio::test]
async fn each_address_has_a_stream_for_as_long_as_it_is_there() {
    let network = Ports::default();
    network.set("a:1", Some(&[1, 2]));
    let (_trigger, task) = start(&network, &["a:1", "b:1"]);
    network.until(&[(0, 1), (0, 2)]).await;
    network.set("b:1", Some(&[7, 7]));
    network.until(&[(0, 1), (0, 2), (1, 7)]).await;
    network.set("a:1", Some(&[2, 3]));
    network.until(&[(0, 2), (0, 3), (1, 7)]).await;
    // A failed lookup does not close streams.
    network.set("a:1", None);
    network.set("b:1", Some(&[8]));
    network.until(&[(0, 2), (0, 3), (1, 8)]).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    network.until(&[]).await;
}

#[tokio::test]
async fn streams_are_bounded() {
    let network = Ports::default();
    let ports: Vec<u16> = (1..100).collect();
    network.set("a:1", Some(&ports));
    let (_trigger, _task) = start(&network, &["a:1"]);
    let wanted: Vec<_> = (1..=u16::try_from(MAX_GALLEYS).unwrap())
        .map(|port| (0, port))
        .collect();
    network.until(&wanted).await;
}
