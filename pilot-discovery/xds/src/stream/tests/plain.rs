//! Individual cases, to be read one by one.

use istio_api::{
    envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
    google::rpc::Status,
};
use pilot_networking::kind::Kind;
use prost::Message as _;

use super::{super::*, world::World};
use crate::request::{read_delta, read_sotw};

fn base() -> World {
    World {
        clusters: [Some(0), None, None, None],
        routes: [Some((0, 1)), None, None],
        listeners: [Some((0, 1, 0)), None, None],
        ..World::default()
    }
}

fn view(world: &World) -> View {
    world.view(&View::default())
}

fn delta(kind: Kind, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names_subscribe: names.iter().map(|&name| name.into()).collect(),
        ..Default::default()
    }
}

fn ask(stream: &mut Stream, request: &DeltaDiscoveryRequest) -> (Event, Vec<Response>) {
    stream.on_request(read_delta(&request.encode_to_vec().into()).unwrap().1)
}

fn ack(stream: &mut Stream, response: &Response) -> (Event, Vec<Response>) {
    answer(stream, response, None)
}

fn answer(stream: &mut Stream, response: &Response, error: Option<&str>) -> (Event, Vec<Response>) {
    let request = DeltaDiscoveryRequest {
        response_nonce: response.nonce.clone(),
        error_detail: error.map(|message| Status {
            message: message.into(),
            ..Default::default()
        }),
        ..delta(response.kind, &[])
    };
    ask(stream, &request)
}

fn names(response: &Response) -> Vec<&str> {
    response
        .resources
        .iter()
        .map(|resource| &*resource.name)
        .collect()
}

fn kinds(responses: &[Response]) -> Vec<Kind> {
    responses.iter().map(|response| response.kind).collect()
}

/// A stream with subscriptions to everything, all acknowledged.
fn settled(world: &World) -> (Stream, View) {
    let view = view(world);
    let mut stream = Stream::new(Variant::Delta, view.clone());
    let mut sent = Vec::new();
    for request in [
        delta(Kind::Cluster, &[]),
        delta(Kind::Endpoint, &["c0", "cz"]),
        delta(Kind::Listener, &[]),
        delta(Kind::Route, &["r0", "rz"]),
    ] {
        sent.extend(ask(&mut stream, &request).1);
        while let Some(response) = sent.pop() {
            sent.extend(ack(&mut stream, &response).1);
        }
    }
    (stream, view)
}

fn sotw(kind: Kind, nonce: &str, names: &[&str]) -> Request {
    let request = DiscoveryRequest {
        type_url: kind.type_url().into(),
        response_nonce: nonce.into(),
        resource_names: names.iter().map(|&name| name.into()).collect(),
        ..Default::default()
    };
    read_sotw(&request.encode_to_vec().into()).unwrap().1
}

#[test]
fn an_endpoint_change_is_one_resource_and_waits_for_nothing() {
    let world = base();
    let (mut stream, old) = settled(&world);
    let next = World {
        endpoints: [7, 0, 0, 0],
        ..world
    };
    let sent = stream.on_view(next.view(&old));
    assert_eq!(kinds(&sent), [Kind::Endpoint]);
    assert_eq!(names(&sent[0]), ["c0"]);
}

#[test]
fn a_refusal_is_not_answered_and_the_next_change_says_it_again() {
    let world = base();
    let (mut stream, old) = settled(&world);
    let bad = World {
        clusters: [Some(1), None, None, None],
        ..world
    };
    let old = bad.view(&old);
    let sent = stream.on_view(old.clone());
    assert_eq!(names(&sent[0]), ["c0"]);
    let (event, sent) = answer(&mut stream, &sent[0], Some("no"));
    assert_eq!(event, Event::Nack(Kind::Cluster, "no".into()));
    assert!(sent.iter().all(|response| response.kind != Kind::Cluster));
    assert_eq!(
        stream.watch(Kind::Cluster).unwrap().error.as_deref(),
        Some("no")
    );
    let more = World {
        clusters: [Some(1), Some(0), None, None],
        ..world
    };
    let sent = stream.on_view(more.view(&old));
    let mut named = names(&sent[0]);
    named.sort_unstable();
    assert_eq!(named, ["c0", "c1"]);
}

