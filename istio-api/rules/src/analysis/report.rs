//! Collects messages, leaves out those that are not wanted, and orders the rest.

use std::sync::Arc;

use super::Request;
use super::catalogue::{self, Code};
use super::message::Message;
use super::origin::Origin;

/// What analyzers write into.
#[derive(Debug, Default)]
pub(super) struct Report {
    messages: Vec<Message>,
}

impl Report {
    /// Adds a message about a field of an object, or about the whole object if `field` is empty.
    pub(super) fn add<const N: usize>(
        &mut self,
        code: &'static Code,
        origin: &Arc<Origin>,
        field: impl Into<String>,
        parameters: [String; N],
    ) {
        self.messages.push(Message {
            code,
            parameters: parameters.into(),
            origin: Some(origin.clone()),
            field: field.into(),
            line: None,
        });
    }

    /// Adds the message that an analyzer failed.
    pub(super) fn failed(&mut self, analyzer: &str) {
        self.messages.push(Message {
            code: &catalogue::INTERNAL_ERROR,
            parameters: vec![analyzer.to_owned()],
            origin: None,
            field: String::new(),
            line: None,
        });
    }

    /// The messages that are wanted, in order; lines are looked up for these only.
    pub(super) fn finish(self, request: &Request) -> Vec<Message> {
        let mut messages: Vec<Message> = self
            .messages
            .into_iter()
            .filter(|message| is_wanted(message, request))
            .collect();
        for message in &mut messages {
            let origin = message.origin.as_ref();
            message.line = origin.and_then(|origin| origin.line(&message.field));
        }
        messages.sort_by_cached_key(Message::order);
        messages.dedup_by_key(|message| message.order());
        messages
    }
}

fn is_wanted(message: &Message, request: &Request) -> bool {
    let Some(origin) = &message.origin else {
        return true;
    };
    let audience = origin.audience();
    let is_near = request
        .namespace
        .as_ref()
        .is_none_or(|wanted| audience.is_empty() || wanted == audience);
    is_near
        && !origin.suppresses(message.code.code)
        && !request
            .suppressions
            .iter()
            .any(|one| one.covers(message.code, origin))
}
