//! Which proxies hold a configuration object.
//!
//! An object reaches a class of proxies if one of its resources was built from the object. A proxy
//! holds the object once it accepted the newest resources of all types built from it.

use pilot_networking::kind::Kind;
use pilot_xds::view::View;
use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{Query, State as Shared},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use pilot_model::config::source_kind;
use pilot_networking::manifest::Manifests;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Page, Params, failed, json as page};
use crate::{world::state::World, xds::registry::Taken};

/// Query parameters.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    /// `<kind>/<namespace>/<name>`
    resource: Option<String>,
    /// A version other than the published one counts as held by no proxy.
    #[serde(rename = "resourceVersion")]
    version: Option<String>,
}

/// The name of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    kind: String,
    namespace: String,
    name: String,
}

impl Object {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/').map(str::to_owned);
        let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
        let is_whole = parts.next().is_none() && !kind.is_empty() && !name.is_empty();
        is_whole.then_some(Self {
            kind,
            namespace,
            name,
        })
    }

    /// Types of the resources that are built from it.
    fn kinds(&self, manifests: &Manifests) -> Vec<Kind> {
        let of_it = |kind: &Kind| {
            let mut sources = manifests[*kind].values().flat_map(|made| &*made.sources);
            sources.any(|source| {
                source.kind == self.kind
                    && *source.namespace == *self.namespace
                    && *source.name == *self.name
            })
        };
        Kind::ALL.into_iter().filter(of_it).collect()
    }
}

/// The proxies, and the version of the object that they should hold.
#[derive(Debug)]
struct ObjectState {
    version: Option<String>,
    /// Whether the published resources were built from this version.
    is_published: bool,
    /// Connection, name and resources of each proxy.
    proxies: Vec<(u64, Arc<str>, View)>,
}

fn look(writer: &World, object: &Object) -> ObjectState {
    let found = writer.builder.objects().find(|one| {
        source_kind(one.collection) == object.kind
            && one.meta.namespace == object.namespace
            && one.meta.name == object.name
    });
    // Resources are built on publishing. Until then they are from the previous version.
    let builder = &writer.builder;
    let may_be_endpoints = matches!(&*object.kind, "ServiceEntry" | "Service");
    let is_hidden = builder.is_dirty() && (may_be_endpoints || !builder.is_endpoints_only());
    ObjectState {
        is_published: !is_hidden,
        version: found.map(|object| object.meta.resource_version.clone()),
        proxies: writer
            .fleet
            .proxies()
            .filter_map(|(id, member)| Some((id, member.proxy.id.clone(), writer.views.last(id)?)))
            .collect(),
    }
}

/// The state of a proxy for the object. `taken` is `None` for a proxy without subscriptions yet.
fn state(kinds: &[Kind], version: u64, taken: Option<&[Taken; Kind::COUNT]>) -> &'static str {
    let of = |kind: &Kind| taken.and_then(|taken| taken.get(kind.index_of()));
    let holds = |kind: &Kind| of(kind).is_some_and(|taken| taken.version >= Some(version));
    if kinds.iter().all(holds) {
        "acked"
    } else if kinds
        .iter()
        .any(|kind| of(kind).is_some_and(|taken| taken.refused))
    {
        "nacked"
    } else {
        "pending"
    }
}

pub(super) async fn config_distribution(
    Shared(state_of): Page,
    Query(params): Query<Params>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let resource = wanted.resource.unwrap_or_default();
    let Some(object) = Object::parse(&resource) else {
        let text = "resource must be <kind>/<namespace>/<name>, as in \
                    resource=VirtualService/default/reviews\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    let asked = object.clone();
    let found_state = state_of
        .world
        .inspect(move |writer| look(writer, &asked))
        .await;
    let found_state = match found_state {
        Ok(found_state) => found_state,
        Err(error) => return failed(&error),
    };
    let is_current = found_state.is_published
        && found_state.version.is_some()
        && wanted
            .version
            .is_none_or(|version| found_state.version == Some(version));
    // Proxies of one class share their manifests.
    let mut known: BTreeMap<*const Manifests, Vec<Kind>> = BTreeMap::new();
    let mut kinds_of = |manifests: &Arc<Manifests>| {
        let kinds = known.entry(Arc::as_ptr(manifests));
        kinds.or_insert_with(|| object.kinds(manifests)).clone()
    };
    let (mut acked, mut reached) = (0, 0);
    let mut proxies: Vec<Value> = Vec::with_capacity(found_state.proxies.len());
    for (id, name, view) in &found_state.proxies {
        let mut kinds = kinds_of(&view.outbound);
        kinds.extend(kinds_of(&view.inbound));
        let state = if is_current {
            state(&kinds, view.version, state_of.streams.taken(*id).as_ref())
        } else {
            "pending"
        };
        reached += usize::from(!kinds.is_empty());
        acked += usize::from(state == "acked");
        proxies.push(json!({
            "proxy": &**name,
            "pilot": &*state_of.pilot,
            "reached": !kinds.is_empty(),
            "state": state,
        }));
    }
    let answer = json!({
        "resource": resource,
        "resourceVersion": found_state.version,
        "total": proxies.len(),
        "reached": reached,
        "acked": acked,
        "proxies": proxies,
    });
    page(&params, &answer)
}

#[cfg(test)]
mod tests;
