//! Objects as the engine keeps them: ready to be distributed, or inputs of the synthesis.

use std::sync::Arc;

use istio_api::collections::Collection;
use istio_api::manifest;
use istio_api::mcp::v1alpha1::{Metadata as McpMetadata, Resource};
use prost_types::{Any, Timestamp};
use xxhash_rust::xxh3::Xxh3;

use crate::native::Native;

/// 0001-01-01T00:00:00Z, which 1.1 sends for an unknown time.
const NO_TIME: Timestamp = Timestamp {
    seconds: -62_135_596_800,
    nanos: 0,
};

/// An object that is distributed unchanged.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its collection.
    pub collection: &'static Collection,
    /// Encoded, ready to be sent.
    pub resource: Arc<Resource>,
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.collection.name == other.collection.name && self.version() == other.version()
    }
}

impl Config {
    /// Makes the resource. Its version is a hash of everything else in it, so that a restarted
    /// source and other replicas give the same content the same version.
    pub fn new(collection: &'static Collection, metadata: McpMetadata, body: Vec<u8>) -> Self {
        let mut metadata = metadata;
        metadata.create_time.get_or_insert(NO_TIME);
        metadata.version = content_version(&metadata, &body);
        let body = Any {
            type_url: collection.type_url(),
            value: body,
        };
        let resource = Resource {
            metadata: Some(metadata),
            body: Some(body),
        };
        Self {
            collection,
            resource: Arc::new(resource),
        }
    }

    /// The resource's version.
    pub fn version(&self) -> &str {
        self.resource
            .metadata
            .as_ref()
            .map_or("", |metadata| &metadata.version)
    }
}

fn content_version(metadata: &McpMetadata, body: &[u8]) -> String {
    let mut hash = Xxh3::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&bytes.len().to_le_bytes());
        hash.update(bytes);
    };
    for map in [&metadata.labels, &metadata.annotations] {
        part(&map.len().to_le_bytes());
        for (name, value) in map {
            part(name.as_bytes());
            part(value.as_bytes());
        }
    }
    if let Some(time) = metadata.create_time {
        part(&time.seconds.to_le_bytes());
        part(&time.nanos.to_le_bytes());
    }
    part(body);
    format!("f-{:016x}", hash.digest())
}

/// An object that is used.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Istio configuration.
    Config(Config),
    /// A Kubernetes object, from which others are made.
    Native(Native),
}

impl From<manifest::Item<Native>> for Item {
    fn from(item: manifest::Item<Native>) -> Self {
        match item {
            manifest::Item::Native(native) => Self::Native(native),
            manifest::Item::Config(config) => {
                let name = config.full_name();
                let metadata = config.metadata;
                let metadata = McpMetadata {
                    name,
                    create_time: metadata.created,
                    version: String::new(),
                    labels: metadata.labels,
                    annotations: metadata.annotations,
                };
                Self::Config(Config::new(config.collection, metadata, config.body))
            }
        }
    }
}

#[cfg(test)]
mod tests;
