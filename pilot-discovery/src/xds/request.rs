//! Requests of both protocol variants in one shape.

use std::collections::BTreeMap;

use istio_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};

/// Most names that one request may carry; more is refused as malformed.
pub const MAX_NAMES: usize = 1_000_000;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// State of the world: the complete list of names.
    Names(Vec<String>),
    /// Delta: what joins and leaves the list, and on a new stream what the proxy still holds.
    Delta {
        subscribe: Vec<String>,
        unsubscribe: Vec<String>,
        /// Name → version.
        initial: BTreeMap<String, String>,
    },
}

/// A request for one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub type_url: String,
    /// Nonce of the response that it answers; empty when it answers none.
    pub nonce: String,
    /// Why the proxy refused that response.
    pub error: Option<String>,
    pub wish: Wish,
}

impl From<DiscoveryRequest> for Request {
    fn from(request: DiscoveryRequest) -> Self {
        Self {
            type_url: request.type_url,
            nonce: request.response_nonce,
            error: request.error_detail.map(|status| status.message),
            wish: Wish::Names(request.resource_names),
        }
    }
}

impl From<DeltaDiscoveryRequest> for Request {
    fn from(request: DeltaDiscoveryRequest) -> Self {
        Self {
            type_url: request.type_url,
            nonce: request.response_nonce,
            error: request.error_detail.map(|status| status.message),
            wish: Wish::Delta {
                subscribe: request.resource_names_subscribe,
                unsubscribe: request.resource_names_unsubscribe,
                initial: request.initial_resource_versions,
            },
        }
    }
}

impl Request {
    /// Number of names in it.
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