#[test]
fn a_change_that_takes_back_what_was_refused_sends_nothing_of_it() {
    let world = base();
    let (mut stream, start) = settled(&world);
    let bad = World {
        clusters: [Some(1), None, None, None],
        ..world
    };
    let view = bad.view(&start);
    let sent = stream.on_view(view.clone());
    answer(&mut stream, &sent[0], Some("no"));
    assert!(stream.on_view(world.view(&view)).is_empty());
}

#[test]
fn a_subscription_that_travels_with_a_refusal_counts() {
    let (mut stream, old) = settled(&base());
    let next = World {
        endpoints: [7, 0, 0, 0],
        lone: Some(1),
        ..base()
    };
    let sent = stream.on_view(next.view(&old));
    let request = DeltaDiscoveryRequest {
        response_nonce: sent[0].nonce.clone(),
        error_detail: Some(Status::default()),
        ..delta(Kind::Endpoint, &["lone"])
    };
    let (event, sent) = ask(&mut stream, &request);
    assert!(matches!(event, Event::Nack(Kind::Endpoint, _)));
    assert!(names(&sent[0]).contains(&"lone"));
}

#[test]
fn of_two_unanswered_responses_the_refused_one_is_remembered() {
    let (mut stream, old) = settled(&base());
    let next = World {
        endpoints: [7, 0, 0, 0],
        ..base()
    };
    let old = next.view(&old);
    let first = stream.on_view(old.clone());
    let (_, second) = ask(&mut stream, &delta(Kind::Endpoint, &["x"]));
    assert_eq!(
        (names(&first[0]), names(&second[0])),
        (vec!["c0"], vec!["x"])
    );
    answer(&mut stream, &first[0], Some("no"));
    let (event, _) = ack(&mut stream, &second[0]);
    assert_eq!(event, Event::Ack(Kind::Endpoint));
    let next = World {
        constant: 1,
        endpoints: [7, 0, 0, 0],
        ..base()
    };
    let sent = stream.on_view(next.view(&old));
    let endpoints = sent
        .iter()
        .find(|sent| sent.kind == Kind::Endpoint)
        .unwrap();
    let mut named = names(endpoints);
    named.sort_unstable();
    assert_eq!(named, ["c0", "cz"]);
}

#[test]
fn a_proxy_that_comes_back_is_sent_only_what_it_lacks() {
    let view = view(&base());
    let held = |kind: Kind| {
        let resources = view.sets(kind);
        let held = resources.iter();
        held.map(|r| (r.name.to_string(), format!("{:016x}", r.version)))
            .collect()
    };
    for changed in [false, true] {
        let mut stream = Stream::new(Variant::Delta, view.clone());
        for (kind, subscribed) in [
            (Kind::Cluster, &[][..]),
            (Kind::Endpoint, &["c0", "cz"]),
            (Kind::Listener, &[]),
            (Kind::Route, &["r0", "rz"]),
        ] {
            let mut request = delta(kind, subscribed);
            request.initial_resource_versions = held(kind);
            let initial = &mut request.initial_resource_versions;
            if changed && kind == Kind::Cluster {
                initial.insert("c0".into(), "00".into());
                initial.insert("old".into(), "0000000000000001".into());
                initial.remove("cz");
            }
            let (_, sent) = ask(&mut stream, &request);
            let expected: &[&str] = match (changed, kind) {
                (true, Kind::Cluster) => &["c0", "cz"],
                // Envoy waits for the endpoints of a cluster that was sent.
                (true, Kind::Endpoint) => &["c0", "cz"],
                _ => &[],
            };
            if changed && matches!(kind, Kind::Listener | Kind::Route) {
                assert!(sent.is_empty(), "{kind:?} waits for the clusters");
                continue;
            }
            assert_eq!(names(&sent[0]), expected, "{kind:?}");
            if changed && kind == Kind::Cluster {
                // It is removed once listeners and routes are known not to need it.
                assert!(sent[0].removed.is_empty());
                assert!(stream.watch(kind).unwrap().lingering.contains_key("old"));
            }
        }
    }
}

#[test]
fn a_cluster_goes_after_the_route_that_used_it() {
    let world = base();
    let (mut stream, old) = settled(&world);
    assert!(!stream.lags());
    let next = World {
        clusters: [None; 4],
        ..world
    };
    let sent = stream.on_view(next.view(&old));
    assert_eq!(kinds(&sent), [Kind::Endpoint, Kind::Route]);
    let (_, none) = ack(&mut stream, &sent[0]);
    assert!(none.is_empty());
    let (_, last) = ack(&mut stream, &sent[1]);
    assert_eq!(kinds(&last), [Kind::Cluster]);
    assert_eq!(last[0].removed, ["c0".into()]);
}

