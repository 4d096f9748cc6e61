//! Several replicas, and an API server with one Lease.

#![allow(clippy::unwrap_used, reason = "a test that fails fails here")]

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;

/// The Lease, and whether the server responds.
#[derive(Debug, Default)]
struct Contents {
    lease: Option<Value>,
    version: u64,
    is_down: bool,
    writes: usize,
}

type Server = Arc<Mutex<Contents>>;

fn client(server: &Server) -> Client {
    let server = server.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = server.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let (code, answer) = answer(&mut server.lock(), &head.method, &body);
            let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
            *response.status_mut() = code;
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    Client::new(service, "default")
}

fn refused(code: StatusCode) -> (StatusCode, Value) {
    let reason = match code {
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::CONFLICT => "Conflict",
        _ => "ServiceUnavailable",
    };
    let body = json!({"kind": "Status", "status": "Failure", "code": code.as_u16(),
                      "message": "no", "reason": reason});
    (code, body)
}

fn answer(contents: &mut Contents, method: &Method, body: &[u8]) -> (StatusCode, Value) {
    if contents.is_down {
        return refused(StatusCode::SERVICE_UNAVAILABLE);
    }
    if method == Method::GET {
        return match &contents.lease {
            Some(lease) => (StatusCode::OK, lease.clone()),
            None => refused(StatusCode::NOT_FOUND),
        };
    }
    let mut lease: Value = serde_json::from_slice(body).unwrap();
    let version = |lease: &Value| lease.pointer("/metadata/resourceVersion").cloned();
    let known = contents.lease.as_ref().and_then(version);
    if version(&lease) != known {
        return refused(StatusCode::CONFLICT);
    }
    contents.version += 1;
    contents.writes += 1;
    lease["metadata"]["resourceVersion"] = contents.version.to_string().into();
    contents.lease = Some(lease.clone());
    (StatusCode::OK, lease)
}

struct Replica {
    leadership: Leadership,
    trigger: drain::Trigger,
}

fn start(server: &Server, identity: &str, certain: Duration) -> Replica {
    let (announce, leadership) = channel();
    let settings = Settings {
        namespace: "istio-system".to_owned(),
        name: "leader".to_owned(),
        identity: identity.to_owned(),
        owner: Owner::default(),
        timing: Timing {
            duration: Duration::from_secs(3600),
            certain,
            period: Duration::from_millis(2),
        },
    };
    let (trigger, drain) = drain::channel();
    tokio::spawn(keep(client(server), settings, announce, drain));
    Replica {
        leadership,
        trigger,
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

async fn in_time(wait: impl Future<Output = ()>) {
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

#[tokio::test]
async fn one_of_two_leads_and_the_other_takes_over_when_it_ends() {
    let server = Server::default();
    let mut first = start(&server, "a", PATIENCE);
    in_time(first.leadership.gained()).await;
    let mut second = start(&server, "b", PATIENCE);
    // Many rounds of both.
    let before = server.lock().writes;
    in_time(async {
        while server.lock().writes < before + 20 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(first.leadership.is_held() && !second.leadership.is_held());
    assert!(first.trigger.drain(PATIENCE).await);
    in_time(first.leadership.lost()).await;
    in_time(second.leadership.gained()).await;
    let holder = server.lock().lease.as_ref().unwrap()["spec"]["holderIdentity"].clone();
    assert_eq!(holder, "b");
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_is_lost_and_gained_again() {
    let server = Server::default();
    let mut replica = start(&server, "a", Duration::from_millis(200));
    in_time(replica.leadership.gained()).await;
    server.lock().is_down = true;
    in_time(replica.leadership.lost()).await;
    assert!(!replica.leadership.is_held());
    server.lock().is_down = false;
    in_time(replica.leadership.gained()).await;
}

#[tokio::test]
async fn a_lease_that_nobody_keeps_is_lost() {
    let (announce, mut leadership) = channel();
    announce.say(Some(Instant::now() + PATIENCE));
    assert!(leadership.is_held());
    drop(announce);
    assert!(!leadership.is_held());
    in_time(leadership.lost()).await;
}

#[tokio::test]
async fn a_lease_that_somebody_took_is_lost() {
    let server = Server::default();
    let mut replica = start(&server, "a", PATIENCE);
    in_time(replica.leadership.gained()).await;
    {
        let mut contents = server.lock();
        contents.version += 1;
        let version = contents.version.to_string();
        let lease = contents.lease.as_mut().unwrap();
        lease["metadata"]["resourceVersion"] = version.into();
        lease["spec"]["holderIdentity"] = "b".into();
    }
    in_time(replica.leadership.lost()).await;
}
