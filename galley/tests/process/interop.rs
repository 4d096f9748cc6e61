//! The bytes on the wire: the peer does not use our code, but a writer and a reader of field
//! numbers.

use std::time::Duration;

use bytes::{Buf, BufMut};
use mesh_common::mcp::{Connect, Dial};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status, Streaming};

use crate::harness::{Galley, PATIENCE, World};
use wire::{entry, int, message, text, varint};

#[path = "../../../istio-api/tests/interop/wire.rs"]
mod wire;

const NEWER: &str = "/istio.mcp.v1alpha1.ResourceSource/EstablishResourceStream";
const OLDER: &str = "/istio.mcp.v1alpha1.AggregatedMeshConfigService/StreamAggregatedResources";

/// Messages in their encoded form.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

fn read_varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes.get_u8();
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return value;
        }
    }
}

/// Field numbers and values; for an integer its varint.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = read_varint(&mut bytes);
        let value = match tag & 7 {
            0 => varint(read_varint(&mut bytes)),
            2 => {
                let length = usize::try_from(read_varint(&mut bytes)).unwrap();
                bytes.copy_to_bytes(length).to_vec()
            }
            other => panic!("wire type {other}"),
        };
        found.push((tag >> 3, value));
    }
    found
}

/// The only value of a field; `None` if it is absent.
fn field(all: &[(u64, Vec<u8>)], number: u64) -> Option<&[u8]> {
    let mut values = all.iter().filter(|(field, _)| *field == number);
    let value = values.next().map(|(_, value)| value.as_slice());
    assert!(values.next().is_none(), "field {number} twice");
    value
}

fn words(all: &[(u64, Vec<u8>)], number: u64) -> String {
    String::from_utf8(field(all, number).unwrap_or_default().to_vec()).unwrap()
}

struct Peer {
    requests: mpsc::Sender<Vec<u8>>,
    responses: Streaming<Vec<u8>>,
}

impl Peer {
    async fn call(galley: &Galley, path: &'static str, first: Vec<u8>) -> Result<Self, Status> {
        let dial = Dial::new(&galley.address.unwrap().to_string(), None, None).unwrap();
        let channel = dial.connect(Duration::from_secs(30)).await.unwrap();
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.unwrap();
        let (requests, rx) = mpsc::channel(4);
        requests.send(first).await.unwrap();
        let request = Request::new(ReceiverStream::new(rx));
        let call = client.streaming(request, http::uri::PathAndQuery::from_static(path), Raw);
        let response = tokio::time::timeout(PATIENCE, call).await.unwrap()?;
        Ok(Self {
            requests,
            responses: response.into_inner(),
        })
    }

    async fn receive(&mut self) -> Result<Vec<(u64, Vec<u8>)>, Status> {
        let message = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        Ok(fields(&message.unwrap()?.unwrap()))
    }

    async fn send(&self, request: Vec<u8>) {
        self.requests.send(request).await.unwrap();
    }
}

const GATEWAYS: &str = "istio/networking/v1alpha3/gateways";
const UNKNOWN: &str = "no/such/thing";

const GATEWAY: &str = "apiVersion: networking.istio.io/v1alpha3\n\
    kind: Gateway\n\
    metadata: {name: gw, namespace: demo, labels: {team: red}, annotations: {note: hello}}\n\
    spec:\n\
    \x20 selector: {istio: ingressgateway}\n\
    \x20 servers:\n\
    \x20 - port: {number: 80, name: http, protocol: HTTP}\n\
    \x20   hosts: [shop.example.com]\n";

/// The only label of a resource, as encoded on the wire.
fn labels(metadata: &[(u64, Vec<u8>)]) -> Vec<u8> {
    message(4, &[field(metadata, 4).unwrap().to_vec()])
}

