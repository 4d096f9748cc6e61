//! Both machines against each other, with random events between them.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::mcp::sink::{Machine as Sink, Step};

/// Events between the two.
#[derive(Debug, Clone)]
enum Event {
    Set(u8, u8),
    Remove(u8),
    Publish,
    Deliver,
    Refuse,
    Reconnect,
    RestartSource,
    Wait,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0u8..12, 0u8..4).prop_map(|(n, v)| Event::Set(n, v)),
        2 => (0u8..12).prop_map(Event::Remove),
        4 => Just(Event::Publish),
        6 => Just(Event::Deliver),
        1 => Just(Event::Refuse),
        1 => Just(Event::Reconnect),
        1 => Just(Event::RestartSource),
        1 => Just(Event::Wait),
    ]
}

struct Pair {
    source: Source,
    sink: Sink,
    current: Snapshot,
    version: u64,
    /// Resources that the updater holds.
    applied: BTreeMap<String, String>,
    now: Instant,
}

impl Pair {
    fn connect(&mut self, incremental: bool) {
        self.source = Source::new(Dialect::Resources, incremental);
        for request in self.sink.open(self.now) {
            self.source.request(request, Some(&self.current), self.now);
        }
    }

    fn deliver(&mut self, accept: bool) -> bool {
        let Some(sent) = self.source.next(&self.current, self.now) else {
            return false;
        };
        let reply = match self.sink.receive(sent.message).step {
            Step::Reply(reply) => reply,
            Step::Apply(_, commit) if !accept => self.sink.commit(commit, Err("no".to_owned())),
            Step::Apply(change, commit) => {
                for resource in &change.added {
                    let metadata = resource.metadata.as_ref().unwrap();
                    self.applied
                        .insert(metadata.name.clone(), metadata.version.clone());
                }
                for name in &change.removed {
                    assert!(
                        self.applied.remove(name).is_some(),
                        "removed what was not there"
                    );
                }
                self.sink.commit(commit, Ok(()))
            }
        };
        self.source.request(reply, Some(&self.current), self.now);
        true
    }
}

proptest! {
    /// After any sequence of events, once the stream is quiet and nothing was rejected, the sink
    /// holds what the source serves, full or incremental, over reconnects and restarts.
    #[test]
    fn the_sink_ends_where_the_source_is(
        events in prop::collection::vec(event(), 0..80),
        incremental: bool,
        source_incremental: bool,
    ) {
        let mut pair = Pair {
            source: Source::new(Dialect::Resources, source_incremental),
            sink: Sink::new("", [C.to_owned()], incremental),
            current: snapshot("0", &[]),
            version: 0,
            applied: BTreeMap::new(),
            now: Instant::now(),
        };
        pair.connect(source_incremental);
        let mut resources = crate::mcp::Resources::default();
        let publish = |pair: &mut Pair, resources: &crate::mcp::Resources| {
            pair.version += 1;
            let version = pair.version.to_string().into();
            pair.current.insert(C, Collection { version, resources: resources.clone() });
            let current = pair.current.clone();
            pair.source.snapshot(&current);
        };
        for event in events {
            match event {
                Event::Set(name, version) => {
                    let name = format!("n/{name}");
                    resources.insert(name.as_str().into(), resource(&name, &version.to_string()));
                }
                Event::Remove(name) => { resources.remove(format!("n/{name}").as_str()); }
                Event::Publish => publish(&mut pair, &resources),
                Event::Deliver => { pair.deliver(true); }
                Event::Refuse => { pair.deliver(false); }
                Event::Reconnect => pair.connect(source_incremental),
                Event::RestartSource => {
                    // Versions of resources depend on content; those of collections start again.
                    pair.version += 1000;
                    publish(&mut pair, &resources);
                    pair.connect(source_incremental);
                }
                Event::Wait => pair.now += Duration::from_secs(2),
            }
        }
        publish(&mut pair, &resources);
        let mut rounds = 0;
        while pair.deliver(true) {
            rounds += 1;
            prop_assert!(rounds <= 2, "the stream does not come to rest");
        }
        let wanted: BTreeMap<String, String> = resources
            .iter()
            .map(|(name, r)| (name.to_string(), r.metadata.as_ref().unwrap().version.clone()))
            .collect();
        prop_assert_eq!(&pair.applied, &wanted);
        prop_assert_eq!(pair.sink.versions(C), wanted);
    }
}
