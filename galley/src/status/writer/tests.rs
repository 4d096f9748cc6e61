//! Limits of writes. No request is sent: the runtime of these tests is never polled for it.

use mesh_common::lease::{self, Announce};
use mesh_common::{kubeclient, metrics::Registry};

use super::*;
use crate::status::observation::{Live, Verdict};
use crate::status::shown::Shown;
use istio_api::manifest::Key;

fn board(objects: usize, now: Now) -> Board {
    let mut board = Board::new(ReportTiming::default(), now);
    for i in 0..objects {
        let key = Key {
            group: "networking.istio.io",
            kind: "Sidecar",
            namespace: "shop".into(),
            name: format!("s{i}").into(),
        };
        let live = Live {
            api_version: "v1",
            resource_version: "1".into(),
            generation: Some(1),
            shown: Shown::default(),
        };
        let observation = Observation::Read {
            path: std::path::Path::new(&format!("s{i}")).into(),
            objects: vec![(key, Verdict::Accepted(1))],
            obscured: None,
            live: Some(Box::new(live)),
        };
        board.observe(observation, now);
    }
    board.observe(Observation::Synced, now);
    board.analyzed(Arc::default(), now);
    board
}

fn output(per_second: u32) -> (Announce, Output) {
    let config = kubeclient::Config::new("http://127.0.0.1:1".parse().unwrap());
    let (announce, leadership) = lease::channel();
    let target = Target {
        client: kubeclient::client(config).unwrap(),
        leadership,
        per_second,
    };
    let metrics = Metrics::register(&Registry::empty());
    (announce, Output::new(target, metrics))
}

fn lead(announce: &Announce) {
    announce.say(Some(Instant::now() + Duration::from_secs(3600)));
}

#[tokio::test]
async fn writes_keep_to_their_rate_and_few_are_on_their_way() {
    let start = now();
    let after = |milliseconds| Now {
        monotonic: start.monotonic + Duration::from_millis(milliseconds),
        ..start
    };
    let (announce, mut output) = output(1);
    lead(&announce);
    let mut board = board(9, start);
    let second = Some(after(1000).monotonic);
    assert_eq!(output.start(&mut board, after(0)), second);
    assert_eq!((output.writes.len(), board.waiting()), (2, 7));
    output.start(&mut board, after(999));
    assert_eq!(output.writes.len(), 2);
    output.start(&mut board, after(1000));
    assert_eq!(output.writes.len(), 3);
    // There are tokens, but the maximum of concurrent writes is reached.
    assert_eq!(output.start(&mut board, after(9000)), None);
    assert_eq!((output.writes.len(), board.waiting()), (PARALLEL, 5));
}

#[tokio::test]
async fn only_the_leader_writes() {
    let (announce, mut output) = output(10);
    let mut board = board(3, now());
    assert_eq!(output.start(&mut board, now()), None);
    lead(&announce);
    // The leadership ends by its deadline, before it is revoked.
    announce.say(Some(Instant::now()));
    assert_eq!(output.start(&mut board, now()), None);
    assert_eq!((output.writes.len(), board.waiting()), (0, 3));
    lead(&announce);
    output.start(&mut board, now());
    assert_eq!((output.writes.len(), board.waiting()), (3, 0));

    announce.say(None);
    let looks = output.leadership.changed(true);
    tokio::time::timeout(Duration::from_secs(20), looks)
        .await
        .unwrap();
    assert_eq!(output.start(&mut board, now()), None);
    while let Some(ended) = output.tasks.join_next_with_id().await {
        let error = ended.unwrap_err();
        let id = error.id();
        assert!(error.is_cancelled());
        output.settle(&mut board, id, Err(error));
    }
    // They are queued again, for another leader.
    assert_eq!((output.writes.len(), board.waiting()), (0, 3));
    assert_eq!(output.start(&mut board, now()), None);
}

#[tokio::test]
async fn after_a_failure_of_the_server_all_wait() {
    let (announce, mut output) = output(10);
    lead(&announce);
    let start = now();
    let mut board = board(1, start);
    output.start(&mut board, start);
    let id = *output.writes.keys().next().unwrap();
    let answer = Answer::Unavailable("forbidden", "no".to_owned());
    output.settle(&mut board, id, Ok(answer));
    assert_eq!(board.waiting(), 1);
    let pause = output.start(&mut board, start).unwrap();
    assert!(pause > start.monotonic && output.writes.is_empty());
    let later = Now {
        monotonic: pause,
        ..start
    };
    output.start(&mut board, later);
    assert_eq!(output.writes.len(), 1);
}
