//! What came of a request.

use futures::future::BoxFuture;

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
pub(crate) enum Messages {
    /// As the server sends them.
    Plain(Box<Answers>),
    /// With what a modern server asks a client of an older revision.
    Rounds(Box<Rounds>),
    /// Those of an answer that has not begun, while the server says something beside it.
    Awaited(BoxFuture<'static, Result<Answer, UpstreamError>>),
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(answers) => answers.fmt(f),
            Self::Rounds(rounds) => rounds.fmt(f),
            Self::Awaited(_) => f.write_str("Awaited"),
        }
    }
}

impl Messages {
    /// The next message. Must not be called again after the reply or an error.
    pub(crate) async fn next(&mut self) -> Result<Event, UpstreamError> {
        loop {
            match self {
                Self::Plain(answers) => return answers.next().await,
                Self::Rounds(rounds) => return rounds.next().await,
                Self::Awaited(answer) => match answer.await? {
                    Answer::Whole(reply) => return Ok(Event::Reply(reply)),
                    Answer::Stream(messages) => *self = messages,
                },
            }
        }
    }
}
