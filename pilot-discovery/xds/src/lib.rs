//! The xDS protocol of one aggregated stream, state of the world and delta, without IO.
//!
//! ```text
//! bytes ──request──► Request ──► Stream ──► Response (resources are encoded already)
//!                       View ──────┘  watch: what a proxy subscribed to, was sent and accepted
//! ```
//!
//! A stream is driven by requests and views and returns the responses to send; the owner of the
//! socket writes them.
//!
//! ```
//! use istio_api::envoy::service::discovery::v3::DeltaDiscoveryRequest;
//! use pilot_networking::kind::Kind;
//! use pilot_xds::{
//!     request::read_delta,
//!     stream::{Event, Stream, Variant},
//!     view::View,
//! };
//! use prost::Message as _;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let message = DeltaDiscoveryRequest { type_url: Kind::Cluster.type_url().into(), ..Default::default() };
//! let (_node, request) = read_delta(&message.encode_to_vec().into())?;
//! let mut stream = Stream::new(Variant::Delta, View::default());
//! let (event, responses) = stream.on_request(request);
//! assert_eq!(event, Event::Subscribed(Kind::Cluster));
//! // The first response is sent even if it is empty.
//! assert_eq!(responses.len(), 1);
//! # Ok(())
//! # }
//! ```

#![deny(missing_docs)]

pub mod names;
pub mod request;
pub mod stream;
pub mod view;
pub mod watch;
