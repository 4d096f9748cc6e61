//! State of the protocol on one stream, without transport. Pure.

use std::collections::BTreeSet;

use istio_api::envoy::service::discovery::v3::DiscoveryRequest;

use crate::secret::{TRUST, WORKLOAD, file::Source};

/// Maximum number of names per stream.
pub const MAX_NAMES: usize = 100;
/// Length at which error messages of a peer are truncated.
const MAX_TEXT: usize = 1024;

/// Names and last nonce of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    names: BTreeSet<String>,
    nonce: Option<String>,
}

/// Reaction to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Respond with these names.
    Respond(BTreeSet<String>),
    /// The peer rejected the last response.
    Rejected(String),
    /// An acknowledgement, or an outdated request.
    Nothing,
    /// End the stream with this error.
    Refuse(String),
}

impl Subscription {
    /// Handles a request.
    pub fn on_request(&mut self, request: &DiscoveryRequest) -> Action {
        let asked: BTreeSet<String> = request.resource_names.iter().cloned().collect();
        if let Some(problem) = problem(&asked, &request.type_url) {
            return Action::Refuse(problem);
        }
        if request.response_nonce.is_empty() || self.nonce.is_none() {
            self.names.clone_from(&asked);
            return if asked.is_empty() {
                Action::Nothing
            } else {
                Action::Respond(asked)
            };
        }
        if let Some(error) = &request.error_detail {
            return Action::Rejected(error.message.chars().take(MAX_TEXT).collect());
        }
        if self.nonce.as_deref() != Some(&request.response_nonce) {
            return Action::Nothing;
        }
        let added: BTreeSet<String> = asked.difference(&self.names).cloned().collect();
        self.names = asked;
        if added.is_empty() {
            Action::Nothing
        } else {
            Action::Respond(added)
        }
    }

    /// Records that a response with this nonce was sent.
    pub fn sent(&mut self, nonce: &str) {
        self.nonce = Some(nonce.to_owned());
    }

    /// The requested names, the trust bundle first: a peer must trust a new root before it receives
    /// a certificate signed by it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let trust = self.names.iter().filter(|name| *name == TRUST);
        trust
            .chain(self.names.iter().filter(|name| *name != TRUST))
            .map(String::as_str)
    }
}

fn problem(names: &BTreeSet<String>, type_url: &str) -> Option<String> {
    if !type_url.is_empty() && type_url != super::resource::TYPE_URL {
        return Some(format!(
            "unsupported type {type_url:?}: want {}",
            super::resource::TYPE_URL
        ));
    }
    if names.len() > MAX_NAMES {
        return Some(format!(
            "too many names: {}, at most {MAX_NAMES} are allowed",
            names.len()
        ));
    }
    names
        .iter()
        .find(|name| *name != WORKLOAD && *name != TRUST && Source::parse(name).is_none())
        .map(|name| format!("unknown secret {name:?}"))
}

#[cfg(test)]
mod tests {
    use istio_api::google::rpc::Status;

    use super::*;

    fn ask(names: &[&str], nonce: &str) -> DiscoveryRequest {
        DiscoveryRequest {
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: nonce.to_owned(),
            type_url: super::super::resource::TYPE_URL.to_owned(),
            ..DiscoveryRequest::default()
        }
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn subscribe_acknowledge_add_remove() {
        let mut stream = Subscription::default();
        assert_eq!(
            stream.on_request(&ask(&["default"], "")),
            Action::Respond(set(&["default"]))
        );
        stream.sent("1");
        assert_eq!(stream.on_request(&ask(&["default"], "1")), Action::Nothing);
        assert_eq!(
            stream.on_request(&ask(&["default", "ROOTCA"], "1")),
            Action::Respond(set(&["ROOTCA"]))
        );
        stream.sent("2");
        assert_eq!(
            stream.on_request(&ask(&["default"], "1")),
            Action::Nothing,
            "stale"
        );
        assert_eq!(stream.names().collect::<Vec<_>>(), ["ROOTCA", "default"]);
        assert_eq!(stream.on_request(&ask(&["default"], "2")), Action::Nothing);
        assert_eq!(stream.names().collect::<Vec<_>>(), ["default"]);
        assert_eq!(stream.on_request(&ask(&[], "2")), Action::Nothing);
        assert_eq!(stream.names().count(), 0);
        assert_eq!(
            stream.on_request(&ask(&["default"], "")),
            Action::Respond(set(&["default"]))
        );
    }

    #[test]
    fn a_refusal_is_remembered_and_not_answered() {
        let mut stream = Subscription::default();
        stream.on_request(&ask(&["default"], ""));
        stream.sent("1");
        let mut refusal = ask(&["default"], "1");
        refusal.error_detail = Some(Status {
            message: "bad key".to_owned(),
            ..Status::default()
        });
        assert_eq!(
            stream.on_request(&refusal),
            Action::Rejected("bad key".to_owned())
        );
        assert_eq!(stream.names().collect::<Vec<_>>(), ["default"]);
    }

    #[test]
    fn foreign_names_types_and_floods_end_the_stream() {
        let refused = |request: &DiscoveryRequest| {
            matches!(
                Subscription::default().on_request(request),
                Action::Refuse(_)
            )
        };
        assert!(refused(&ask(&["kubernetes://web"], "")));
        assert!(refused(&ask(&["anything"], "")));
        let many: Vec<String> = (0..=MAX_NAMES)
            .map(|at| format!("file-root:/r{at}"))
            .collect();
        assert!(refused(&ask(
            &many.iter().map(String::as_str).collect::<Vec<_>>(),
            ""
        )));
        let mut other = ask(&["default"], "");
        other.type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
        assert!(refused(&other));
    }
}
