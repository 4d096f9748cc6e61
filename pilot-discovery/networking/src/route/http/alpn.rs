//! ALPN of mesh TLS, set per request where the cluster follows the client's protocol.

use istio_api::{
    any,
    envoy::{
        config::core::v3::{
            DataSource, SubstitutionFormatString, data_source::Specifier,
            substitution_format_string::Format,
        },
        extensions::filters::{
            common::set_filter_state::v3::{
                FilterStateValue,
                filter_state_value::{Key, Value},
            },
            http::set_filter_state::v3::Config,
        },
    },
};
use prost_types::Any;

use crate::{name, route::destination::Announcement};

/// The server selects its filter chain by the `istio` names; plain names follow for servers outside
/// the mesh.
const BY_PROTOCOL: &str = "%CEL(request.protocol == 'HTTP/2' ? 'istio-h2,istio,h2' : \
    request.protocol == 'HTTP/1.0' ? 'istio-http/1.0,istio,http/1.0' : \
    'istio-http/1.1,istio,http/1.1')%";

const HTTP1: &str = "istio-http/1.1,istio,http/1.1";
const HTTP2: &str = "istio-h2,istio,h2";

/// Route-level configuration of the ALPN filter.
pub(super) fn on_route(announcement: Announcement) -> (String, Any) {
    let names = match announcement {
        Announcement::AsDownstream => BY_PROTOCOL,
        Announcement::Http1 => HTTP1,
        Announcement::Http2 => HTTP2,
    };
    let config = Config {
        on_request_headers: vec![FilterStateValue {
            key: Some(Key::ObjectKey(
                "envoy.network.application_protocols".to_owned(),
            )),
            value: Some(Value::FormatString(SubstitutionFormatString {
                format: Some(Format::TextFormatSource(DataSource {
                    specifier: Some(Specifier::InlineString(names.to_owned())),
                    ..Default::default()
                })),
                ..Default::default()
            })),
            ..Default::default()
        }],
        ..Default::default()
    };
    (name::ALPN_FILTER.to_owned(), any::pack(&config))
}
