//! A gRPC codec that reports the size of every message.

use std::marker::PhantomData;

use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// A message with its size on the wire, in bytes.
#[derive(Debug)]
pub struct Sized<T> {
    pub bytes: usize,
    pub message: T,
}

/// Encodes `E`, decodes [`Sized`] `D`.
#[derive(Debug)]
pub struct SizedCodec<E, D>(PhantomData<(E, D)>);

impl<E, D> Default for SizedCodec<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E, D> Codec for SizedCodec<E, D>
where
    E: prost::Message + 'static,
    D: prost::Message + Default + 'static,
{
    type Encode = E;
    type Decode = Sized<D>;
    type Encoder = SizedEncoder<E>;
    type Decoder = SizedDecoder<D>;

    fn encoder(&mut self) -> Self::Encoder {
        SizedEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        SizedDecoder(PhantomData)
    }
}

/// Encodes `E`.
#[derive(Debug)]
pub struct SizedEncoder<E>(PhantomData<E>);

impl<E: prost::Message> Encoder for SizedEncoder<E> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, item: E, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(out)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

/// Decodes `D`.
#[derive(Debug)]
pub struct SizedDecoder<D>(PhantomData<D>);

impl<D: prost::Message + Default> Decoder for SizedDecoder<D> {
    type Item = Sized<D>;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Sized<D>>, Status> {
        use bytes::Buf as _;
        let bytes = buf.remaining();
        let message = D::decode(buf).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(Sized { bytes, message }))
    }
}
