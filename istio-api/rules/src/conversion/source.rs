//! Objects that are converted.

use std::cmp::Ordering;

use prost::Message;

use super::{Complaint, title};
use istio_api::object::{Meta, Object};

/// A decoded object.
#[derive(Debug, Clone, PartialEq)]
pub struct Source<T> {
    /// Kind, such as `Policy`.
    pub kind: &'static str,
    /// Name, version, age.
    pub meta: Meta,
    /// The body.
    pub spec: T,
}

impl<T: Message + Default> Source<T> {
    /// Decodes an object; the caller must ensure that `T` is the message of its collection.
    ///
    /// # Errors
    /// If the body is not an encoding of `T`.
    pub fn read(object: &Object) -> Result<Self, prost::DecodeError> {
        Ok(Self {
            kind: object.collection.kind,
            meta: object.meta.clone(),
            spec: object.decode()?,
        })
    }

    /// The objects of `kind` in order of age; those that cannot be read become complaints.
    pub(super) fn all(
        objects: &[Object],
        kind: &str,
        complaints: &mut Vec<Complaint>,
    ) -> Vec<Self> {
        let mut found = Vec::new();
        for object in objects.iter().filter(|one| one.collection.kind == kind) {
            match Self::read(object) {
                Ok(source) => found.push(source),
                Err(error) => complaints.push(Complaint {
                    kind: object.collection.kind,
                    namespace: object.meta.namespace.clone(),
                    name: object.meta.name.clone(),
                    path: "spec".to_owned(),
                    message: format!(
                        "the body cannot be decoded ({error}): want an encoded {}",
                        object.collection.message
                    ),
                }),
            }
        }
        found.sort_by(Self::by_age);
        found
    }
}

impl<T> Source<T> {
    /// The oldest first, then by name and namespace: the first wins, as everywhere.
    pub fn by_age(&self, other: &Self) -> Ordering {
        let key = |meta: &Meta| created(meta).unwrap_or_default();
        key(&self.meta)
            .cmp(&key(&other.meta))
            .then_with(|| self.meta.name.cmp(&other.meta.name))
            .then_with(|| self.meta.namespace.cmp(&other.meta.namespace))
    }

    /// Which object it is.
    pub fn origin(&self) -> Origin {
        Origin {
            kind: self.kind,
            namespace: self.meta.namespace.clone(),
            name: self.meta.name.clone(),
            version: self.meta.resource_version.clone(),
            created: created(&self.meta),
        }
    }

    pub(super) fn complaint(
        &self,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Complaint {
        self.origin().complaint(path, message)
    }
}

fn created(meta: &Meta) -> Option<(i64, i32)> {
    meta.creation_timestamp
        .map(|time| (time.seconds, time.nanos))
}

/// Names one version of an object that was converted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Kind, such as `Policy`.
    pub kind: &'static str,
    /// Its namespace; empty for a cluster-scoped object.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its resource version.
    pub version: String,
    /// Seconds since the epoch and nanoseconds; `None` when unknown.
    pub created: Option<(i64, i32)>,
}

impl Origin {
    /// Kind and full name.
    pub(super) fn title(&self) -> String {
        title(self.kind, &self.namespace, &self.name)
    }

    pub(super) fn complaint(
        &self,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Complaint {
        Complaint {
            kind: self.kind,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            path: path.into(),
            message: message.into(),
        }
    }
}
