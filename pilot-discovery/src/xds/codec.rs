//! Responses on the wire: resources are encoded already, only the frame around them is written.

use prost::{
    bytes::BufMut,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};
use std::marker::PhantomData;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::stream::{Response, Variant, hex};

/// A response with the protocol variant that frames it.
#[derive(Debug)]
pub struct Framed {
    pub variant: Variant,
    pub response: Response,
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

/// Length of a length-delimited field with its one-byte key.
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
    /// Bytes that [`Self::encode`] writes.
    pub fn encoded_len(&self) -> usize {
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
        delimited(hex(response.version).len())
            + resources
            + delimited(url.len())
            + delimited(response.nonce.len())
            + removed
    }

    /// Writes the message.
    pub fn encode(&self, out: &mut impl BufMut) {
        let response = &self.response;
        let url = response.kind.type_url();
        put_bytes(out, field::VERSION, hex(response.version).as_bytes());
        for resource in &response.resources {
            let any = delimited(url.len()) + delimited(resource.body.len());
            match self.variant {
                Variant::Sotw => put_header(out, field::RESOURCES, any),
                Variant::Delta => {
                    let name = &resource.name;
                    let len = delimited(16) + delimited(any) + delimited(name.len());
                    put_header(out, field::RESOURCES, len);
                    put_bytes(out, field::RESOURCE_NAME, name.as_bytes());
                    put_bytes(
                        out,
                        field::RESOURCE_VERSION,
                        hex(resource.version).as_bytes(),
                    );
                    put_header(out, field::RESOURCE_BODY, any);
                }
            }
            put_bytes(out, field::ANY_TYPE_URL, url.as_bytes());
            put_bytes(out, field::ANY_VALUE, &resource.body);
        }
        put_bytes(out, field::TYPE_URL, url.as_bytes());
        put_bytes(out, field::NONCE, response.nonce.as_bytes());
        for name in &response.removed {
            put_bytes(out, field::REMOVED, name.as_bytes());
        }
    }
}

/// gRPC codec of the server side: decodes `T`, encodes [`Framed`].
#[derive(Debug)]
pub struct AdsCodec<T>(PhantomData<T>);

impl<T> Default for AdsCodec<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: prost::Message + Default + Send + 'static> Codec for AdsCodec<T> {
    type Encode = Framed;
    type Decode = T;
    type Encoder = FramedEncoder;
    type Decoder = RequestDecoder<T>;

    fn encoder(&mut self) -> Self::Encoder {
        FramedEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        RequestDecoder(PhantomData)
    }
}

/// Encodes [`Framed`].
#[derive(Debug)]
pub struct FramedEncoder;

impl Encoder for FramedEncoder {
    type Item = Framed;
    type Error = Status;

    fn encode(&mut self, item: Framed, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(item.encoded_len());
        item.encode(out);
        Ok(())
    }
}

/// Decodes a request message.
#[derive(Debug)]
pub struct RequestDecoder<T>(PhantomData<T>);

impl<T: prost::Message + Default> Decoder for RequestDecoder<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        T::decode(buf).map(Some).map_err(|error| {
            Status::invalid_argument(format!("malformed discovery request: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use istio_api::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
    use pilot_networking::resource::Resource;
    use prost::Message as _;

    use super::*;
    use crate::xds::kind::Kind;

    fn framed(variant: Variant) -> Framed {
        Framed {
            variant,
            response: Response {
                kind: Kind::Cluster,
                version: 7,
                nonce: "7-1".into(),
                resources: vec![Arc::new(Resource::from_bytes("a", vec![1; 200].into(), []))],
                removed: vec!["b".into()],
            },
        }
    }

    fn bytes(framed: &Framed) -> Vec<u8> {
        let mut out = Vec::new();
        framed.encode(&mut out);
        assert_eq!(out.len(), framed.encoded_len());
        out
    }

    #[test]
    fn delta_frames_are_what_prost_reads() {
        let framed = framed(Variant::Delta);
        let read = DeltaDiscoveryResponse::decode(bytes(&framed).as_slice()).unwrap();
        assert_eq!(read.nonce, "7-1");
        assert_eq!(read.removed_resources, ["b"]);
        assert_eq!(read.type_url, Kind::Cluster.type_url());
        let resource = &read.resources[0];
        assert_eq!(resource.name, "a");
        assert_eq!(resource.version, hex(framed.response.resources[0].version));
        assert_eq!(resource.resource.as_ref().unwrap().value, vec![1; 200]);
    }

    #[test]
    fn state_of_the_world_frames_are_what_prost_reads() {
        let mut framed = framed(Variant::Sotw);
        framed.response.removed.clear();
        let read = DiscoveryResponse::decode(bytes(&framed).as_slice()).unwrap();
        assert_eq!(
            (read.version_info.as_str(), read.nonce.as_str()),
            ("0000000000000007", "7-1")
        );
        assert_eq!(read.resources[0].type_url, Kind::Cluster.type_url());
        assert_eq!(read.resources[0].value, vec![1; 200]);
    }
}
