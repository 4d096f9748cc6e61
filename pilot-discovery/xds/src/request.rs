//! Requests of both protocol variants in one form.
//!
//! A proxy that reconnects lists everything that it holds. Names stay in the bytes of the message
//! and are not copied, as thousands of proxies may reconnect at once.

use std::ops::Range;

use bytes::Bytes;
use istio_api::envoy::config::core::v3::Node;
use prost::{
    DecodeError, Message as _,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

/// Maximum number of names in a request; larger requests are rejected.
pub const MAX_NAMES: usize = 1_000_000;

type Span = Range<usize>;

/// Names, stored in the bytes of their message.
#[derive(Clone, Default)]
pub struct Names {
    message: Bytes,
    spans: Vec<Span>,
}

impl Names {
    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.spans.iter().map(|span| text(&self.message, span))
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Names with versions, stored in the bytes of their message.
#[derive(Clone, Default)]
pub struct Versions {
    message: Bytes,
    spans: Vec<(Span, Span)>,
}

impl Versions {
    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.spans.iter();
        pairs.map(|(name, version)| (text(&self.message, name), text(&self.message, version)))
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}

impl std::fmt::Debug for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// The text of a span; it was checked to be UTF-8 when the span was made.
fn text<'a>(message: &'a [u8], span: &Span) -> &'a str {
    let bytes = message.get(span.clone()).unwrap_or_default();
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Why a message is not a valid request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is not a valid encoding of the message.
    #[error(transparent)]
    Protobuf(#[from] DecodeError),
    /// A length reaches beyond the message.
    #[error("a field is longer than its message")]
    Length,
    /// A string is not UTF-8.
    #[error("a name is not valid UTF-8")]
    Text,
}

/// The subscription in a request.
#[derive(Clone, Debug)]
pub enum Wish {
    /// State of the world: the complete list of names.
    Names(Names),
    /// Delta: changes of the list, and on a new stream what the proxy already holds.
    Delta {
        /// Names to subscribe to.
        subscribe: Names,
        /// Names to unsubscribe from.
        unsubscribe: Names,
        /// What the proxy holds from earlier streams (`initial_resource_versions`).
        initial: Versions,
    },
}

/// A request for one type.
#[derive(Clone, Debug)]
pub struct Request {
    /// Type URL.
    pub type_url: String,
    /// Nonce of the response that it answers; empty if it answers none.
    pub nonce: String,
    /// Why the proxy rejected that response.
    pub error: Option<String>,
    /// The subscription.
    pub wish: Wish,
}

impl Request {
    /// Total number of names in it.
    pub fn names(&self) -> usize {
        match &self.wish {
            Wish::Names(names) => names.len(),
            Wish::Delta {
                subscribe,
                unsubscribe,
                initial,
            } => subscribe.len() + unsubscribe.len() + initial.len(),
        }
    }
}

/// Field numbers of `google.rpc.Status`.
const STATUS_MESSAGE: u32 = 2;

/// Reads a `DiscoveryRequest`.
///
/// # Errors
/// If it is not a valid message of this type.
pub fn read_sotw(message: &Bytes) -> Result<(Option<Node>, Request), Malformed> {
    let mut fields = Fields::new(message);
    let (mut node, mut names) = (None, Vec::new());
    let mut request = Request {
        type_url: String::new(),
        nonce: String::new(),
        error: None,
        wish: Wish::Names(Names::default()),
    };
    while let Some((field, span)) = fields.next()? {
        match field {
            2 => node = Some(Node::decode(fields.bytes(&span))?),
            3 => names.push(fields.text(span)?),
            4 => request.type_url = fields.string(span)?,
            5 => request.nonce = fields.string(span)?,
            6 => request.error = Some(status_message(&message.slice(span))?),
            _ => {}
        }
    }
    request.wish = Wish::Names(Names {
        message: message.clone(),
        spans: names,
    });
    Ok((node, request))
}

/// Reads a `DeltaDiscoveryRequest`.
///
/// # Errors
/// If it is not a valid message of this type.
pub fn read_delta(message: &Bytes) -> Result<(Option<Node>, Request), Malformed> {
    let mut fields = Fields::new(message);
    let (mut node, mut type_url, mut nonce, mut error) = (None, String::new(), String::new(), None);
    let (mut subscribe, mut unsubscribe, mut initial) = (Vec::new(), Vec::new(), Vec::new());
    while let Some((field, span)) = fields.next()? {
        match field {
            1 => node = Some(Node::decode(fields.bytes(&span))?),
            2 => type_url = fields.string(span)?,
            3 => subscribe.push(fields.text(span)?),
            4 => unsubscribe.push(fields.text(span)?),
            5 => initial.push(fields.pair(span)?),
            6 => nonce = fields.string(span)?,
            7 => error = Some(status_message(&message.slice(span))?),
            _ => {}
        }
    }
    let names = |spans| Names {
        message: message.clone(),
        spans,
    };
    let request = Request {
        type_url,
        nonce,
        error,
        wish: Wish::Delta {
            subscribe: names(subscribe),
            unsubscribe: names(unsubscribe),
            initial: Versions {
                message: message.clone(),
                spans: initial,
            },
        },
    };
    Ok((node, request))
}

/// The message in a `google.rpc.Status`.
fn status_message(status: &Bytes) -> Result<String, Malformed> {
    let mut fields = Fields::new(status);
    let mut text = String::new();
    while let Some((field, span)) = fields.next()? {
        if field == STATUS_MESSAGE {
            text = fields.string(span)?;
        }
    }
    Ok(text)
}

/// Iterates over the length-delimited fields of a message; others are skipped.
struct Fields<'a> {
    message: &'a Bytes,
    at: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    fn new(message: &'a Bytes) -> Self {
        Self {
            message,
            at: 0,
            end: message.len(),
        }
    }

    /// The next field, with the span of its content.
    fn next(&mut self) -> Result<Option<(u32, Span)>, Malformed> {
        while self.at < self.end {
            let mut rest = self.message.get(self.at..self.end).unwrap_or_default();
            let (field, wire) = decode_key(&mut rest)?;
            if wire != WireType::LengthDelimited {
                skip_field(wire, field, &mut rest, DecodeContext::default())?;
                self.at = self.end - rest.len();
                continue;
            }
            let length = decode_varint(&mut rest)?;
            let start = self.end - rest.len();
            let length = usize::try_from(length)
                .ok()
                .filter(|length| *length <= rest.len());
            let length = length.ok_or(Malformed::Length)?;
            self.at = start + length;
            return Ok(Some((field, start..self.at)));
        }
        Ok(None)
    }

    fn bytes(&self, span: &Span) -> &'a [u8] {
        self.message.get(span.clone()).unwrap_or_default()
    }

    /// The span, if it is valid UTF-8.
    fn text(&self, span: Span) -> Result<Span, Malformed> {
        match std::str::from_utf8(self.bytes(&span)) {
            Ok(_) => Ok(span),
            Err(_) => Err(Malformed::Text),
        }
    }

    fn string(&self, span: Span) -> Result<String, Malformed> {
        let span = self.text(span)?;
        Ok(text(self.message, &span).to_owned())
    }

    /// Key and value of an entry of a string map.
    fn pair(&self, span: Span) -> Result<(Span, Span), Malformed> {
        let mut entry = Fields {
            message: self.message,
            at: span.start,
            end: span.end,
        };
        let (mut key, mut value) = (0..0, 0..0);
        while let Some((field, span)) = entry.next()? {
            match field {
                1 => key = self.text(span)?,
                2 => value = self.text(span)?,
                _ => {}
            }
        }
        Ok((key, value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use istio_api::{
        envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
        google::rpc::Status,
    };
    use proptest::prelude::*;

    use super::*;

    fn list(names: &Names) -> Vec<String> {
        names.iter().map(str::to_owned).collect()
    }

    fn node() -> Node {
        Node {
            id: "sidecar~10.0.0.1~a.b~b.svc.cluster.local".into(),
            ..Node::default()
        }
    }

    /// A `DeltaDiscoveryRequest` whose map is the list of entries that it is on the wire: prost
    /// does not check the wire type of a map and accepts a 64-bit number as an entry.
    #[derive(Clone, PartialEq, prost::Message)]
    struct DeltaWithoutMap {
        #[prost(message, optional, tag = "1")]
        node: Option<Node>,
        #[prost(string, tag = "2")]
        type_url: String,
        #[prost(string, repeated, tag = "3")]
        subscribe: Vec<String>,
        #[prost(string, repeated, tag = "4")]
        unsubscribe: Vec<String>,
        #[prost(message, repeated, tag = "5")]
        initial: Vec<Entry>,
        #[prost(string, tag = "6")]
        nonce: String,
        #[prost(message, optional, tag = "7")]
        error: Option<Status>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Entry {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        version: String,
    }

    proptest! {
        #[test]
        fn what_prost_wrote_is_read(
            subscribe in prop::collection::vec(".{0,9}", 0..4),
            unsubscribe in prop::collection::vec(".{0,9}", 0..4),
            initial in prop::collection::btree_map(".{0,9}", ".{0,9}", 0..4),
            type_url in ".{0,9}",
            nonce in ".{0,9}",
            error in prop::option::of(".{0,9}"),
        ) {
            let status = |message: &String| Status {
                code: 13,
                message: message.clone(),
                details: Vec::new(),
            };
            let delta = DeltaDiscoveryRequest {
                node: Some(node()),
                type_url: type_url.clone(),
                resource_names_subscribe: subscribe.clone(),
                resource_names_unsubscribe: unsubscribe.clone(),
                initial_resource_versions: initial.clone(),
                response_nonce: nonce.clone(),
                error_detail: error.as_ref().map(status),
                ..DeltaDiscoveryRequest::default()
            };
            let (read_node, read) = read_delta(&delta.encode_to_vec().into()).unwrap();
            prop_assert_eq!(read_node, Some(node()));
            prop_assert_eq!((&read.type_url, &read.nonce), (&type_url, &nonce));
            prop_assert_eq!(&read.error, &error);
            let Wish::Delta { subscribe: s, unsubscribe: u, initial: i } = read.wish else {
                return Err(TestCaseError::fail("not a delta request"));
            };
            prop_assert_eq!((list(&s), list(&u)), (subscribe.clone(), unsubscribe));
            let pairs: BTreeMap<String, String> =
                i.iter().map(|(name, version)| (name.into(), version.into())).collect();
            prop_assert_eq!(pairs, initial);

            let sotw = DiscoveryRequest {
                version_info: "7".into(),
                node: Some(node()),
                resource_names: subscribe.clone(),
                type_url: type_url.clone(),
                response_nonce: nonce.clone(),
                error_detail: error.as_ref().map(status),
                ..DiscoveryRequest::default()
            };
            let (read_node, read) = read_sotw(&sotw.encode_to_vec().into()).unwrap();
            prop_assert_eq!(read_node, Some(node()));
            prop_assert_eq!((read.type_url, read.nonce, read.error), (type_url, nonce, error));
            let Wish::Names(names) = read.wish else {
                return Err(TestCaseError::fail("not a list of names"));
            };
            prop_assert_eq!(list(&names), subscribe);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            // What prost decodes is decoded here, too; errors may differ in unused fields.
            let delta = DeltaWithoutMap::decode(bytes.clone());
            prop_assert!(delta.is_err() || read_delta(&bytes).is_ok());
            let sotw = DiscoveryRequest::decode(bytes.clone());
            prop_assert!(sotw.is_err() || read_sotw(&bytes).is_ok());
        }
    }

    #[test]
    fn a_length_beyond_the_end_and_a_name_that_is_no_text_are_refused() {
        let read = |bytes: &'static [u8]| read_delta(&Bytes::from_static(bytes)).map(|_| ());
        assert_eq!(read(&[0x1a, 5, b'a']), Err(Malformed::Length));
        assert_eq!(read(&[0x1a, 1, 0xff]), Err(Malformed::Text));
        assert_eq!(read(&[0x1a, 1, b'a']), Ok(()));
        // A 64-bit number, truncated, in place of the versions.
        assert!(read(&[0x29, 0]).is_err());
        assert_eq!(read(&[0x29, 0, 0, 0, 0, 0, 0, 0, 0]), Ok(()));
    }
}