/// What a peer of 1.1 must find in the gateway, with either service.
fn check(resource: &[u8]) {
    let resource = fields(resource);
    let metadata = fields(field(&resource, 1).unwrap());
    assert_eq!(words(&metadata, 1), "demo/gw");
    assert_eq!(field(&metadata, 2).unwrap(), int(1, -62_135_596_800));
    assert!(!words(&metadata, 3).is_empty());
    assert_eq!(labels(&metadata), entry(4, "team", "red"));
    assert_eq!(
        message(5, &[field(&metadata, 5).unwrap().to_vec()]),
        entry(5, "note", "hello")
    );
    let port = message(1, &[int(1, 80), text(2, "HTTP"), text(3, "http")]);
    let spec = [
        message(1, &[port, text(2, "shop.example.com")]),
        entry(2, "istio", "ingressgateway"),
    ];
    let body = [
        text(1, "type.googleapis.com/istio.networking.v1alpha3.Gateway"),
        message(2, &spec),
    ];
    assert_eq!(field(&resource, 2).unwrap(), body.concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_of_1_1() {
    let world = World::new();
    world.write("gw.yaml", GATEWAY);
    let galley = world.start_with(&["--insecure"]).await;
    // Pilot of 1.1 sends its node, which is empty, with each request.
    let node = message(1, &[]);
    let subscribe = [node.clone(), text(2, GATEWAYS)].concat();
    let mut peer = Peer::call(&galley, NEWER, subscribe).await.unwrap();
    let response = peer.receive().await.unwrap();
    assert_eq!(words(&response, 2), GATEWAYS);
    check(field(&response, 3).unwrap());
    assert_eq!(words(&response, 5), "1");
    assert!(!words(&response, 1).is_empty());
    assert_eq!((field(&response, 4), field(&response, 6)), (None, None));

    // After a rejection nothing is sent until the gateway changes.
    let error = message(5, &[int(1, 3), text(2, "bad")]);
    let refusal = [node.clone(), text(2, GATEWAYS), text(4, "1"), error].concat();
    peer.send(refusal).await;
    world.replace("gw.yaml", &GATEWAY.replace("team: red", "team: blue"));
    let response = peer.receive().await.unwrap();
    let resource = fields(field(&response, 3).unwrap());
    let metadata = fields(field(&resource, 1).unwrap());
    assert_eq!(labels(&metadata), entry(4, "team", "blue"));

    // Deltas on request: the gateway is deleted.
    let nonce = words(&response, 5);
    let delta = [node.clone(), text(2, GATEWAYS), text(4, &nonce), int(6, 1)].concat();
    peer.send(delta).await;
    world.remove("gw.yaml");
    let response = peer.receive().await.unwrap();
    assert_eq!(
        (field(&response, 3), words(&response, 4)),
        (None, "demo/gw".to_owned())
    );
    assert_eq!(field(&response, 6), Some(&[1][..]));

    // Answered as empty: the stream goes on.
    peer.send([node, text(2, UNKNOWN)].concat()).await;
    let response = peer.receive().await.unwrap();
    assert_eq!(
        (words(&response, 1), words(&response, 2)),
        ("0".to_owned(), UNKNOWN.to_owned())
    );
    assert_eq!(field(&response, 3), None);
    drop(peer);
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_of_1_0() {
    let world = World::new();
    world.write("gw.yaml", GATEWAY);
    let galley = world.start_with(&["--insecure"]).await;
    let node = message(2, &[]);
    let subscribe = [node.clone(), text(3, GATEWAYS)].concat();
    let mut peer = Peer::call(&galley, OLDER, subscribe).await.unwrap();
    let response = peer.receive().await.unwrap();
    let version = words(&response, 1);
    check(field(&response, 2).unwrap());
    assert_eq!(
        (words(&response, 3), words(&response, 4)),
        (GATEWAYS.to_owned(), "1".to_owned())
    );

    // A rejection states the version that is still held. 1.1 then sends the bad one again.
    let error = message(5, &[int(1, 3), text(2, "bad")]);
    let refusal = [node.clone(), text(3, GATEWAYS), text(4, "1"), error].concat();
    peer.send(refusal).await;
    // A collection of 1.1 that is always empty: its response comes next, without the gateway.
    let rules = "istio/policy/v1beta1/rules";
    peer.send([node.clone(), text(3, rules)].concat()).await;
    let response = peer.receive().await.unwrap();
    assert_eq!(
        (words(&response, 3), words(&response, 4)),
        (rules.to_owned(), "2".to_owned())
    );
    world.replace("gw.yaml", &GATEWAY.replace("team: red", "team: blue"));
    let response = peer.receive().await.unwrap();
    assert_eq!(words(&response, 4), "3");
    assert_ne!(words(&response, 1), version);

    // Sinks of 1.0 and 1.1 do not know other names.
    peer.send([node, text(3, UNKNOWN)].concat()).await;
    let status = peer.receive().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "unsupported collection \"no/such/thing\"");
    let (_, metrics) = galley.page("/metrics").await;
    for line in [
        "galley_mcp_source_request_nacks_total{code=\"InvalidArgument\",collection=\"istio/networking/v1alpha3/gateways\"} 1",
        "galley_mcp_source_unknown_collections_total{collection=\"no/such/thing\"} 1",
        "galley_mcp_source_refused_total{reason=\"request\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    drop(peer);
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_not_served() {
    let world = World::new();
    let galley = world.start_with(&["--insecure"]).await;
    let incremental =
        "/istio.mcp.v1alpha1.AggregatedMeshConfigService/IncrementalAggregatedResources";
    let sink = "/istio.mcp.v1alpha1.ResourceSink/EstablishResourceStream";
    for (path, message) in [(incremental, "not implemented"), (sink, "")] {
        let Err(refused) = Peer::call(&galley, path, Vec::new()).await else {
            panic!("{path} is served")
        };
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::Unimplemented, message)
        );
    }
    galley.stop().await;
}
