//! What came of a request.

use super::{
    answer::{Answers, Event},
    error::UpstreamError,
    message::Reply,
    modern::rounds::Rounds,
};

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The reply, as JSON.
    Whole(Reply),
    /// Messages that end with the reply.
    Stream(Messages),
}

/// Messages that end with the reply.
#[derive(Debug)]
pub(crate) enum Messages {
    /// As the server sends them.
    Plain(Box<Answers>),
    /// With what a modern server asks a client of an older revision.
    Rounds(Box<Rounds>),
}

impl Messages {
    /// The next message. Must not be called again after the reply or an error.
    pub(crate) async fn next(&mut self) -> Result<Event, UpstreamError> {
        match self {
            Self::Plain(answers) => answers.next().await,
            Self::Rounds(rounds) => rounds.next().await,
        }
    }
}
