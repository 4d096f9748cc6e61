#![allow(clippy::unwrap_used, reason = "test code")]

use base64::Engine as _;
use mesh_common::{list_watch::Failure, metrics::Registry, testing::Authority};
use pilot_model::{mesh::Mesh, snapshot::Snapshot};
use serde_json::json;

use super::*;
use crate::{metrics::Metrics, world::pace::Pace};

/// A follower with its own world, and the channel on which it sends news.
struct Test {
    secrets: Secrets,
    world: world::Handle,
    news: mpsc::Receiver<Arc<str>>,
}

impl Test {
    async fn start(limits: Limits) -> Self {
        let metrics = Metrics::register(&Registry::empty());
        let world = world::Handle::start(Mesh::default(), Pace::default(), metrics).unwrap();
        let (news_tx, news) = mpsc::channel(1);
        let status = Status::default();
        let mut secrets = Secrets::new("edge".into(), world.clone(), news_tx, status);
        secrets.limits = limits;
        Self {
            secrets,
            world,
            news,
        }
    }

    async fn take(&mut self, event: Event<'_, Secret>) {
        self.secrets.take(event).await.unwrap();
    }

    async fn list(&mut self, pages: Vec<Vec<Secret>>) {
        self.take(Event::Started).await;
        for page in pages {
            self.take(Event::Page(page)).await;
        }
        self.take(Event::Complete).await;
    }

    /// Names of the credentials in the world; `!` marks those with a fault.
    async fn names(&self) -> Vec<String> {
        let names = |snapshot: &Snapshot| {
            let credentials = snapshot.cluster_secrets.credentials.iter();
            let names = credentials.map(|(key, credential)| {
                let mark = if credential.fault.is_some() { "!" } else { "" };
                format!("{}{mark}", key.name)
            });
            names.collect()
        };
        self.world.send(Command::Synced).await.unwrap();
        let seen = self.world.inspect(move |writer| names(&writer.snapshot));
        seen.await.unwrap()
    }
}

fn secret(name: &str, data: &[(&str, &str)]) -> Secret {
    let data = data.iter();
    let data: serde_json::Map<_, _> = data
        .map(|(key, text)| {
            let text = base64::engine::general_purpose::STANDARD.encode(text);
            ((*key).to_owned(), text.into())
        })
        .collect();
    let value = json!({
        "metadata": {"name": name, "namespace": "edge", "resourceVersion": "1"},
        "data": data, "type": "Opaque",
    });
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn a_list_takes_away_what_it_does_not_have() {
    let mut test = Test::start(LIMITS).await;
    let authority = Authority::new("test");
    let (root, one) = (authority.root(), authority.issue(&[], &["a"]));
    let roots = |name| secret(name, &[("ca.crt", &root)]);
    test.list(vec![
        vec![roots("a"), secret("none", &[("password", "x")])],
        vec![roots("b"), roots("c")],
    ])
    .await;
    assert_eq!(test.names().await, ["a", "b", "c"]);
    assert_eq!(&*test.news.recv().await.unwrap(), "edge");
    // Failures change nothing, nor does an incomplete list.
    test.take(Event::Failed(&Failure::Silent)).await;
    test.take(Event::Started).await;
    test.take(Event::Page(vec![roots("b")])).await;
    assert_eq!(test.names().await, ["a", "b", "c"]);
    test.list(vec![vec![roots("b")]]).await;
    assert_eq!(test.names().await, ["b"]);
    // An invalid Secret keeps its previous content, and its name.
    let half = secret("b", &[("tls.crt", &one.cert)]);
    test.take(Event::Applied(half.clone())).await;
    test.take(Event::Applied(secret("d", &[("tls.crt", &one.cert)])))
        .await;
    assert_eq!(test.names().await, ["b!", "d!"]);
    test.take(Event::Applied(roots("b"))).await;
    test.take(Event::Applied(secret("d", &[]))).await;
    assert_eq!(test.names().await, ["b"]);
    test.take(Event::Deleted(half)).await;
    assert!(test.names().await.is_empty());
    assert_eq!((test.secrets.bytes, test.secrets.held.len()), (0, 0));
}

#[tokio::test]
async fn a_namespace_is_told_of_when_its_list_fails() {
    let mut test = Test::start(LIMITS).await;
    let refused = Failure::Refused(403, "no".to_owned());
    test.take(Event::Failed(&refused)).await;
    assert_eq!(&*test.news.recv().await.unwrap(), "edge");
    let shown = test.secrets.status.shown();
    let trouble = shown.namespaces.get("edge").unwrap().trouble.as_deref();
    assert!(trouble.unwrap().contains("403"));
    test.take(Event::Works).await;
    let shown = test.secrets.status.shown();
    assert_eq!(shown.namespaces.get("edge").unwrap().trouble, None);
}

#[tokio::test]
async fn more_than_is_held_is_left_out() {
    let root = Authority::new("test").root();
    let limits = Limits {
        secrets: 3,
        bytes: root.len() * 5 / 2,
    };
    let mut test = Test::start(limits).await;
    let roots = |name| secret(name, &[("ca.crt", &root)]);
    let bad = |name| secret(name, &[("ca.crt", "x")]);
    let full = |test: &Test| {
        let shown = test.secrets.status.shown();
        shown.namespaces.get("edge").unwrap().is_full
    };
    // Two reach the limit of bytes, three the limit of Secrets.
    test.list(vec![vec![roots("a"), bad("b"), roots("c")]])
        .await;
    assert!(!full(&test));
    test.take(Event::Applied(bad("d"))).await;
    assert!(full(&test));
    test.take(Event::Applied(roots("b"))).await;
    assert_eq!(test.names().await, ["a", "c"]);
    // Changes of Secrets that are held already are accepted.
    test.take(Event::Applied(bad("a"))).await;
    assert_eq!(test.names().await, ["a!", "c"]);
    // The next list starts again without any.
    test.list(vec![vec![roots("c"), bad("d")]]).await;
    assert_eq!(test.names().await, ["c", "d!"]);
    assert!(!full(&test));
}
