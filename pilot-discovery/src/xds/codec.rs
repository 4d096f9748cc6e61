//! gRPC messages on the wire.
//!
//! Resources are already encoded; only the frame around them is written, at the pace at which the
//! peer reads: a slow proxy costs one chunk of memory, not a copy of everything.

use pilot_xds::request::{self, Malformed, Request};
use pilot_xds::stream::{Response, Variant, hex};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::BodyExt as _;
use istio_api::envoy::config::core::v3::Node;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use tokio::sync::mpsc;
use tonic::Status;

/// Size of the chunks to which small pieces are collected, in bytes.
const CHUNK: usize = 32 << 10;
/// Resources of at least this size are sent from the memory that all streams share.
const SHARED: usize = 8 << 10;
/// Length of a message's prefix: compression flag and message length.
const PREFIX: usize = 5;

/// A response, with the protocol variant of its frame.
#[derive(Debug)]
pub struct Framed {
    pub variant: Variant,
    pub response: Response,
    len: usize,
}

/// Field numbers of `DiscoveryResponse`, `DeltaDiscoveryResponse`, `Resource` and `Any`
/// (envoy.service.discovery.v3, google.protobuf).
mod field {
    pub(super) const VERSION: u32 = 1;
    pub(super) const RESOURCES: u32 = 2;
    pub(super) const TYPE_URL: u32 = 4;
    pub(super) const NONCE: u32 = 5;
    pub(super) const REMOVED: u32 = 6;
    pub(super) const RESOURCE_VERSION: u32 = 1;
    pub(super) const RESOURCE_BODY: u32 = 2;
    pub(super) const RESOURCE_NAME: u32 = 3;
    pub(super) const ANY_TYPE_URL: u32 = 1;
    pub(super) const ANY_VALUE: u32 = 2;
}

