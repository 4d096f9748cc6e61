//! The protobuf wire format, as far as writing it goes.

use prost::encoding::{WireType, encode_key, encode_varint};

/// One encoded value without its field number.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wire {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
    /// Strings and bytes.
    Bytes(Vec<u8>),
    /// An encoded message. Apart from bytes, because an empty one is still written.
    Message(Vec<u8>),
}

impl Wire {
    /// Whether a field without presence leaves this value out.
    pub(super) fn is_default(&self) -> bool {
        match self {
            Self::Varint(value) => *value == 0,
            Self::Fixed32(value) => *value == 0,
            Self::Fixed64(value) => *value == 0,
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Message(_) => false,
        }
    }

    /// Field number and value.
    pub(super) fn field(&self, number: u32, out: &mut Vec<u8>) {
        let kind = match self {
            Self::Varint(_) => WireType::Varint,
            Self::Fixed32(_) => WireType::ThirtyTwoBit,
            Self::Fixed64(_) => WireType::SixtyFourBit,
            Self::Bytes(_) | Self::Message(_) => WireType::LengthDelimited,
        };
        encode_key(number, kind, out);
        self.bare(out);
    }

    /// The value alone, as in a packed list.
    pub(super) fn bare(&self, out: &mut Vec<u8>) {
        match self {
            Self::Varint(value) => encode_varint(*value, out),
            Self::Fixed32(value) => out.extend_from_slice(&value.to_le_bytes()),
            Self::Fixed64(value) => out.extend_from_slice(&value.to_le_bytes()),
            Self::Bytes(bytes) | Self::Message(bytes) => {
                encode_varint(bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
        }
    }
}

/// A map key, ordered as prost orders the typed one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Text(String),
}
