//! The result of a call: a reply, or messages of which the last is the reply.

use std::sync::Arc;

use bytes::Bytes;

use super::{ToolsChanged, failure::upstream_failed};
use crate::{
    domain::{CallError, Definition, Running},
    upstream::{Answer, Answers, Event, Reply},
};

/// The result of a call.
pub(crate) enum Outcome {
    /// The reply, and the slug of the entry whose server gave it.
    Whole(Reply, Arc<str>),
    /// Messages, the last of which is the reply.
    Stream(CallStream),
}

/// Messages of a call, the last of which is the reply.
pub(crate) struct CallStream {
    answers: Box<Answers>,
    at: At,
}

/// One message of a call.
pub(crate) enum CallEvent {
    /// A notification, ready to be passed on.
    Notification(Bytes),
    /// The reply; nothing follows.
    Reply(Reply),
}

/// Where a call went.
pub(super) struct At {
    /// The tool's.
    pub(super) definition: Option<Arc<Definition>>,
    /// The installation.
    pub(super) running: Running,
    /// Called when the upstream announces that its tools have changed.
    pub(super) tools_changed: ToolsChanged,
}

impl Outcome {
    pub(super) fn new(answer: Answer, at: At) -> Self {
        match answer {
            Answer::Whole(reply) => Self::Whole(reply, Arc::clone(&at.running.entry.slug)),
            Answer::Stream(answers) => Self::Stream(CallStream { answers, at }),
        }
    }
}

impl CallStream {
    /// Whether the tool has an output schema.
    pub(crate) fn declares_output(&self) -> bool {
        self.at
            .definition
            .as_ref()
            .is_some_and(|definition| definition.declares_output())
    }

    /// The slug of the entry whose server was called.
    pub(crate) fn entry(&self) -> &Arc<str> {
        &self.at.running.entry.slug
    }

    /// The next message. Must not be called again after the reply or an error.
    pub(crate) async fn next(&mut self) -> Result<CallEvent, CallError> {
        loop {
            match self.answers.next().await {
                Ok(Event::Notification(message)) => return Ok(CallEvent::Notification(message)),
                Ok(Event::Reply(reply)) => return Ok(CallEvent::Reply(reply)),
                Ok(Event::ToolsChanged) => (self.at.tools_changed)(&self.at.running.installation.uid),
                Err(error) => return Err(upstream_failed(error, &self.at.running.entry)),
            }
        }
    }
}