/// Length of a length-delimited field with a one-byte key.
fn delimited(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn put_bytes(out: &mut impl BufMut, field: u32, bytes: &[u8]) {
    put_header(out, field, bytes.len());
    out.put_slice(bytes);
}

fn put_header(out: &mut impl BufMut, field: u32, len: usize) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

impl Framed {
    pub fn new(variant: Variant, response: Response) -> Self {
        let mut framed = Self {
            variant,
            response,
            len: 0,
        };
        framed.len = framed.measure();
        framed
    }

    /// Length of the message in bytes.
    pub fn encoded_len(&self) -> usize {
        self.len
    }

    fn measure(&self) -> usize {
        let response = &self.response;
        let url = response.kind.type_url();
        let any = |body: usize| delimited(url.len()) + delimited(body);
        let resources: usize = response
            .resources
            .iter()
            .map(|resource| {
                let any = any(resource.body.len());
                match self.variant {
                    Variant::Sotw => delimited(any),
                    Variant::Delta => {
                        delimited(delimited(16) + delimited(any) + delimited(resource.name.len()))
                    }
                }
            })
            .sum();
        let removed: usize = response
            .removed
            .iter()
            .map(|name| delimited(name.len()))
            .sum();
        delimited(16) + resources + delimited(url.len()) + delimited(response.nonce.len()) + removed
    }
}

/// A response being sent: produces its bytes in pieces.
#[derive(Debug)]
struct Writer {
    framed: Framed,
    /// Number of resources already written.
    done: usize,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Start,
    Resources,
    /// The header of resource `done` was written; its body is next.
    Body,
    End,
}

impl Writer {
    fn new(framed: Framed) -> Self {
        Self {
            framed,
            done: 0,
            state: State::Start,
        }
    }

    /// The next piece; `None` after the last.
    fn chunk(&mut self) -> Option<Bytes> {
        let response = &self.framed.response;
        if self.state == State::Body {
            let resource = response.resources.get(self.done)?;
            self.done += 1;
            self.state = State::Resources;
            return Some(resource.body.clone());
        }
        if self.state == State::End {
            return None;
        }
        let mut out = BytesMut::with_capacity(CHUNK.min(self.framed.len + PREFIX));
        if self.state == State::Start {
            out.put_u8(0);
            // Cannot overflow: messages are far below 4 GB.
            out.put_u32(u32::try_from(self.framed.len).unwrap_or(u32::MAX));
            put_bytes(&mut out, field::VERSION, &hex(response.version));
            self.state = State::Resources;
        }
        while let Some(resource) = response.resources.get(self.done) {
            self.framed.header(&mut out, resource);
            if resource.body.len() >= SHARED {
                self.state = State::Body;
                return Some(out.freeze());
            }
            out.put_slice(&resource.body);
            self.done += 1;
            if out.len() + SHARED > CHUNK {
                return Some(out.freeze());
            }
        }
        put_bytes(
            &mut out,
            field::TYPE_URL,
            response.kind.type_url().as_bytes(),
        );
        put_bytes(&mut out, field::NONCE, response.nonce.as_bytes());
        for name in &response.removed {
            put_bytes(&mut out, field::REMOVED, name.as_bytes());
        }
        self.state = State::End;
        Some(out.freeze())
    }
}

impl Framed {
    /// Everything before the body of a resource.
    fn header(&self, out: &mut BytesMut, resource: &pilot_networking::resource::Resource) {
        let url = self.response.kind.type_url();
        let any = delimited(url.len()) + delimited(resource.body.len());
        match self.variant {
            Variant::Sotw => put_header(out, field::RESOURCES, any),
            Variant::Delta => {
                let name = &resource.name;
                let len = delimited(16) + delimited(any) + delimited(name.len());
                put_header(out, field::RESOURCES, len);
                put_bytes(out, field::RESOURCE_NAME, name.as_bytes());
                put_bytes(out, field::RESOURCE_VERSION, &hex(resource.version));
                put_header(out, field::RESOURCE_BODY, any);
            }
        }
        put_bytes(out, field::ANY_TYPE_URL, url.as_bytes());
        put_header(out, field::ANY_VALUE, resource.body.len());
    }
}

/// The body of a gRPC response: the messages, then the status as trailers.
#[derive(Debug)]
pub struct Body {
    responses: mpsc::Receiver<Result<Framed, Status>>,
    current: Option<Writer>,
    ended: bool,
}

impl Body {
    pub fn new(responses: mpsc::Receiver<Result<Framed, Status>>) -> Self {
        Self {
            responses,
            current: None,
            ended: false,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(chunk) = self.current.as_mut().and_then(Writer::chunk) {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            self.current = None;
            if self.ended {
                return Poll::Ready(None);
            }
            let status = match ready!(self.responses.poll_recv(context)) {
                Some(Ok(framed)) => {
                    self.current = Some(Writer::new(framed));
                    continue;
                }
                Some(Err(status)) => status,
                None => Status::ok(""),
            };
            self.ended = true;
            let mut trailers = HeaderMap::new();
            return Poll::Ready(Some(
                status
                    .add_header(&mut trailers)
                    .map(|()| Frame::trailers(trailers)),
            ));
        }
    }
}

/// Maximum size of a discovery request, in bytes.
const MAX_REQUEST: usize = 4 << 20;

/// The requests in the body of a call.
///
/// A proxy that reconnects sends hundreds of kilobytes once and then a few bytes at a time: no
/// memory is kept between messages.
pub fn requests(
    variant: Variant,
    body: tonic::body::Body,
) -> impl Stream<Item = Result<(Option<Node>, Request), Status>> + Send {
    let incoming = Incoming {
        variant,
        body,
        pending: BytesMut::new(),
    };
    futures::stream::try_unfold(incoming, |mut incoming| async move {
        let request = incoming.next().await?;
        Ok(request.map(|request| (request, incoming)))
    })
}

struct Incoming {
    variant: Variant,
    body: tonic::body::Body,
    pending: BytesMut,
}

impl Incoming {
    async fn next(&mut self) -> Result<Option<(Option<Node>, Request)>, Status> {
        loop {
            if let Some(message) = self.message()? {
                let read = match self.variant {
                    Variant::Sotw => request::read_sotw(&message),
                    Variant::Delta => request::read_delta(&message),
                };
                return read.map(Some).map_err(|error: Malformed| {
                    Status::invalid_argument(format!("malformed discovery request: {error}"))
                });
            }
            let Some(frame) = self.body.frame().await else {
                if self.pending.is_empty() {
                    return Ok(None);
                }
                return Err(Status::invalid_argument(
                    "the stream ended in the middle of a message",
                ));
            };
            if let Ok(data) = frame?.into_data() {
                self.pending.extend_from_slice(&data);
            }
        }
    }

    /// The next message, if it is complete.
    fn message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((prefix, _)) = self.pending.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let [compressed, length @ ..] = *prefix;
        if compressed != 0 {
            return Err(Status::unimplemented(
                "compressed requests are not supported",
            ));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_REQUEST {
            return Err(Status::out_of_range(format!(
                "a discovery request has {length} bytes: want at most {MAX_REQUEST}"
            )));
        }
        if self.pending.len() < PREFIX + length {
            self.pending.reserve(PREFIX + length - self.pending.len());
            return Ok(None);
        }
        let mut message = self.pending.split_to(PREFIX + length);
        if self.pending.is_empty() {
            // Releases the memory.
            self.pending = BytesMut::new();
        }
        Ok(Some(message.split_off(PREFIX).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use istio_api::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
    use pilot_networking::resource::Resource;
    use prost::Message as _;

    use super::*;
    use pilot_networking::kind::Kind;

    /// Resources for every way of writing them, with more than a chunk of small ones.
    fn resources() -> Vec<Arc<Resource>> {
        let small = std::iter::repeat_n(200, 300);
        let sizes = [0, SHARED - 1, SHARED, 3 * CHUNK].into_iter().chain(small);
        let resource = |(i, len): (usize, usize)| {
            let body = vec![u8::try_from(i % 251).unwrap_or(0); len];
            Arc::new(Resource::from_bytes(format!("r{i}"), body.into(), []))
        };
        sizes.enumerate().map(resource).collect()
    }

    fn framed(variant: Variant, removed: &[&str]) -> Framed {
        let response = Response {
            kind: Kind::Cluster,
            version: 7,
            nonce: "7-1".into(),
            resources: resources(),
            removed: removed.iter().map(|&name| name.into()).collect(),
        };
        Framed::new(variant, response)
    }

    /// The message after its prefix.
    fn message(framed: Framed) -> Vec<u8> {
        let len = framed.encoded_len();
        let mut writer = Writer::new(framed);
        let chunks: Vec<Bytes> = std::iter::from_fn(|| writer.chunk()).collect();
        let gathered = chunks.iter().filter(|chunk| chunk.len() < 3 * CHUNK);
        assert!(gathered.into_iter().all(|chunk| chunk.len() <= CHUNK));
        let bytes = chunks.concat();
        assert_eq!(bytes.len(), len + PREFIX);
        assert_eq!(bytes[0], 0, "not compressed");
        let prefix: [u8; 4] = bytes[1..PREFIX].try_into().unwrap();
        assert_eq!(u32::from_be_bytes(prefix) as usize, len);
        bytes[PREFIX..].to_vec()
    }

    #[test]
    fn delta_frames_are_what_prost_reads() {
        let message = message(framed(Variant::Delta, &["b"]));
        let read = DeltaDiscoveryResponse::decode(message.as_slice()).unwrap();
        assert_eq!(read.nonce, "7-1");
        assert_eq!(read.removed_resources, ["b"]);
        assert_eq!(read.type_url, Kind::Cluster.type_url());
        assert_eq!(read.resources.len(), resources().len());
        for (read, sent) in read.resources.iter().zip(resources()) {
            assert_eq!(read.name, *sent.name);
            assert_eq!(read.version.as_bytes(), hex(sent.version));
            assert_eq!(read.resource.as_ref().unwrap().value, sent.body);
        }
    }

    #[test]
    fn state_of_the_world_frames_are_what_prost_reads() {
        let message = message(framed(Variant::Sotw, &[]));
        let read = DiscoveryResponse::decode(message.as_slice()).unwrap();
        assert_eq!(
            (read.version_info.as_str(), read.nonce.as_str()),
            ("0000000000000007", "7-1")
        );
        assert_eq!(read.resources.len(), resources().len());
        for (read, sent) in read.resources.iter().zip(resources()) {
            assert_eq!(read.type_url, Kind::Cluster.type_url());
            assert_eq!(read.value, sent.body);
        }
    }

    /// The results of reading a body that arrives in these pieces.
    async fn read(pieces: Vec<Vec<u8>>) -> Vec<Result<String, tonic::Code>> {
        let frames = pieces
            .into_iter()
            .map(|piece| Ok::<_, Status>(Frame::data(Bytes::from(piece))));
        let body = http_body_util::StreamBody::new(futures::stream::iter(frames));
        let requests = requests(Variant::Delta, tonic::body::Body::new(body));
        let read = futures::StreamExt::map(requests, |request| match request {
            Ok((_, request)) => Ok(request.nonce),
            Err(status) => Err(status.code()),
        });
        futures::StreamExt::collect(read).await
    }

    fn prefixed(nonce: &str) -> Vec<u8> {
        use istio_api::envoy::service::discovery::v3::DeltaDiscoveryRequest;
        let message = DeltaDiscoveryRequest {
            response_nonce: nonce.into(),
            ..Default::default()
        }
        .encode_to_vec();
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend(message);
        bytes
    }

    #[tokio::test]
    async fn requests_are_read_however_they_are_cut() {
        let all = [prefixed("1"), prefixed(""), prefixed("22")].concat();
        let expected: Vec<_> = ["1", "", "22"].map(|nonce| Ok(nonce.to_owned())).into();
        for size in 1..=all.len() {
            let pieces = all.chunks(size).map(<[u8]>::to_vec).collect();
            assert_eq!(read(pieces).await, expected);
        }
    }

    #[tokio::test]
    async fn requests_that_are_none_end_the_stream() {
        use tonic::Code;
        let cut = prefixed("long enough");
        assert_eq!(
            read(vec![cut[..8].to_vec()]).await,
            [Err(Code::InvalidArgument)]
        );
        assert_eq!(
            read(vec![vec![1, 0, 0, 0, 0]]).await,
            [Err(Code::Unimplemented)]
        );
        let huge = vec![0, 0xff, 0, 0, 0];
        assert_eq!(read(vec![huge]).await, [Err(Code::OutOfRange)]);
        let wrong = vec![0, 0, 0, 0, 2, 0x0a, 9];
        assert_eq!(read(vec![wrong]).await, [Err(Code::InvalidArgument)]);
    }

    #[tokio::test]
    async fn a_body_ends_with_the_status() {
        for status in [None, Some(Status::unavailable("bye"))] {
            let code = status.as_ref().map_or(0, |_| 14);
            let (out, responses) = mpsc::channel(2);
            out.send(Ok(framed(Variant::Delta, &[]))).await.unwrap();
            if let Some(status) = status {
                out.send(Err(status)).await.unwrap();
            }
            drop(out);
            let body = Body::new(responses).collect().await.unwrap();
            let trailers = body.trailers().cloned().unwrap();
            assert_eq!(trailers["grpc-status"], code.to_string().as_str());
            let len = framed(Variant::Delta, &[]).encoded_len();
            assert_eq!(body.to_bytes().len(), len + PREFIX);
        }
    }
}
