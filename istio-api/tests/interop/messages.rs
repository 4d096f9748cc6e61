//! The messages of the protocol, in both directions.

use std::collections::BTreeMap;
use std::fmt::Debug;

use istio_api::google::rpc::Status;
use istio_api::mcp::v1alpha1::{
    IncrementalMeshConfigRequest, IncrementalMeshConfigResponse, MeshConfigRequest,
    MeshConfigResponse, Metadata, RequestResources, Resource, Resources, SinkNode,
};
use prost::Message;
use prost_types::{Any, Timestamp};

use crate::wire::{bytes, entry, int, message, text};

fn both_ways<M: Message + Default + PartialEq + Debug>(value: &M, fields: &[Vec<u8>]) {
    let wire = fields.concat();
    assert_eq!(value.encode_to_vec(), wire);
    assert_eq!(M::decode(wire.as_slice()).unwrap(), *value);
}

fn one(key: &str, value: &str) -> BTreeMap<String, String> {
    [(key.to_owned(), value.to_owned())].into()
}

fn node() -> SinkNode {
    SinkNode {
        id: "pilot-0".to_owned(),
        annotations: one("zone", "a"),
    }
}

fn node_fields() -> Vec<Vec<u8>> {
    vec![text(1, "pilot-0"), entry(2, "zone", "a")]
}

fn status() -> Status {
    Status {
        code: 3,
        message: "bad".to_owned(),
        details: vec![Any {
            type_url: "type.googleapis.com/x.Y".to_owned(),
            value: vec![1, 2],
        }],
    }
}

fn status_fields() -> Vec<Vec<u8>> {
    let detail = message(3, &[text(1, "type.googleapis.com/x.Y"), bytes(2, &[1, 2])]);
    vec![int(1, 3), text(2, "bad"), detail]
}

/// As 1.1 sends an object without a creation time: 0001-01-01T00:00:00Z.
fn resource() -> Resource {
    Resource {
        metadata: Some(Metadata {
            name: "demo/gw".to_owned(),
            create_time: Some(Timestamp {
                seconds: -62_135_596_800,
                nanos: 0,
            }),
            version: "v7".to_owned(),
            labels: one("team", "red"),
            annotations: one("note", "hello"),
        }),
        body: Some(Any {
            type_url: "type.googleapis.com/istio.networking.v1alpha3.Gateway".to_owned(),
            value: vec![0x0a, 0x00],
        }),
    }
}

fn resource_fields() -> Vec<Vec<u8>> {
    let metadata = [
        text(1, "demo/gw"),
        message(2, &[int(1, -62_135_596_800)]),
        text(3, "v7"),
        entry(4, "team", "red"),
        entry(5, "note", "hello"),
    ];
    let body = [
        text(1, "type.googleapis.com/istio.networking.v1alpha3.Gateway"),
        bytes(2, &[0x0a, 0x00]),
    ];
    vec![message(1, &metadata), message(2, &body)]
}

#[test]
fn requests() {
    let request = RequestResources {
        sink_node: Some(node()),
        collection: "c".to_owned(),
        initial_resource_versions: one("demo/gw", "v7"),
        response_nonce: "5".to_owned(),
        error_detail: Some(status()),
        incremental: true,
    };
    both_ways(
        &request,
        &[
            message(1, &node_fields()),
            text(2, "c"),
            entry(3, "demo/gw", "v7"),
            text(4, "5"),
            message(5, &status_fields()),
            int(6, 1),
        ],
    );
}

#[test]
fn the_subscription_of_a_pilot_of_1_1() {
    // It always sends its node, which is empty.
    let wire = [bytes(1, &[]), text(2, "c")].concat();
    let request = RequestResources::decode(wire.as_slice()).unwrap();
    assert_eq!(request.sink_node, Some(SinkNode::default()));
    assert_eq!(
        (request.collection.as_str(), request.incremental),
        ("c", false)
    );
    assert!(request.response_nonce.is_empty() && request.error_detail.is_none());
}

#[test]
fn responses() {
    let response = Resources {
        system_version_info: "12".to_owned(),
        collection: "c".to_owned(),
        resources: vec![resource()],
        removed_resources: vec!["demo/old".to_owned()],
        nonce: "5".to_owned(),
        incremental: true,
    };
    both_ways(
        &response,
        &[
            text(1, "12"),
            text(2, "c"),
            message(3, &resource_fields()),
            text(4, "demo/old"),
            text(5, "5"),
            int(6, 1),
        ],
    );
}

#[test]
fn requests_of_the_older_service() {
    let request = MeshConfigRequest {
        version_info: "12".to_owned(),
        sink_node: Some(node()),
        type_url: "c".to_owned(),
        response_nonce: "5".to_owned(),
        error_detail: Some(status()),
    };
    both_ways(
        &request,
        &[
            text(1, "12"),
            message(2, &node_fields()),
            text(3, "c"),
            text(4, "5"),
            message(5, &status_fields()),
        ],
    );
    let request = IncrementalMeshConfigRequest {
        sink_node: Some(node()),
        type_url: "c".to_owned(),
        initial_resource_versions: one("demo/gw", "v7"),
        response_nonce: "5".to_owned(),
        error_detail: Some(status()),
    };
    both_ways(
        &request,
        &[
            message(1, &node_fields()),
            text(2, "c"),
            entry(3, "demo/gw", "v7"),
            text(4, "5"),
            message(5, &status_fields()),
        ],
    );
}

#[test]
fn responses_of_the_older_service() {
    let response = MeshConfigResponse {
        version_info: "12".to_owned(),
        resources: vec![resource()],
        type_url: "c".to_owned(),
        nonce: "5".to_owned(),
    };
    both_ways(
        &response,
        &[
            text(1, "12"),
            message(2, &resource_fields()),
            text(3, "c"),
            text(4, "5"),
        ],
    );
    let response = IncrementalMeshConfigResponse {
        system_version_info: "12".to_owned(),
        resources: vec![resource()],
        removed_resources: vec!["demo/old".to_owned()],
        nonce: "5".to_owned(),
    };
    both_ways(
        &response,
        &[
            text(1, "12"),
            message(2, &resource_fields()),
            text(3, "demo/old"),
            text(4, "5"),
        ],
    );
}
