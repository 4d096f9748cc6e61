//! Messages in `google.protobuf.Any`. The type URL prefix is always `type.googleapis.com/`.

use prost::{Message, Name};
use prost_types::Any;

/// What every type URL starts with.
pub const PREFIX: &str = "type.googleapis.com/";

/// Error of [`unpack`].
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The type URL names another message.
    #[error("any holds {found:?}, want {wanted:?}")]
    Type {
        /// Full name of the message that was asked for.
        wanted: String,
        /// Type URL of the value.
        found: String,
    },
    /// The bytes are not an encoding of the message.
    #[error("any with {message}: {source}")]
    Decode {
        /// Full name of the message.
        message: String,
        /// Error of the decoder.
        source: prost::DecodeError,
    },
}

/// The type URL of `T`.
#[must_use]
pub fn type_url<T: Name>() -> String {
    format!("{PREFIX}{}", T::full_name())
}

/// Encodes `message`. Equal messages give equal bytes.
#[must_use]
pub fn pack<T: Message + Name>(message: &T) -> Any {
    Any {
        type_url: type_url::<T>(),
        value: message.encode_to_vec(),
    }
}

/// Decodes a value that must hold a `T`. Any prefix before the last `/` is accepted.
///
/// # Errors
/// If the value holds another message, or bytes that do not decode.
pub fn unpack<T: Message + Name + Default>(any: &Any) -> Result<T, UnpackError> {
    let wanted = T::full_name();
    if message_name(&any.type_url) != wanted {
        return Err(UnpackError::Type {
            wanted,
            found: any.type_url.clone(),
        });
    }
    T::decode(any.value.as_slice()).map_err(|source| UnpackError::Decode {
        message: wanted,
        source,
    })
}

/// The full message name in a type URL: all after the last `/`.
#[must_use]
pub fn message_name(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::config::core::v3::Node;
    use crate::envoy::extensions::filters::http::router::v3::Router;

    #[test]
    fn packs_with_the_canonical_prefix() {
        let any = pack(&Router::default());
        assert_eq!(
            any.type_url,
            "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
        );
        assert!(any.value.is_empty());
    }

    #[test]
    fn unpack_returns_what_was_packed() {
        let node = Node {
            id: "sidecar~10.0.0.1~a.b~b.svc".into(),
            ..Default::default()
        };
        assert_eq!(unpack::<Node>(&pack(&node)).unwrap(), node);
    }

    #[test]
    fn unpack_refuses_another_type() {
        let error = unpack::<Router>(&pack(&Node::default())).unwrap_err();
        assert!(
            error.to_string().contains("envoy.config.core.v3.Node"),
            "{error}"
        );
    }

    #[test]
    fn unpack_refuses_bytes_that_do_not_decode() {
        let any = Any {
            type_url: type_url::<Node>(),
            value: vec![0x0a, 0xff],
        };
        assert!(matches!(
            unpack::<Node>(&any),
            Err(UnpackError::Decode { .. })
        ));
    }
}