#[test]
fn a_listener_waits_for_the_new_cluster_behind_it() {
    let world = base();
    let (mut stream, old) = settled(&world);
    let next = World {
        clusters: [Some(0), Some(0), None, None],
        listeners: [Some((0, 1, 2)), None, None],
        ..world
    };
    let sent = stream.on_view(next.view(&old));
    assert_eq!(kinds(&sent), [Kind::Cluster]);
    assert!(stream.lags(), "the listener is still to come");
    let (_, sent) = ack(&mut stream, &sent[0]);
    assert_eq!(kinds(&sent), [Kind::Listener]);
    assert!(!stream.lags());
}

#[test]
fn state_of_the_world_requests_with_an_old_nonce_change_nothing() {
    let world = World {
        clusters: [Some(0), Some(0), None, None],
        ..base()
    };
    let start = view(&world);
    let mut stream = Stream::new(Variant::Sotw, start.clone());
    stream.on_request(sotw(Kind::Cluster, "", &[]));
    let (_, first) = stream.on_request(sotw(Kind::Endpoint, "", &["c0"]));
    stream.on_request(sotw(Kind::Endpoint, &first[0].nonce, &["c0"]));
    let next = World {
        endpoints: [5, 0, 0, 0],
        ..world
    };
    let second = stream.on_view(next.view(&start));
    assert_eq!(names(&second[0]), ["c0"]);
    let (event, sent) = stream.on_request(sotw(Kind::Endpoint, &first[0].nonce, &["c0", "c1"]));
    assert_eq!((event, sent.len()), (Event::Stale(Kind::Endpoint), 0));
    let (event, sent) = stream.on_request(sotw(Kind::Endpoint, &second[0].nonce, &["c0", "c1"]));
    assert_eq!(event, Event::Subscribed(Kind::Endpoint));
    assert_eq!(names(&sent[0]), ["c1"]);
    // The same list again is only an ACK; an empty list ends the subscription.
    let (event, none) = stream.on_request(sotw(Kind::Endpoint, &sent[0].nonce, &["c0", "c1"]));
    assert_eq!((event, none.len()), (Event::Ack(Kind::Endpoint), 0));
    let (event, none) = stream.on_request(sotw(Kind::Endpoint, &sent[0].nonce, &[]));
    assert_eq!(
        (event, none.len()),
        (Event::Unsubscribed(Kind::Endpoint), 0)
    );
    assert!(stream.watch(Kind::Endpoint).is_none());
}

#[test]
fn unknown_types_are_said_to_be_unknown() {
    let mut stream = Stream::new(Variant::Delta, View::default());
    let request = DeltaDiscoveryRequest {
        type_url: "x".into(),
        ..Default::default()
    };
    assert_eq!(
        ask(&mut stream, &request),
        (Event::Unknown("x".into()), Vec::new())
    );
}

#[test]
fn what_is_acknowledged_counts_while_the_next_is_on_its_way() {
    let (mut stream, first) = settled(&base());
    assert_eq!(stream.taken(Kind::Cluster), Some(first.version));
    let mut views = vec![first];
    let mut sent = Vec::new();
    for content in 1..5 {
        let world = World {
            clusters: [Some(content), None, None, None],
            ..base()
        };
        views.push(world.view(views.last().unwrap()));
        sent.extend(stream.on_view(views.last().unwrap().clone()));
        // The proxy is always one view behind, so the stream is never idle.
        let clusters = |response: &Response| response.kind == Kind::Cluster;
        if content > 1 {
            let at = sent.iter().position(clusters).unwrap();
            let response = sent.remove(at);
            let version = response.version;
            sent.extend(ack(&mut stream, &response).1);
            assert!(!stream.has_taken(Kind::Cluster));
            assert_eq!(stream.taken(Kind::Cluster), Some(version));
        }
    }
    // A rejected response is not counted as accepted.
    let taken = stream.taken(Kind::Cluster);
    let clusters = |response: &Response| response.kind == Kind::Cluster;
    let at = sent.iter().position(clusters).unwrap();
    let response = sent.remove(at);
    answer(&mut stream, &response, Some("no"));
    assert_eq!(stream.taken(Kind::Cluster), taken);
}
