//! A call of a client with sessions at a server without: what the server asks in results is asked in the course of the call.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::HeaderMap;
use service_kit::{cancel::Cancel, turns::off_thread};
use tokio::time::{Instant, timeout_at};

use super::{
    question::Questions,
    reply::{Judged, judge},
};
use crate::upstream::{
    answer::{Answers, Event, Started},
    asking::Asking,
    error::UpstreamError,
    message::{Outgoing, Reply},
    target::Target,
    upstreams::Upstreams,
};

/// A request is sent again at most this often. No call asks its user as much.
const MOST: u32 = 16;

/// The messages of such a call.
pub(crate) struct Rounds {
    upstreams: Upstreams,
    target: Arc<Target>,
    request: Outgoing,
    deadline: Instant,
    cancel: Cancel,
    sent_again: u32,
    /// What the request was sent again with.
    inputs: Bytes,
    stage: Stage,
}

enum Stage {
    /// The server answers with a stream.
    Reading(Box<Answers>),
    Replied(Reply),
    Asking(Questions),
    /// The request is sent once more. A future that is kept: one that is dropped and made anew would send it twice.
    Sending(BoxFuture<'static, Result<Started, UpstreamError>>),
    Failed(UpstreamError),
}

/// What came of the first request.
pub(in crate::upstream) enum First {
    Reply(Box<Outgoing>, Reply),
    Stream(Box<Answers>),
}

impl fmt::Debug for Rounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rounds")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl Rounds {
    pub(in crate::upstream) fn new(
        upstreams: Upstreams,
        target: Arc<Target>,
        first: First,
        deadline: Instant,
        cancel: Cancel,
    ) -> Self {
        let (request, stage) = match first {
            First::Reply(request, reply) => (*request, Stage::Replied(reply)),
            First::Stream(answers) => (answers.request().clone(), Stage::Reading(answers)),
        };
        Self {
            upstreams,
            target,
            request,
            deadline,
            cancel,
            sent_again: 0,
            inputs: Bytes::new(),
            stage,
        }
    }

    /// The next message. Must not be called again after the reply, nor after an error before [`Self::renew`].
    pub(crate) async fn next(&mut self) -> Result<Event, UpstreamError> {
        loop {
            let next = match &mut self.stage {
                Stage::Reading(answers) => match answers.next().await? {
                    Event::Reply(reply) => Stage::Replied(reply),
                    event => return Ok(event),
                },
                Stage::Replied(reply) => {
                    let reply = reply.clone();
                    let length = reply.result().map_or(0, |result| result.len());
                    match off_thread(length, move || judge(reply)).await? {
                        Judged::Complete(reply) => return Ok(Event::Reply(reply)),
                        Judged::Asks(questions) => self.asks(questions)?,
                    }
                }
                Stage::Asking(questions) => {
                    if let Some(question) = questions.next() {
                        return Ok(Event::Request(Asking::of_question(question)));
                    }
                    let inputs = self
                        .cancel
                        .run_until_cancelled(timeout_at(self.deadline, questions.inputs()));
                    match inputs.await.ok_or(UpstreamError::Cancelled)? {
                        Ok(Ok(inputs)) => {
                            self.sent_again += 1;
                            self.inputs = inputs;
                            self.send()
                        }
                        Ok(Err(error)) => return Ok(Event::Reply(Reply::of_error(&error))),
                        Err(_) => {
                            return Err(UpstreamError::Timeout {
                                what: "finish its answer",
                                within: self.upstreams.limits().total,
                            });
                        }
                    }
                }
                Stage::Sending(sending) => match sending.await {
                    Ok(Started::Whole { reply, .. }) => Stage::Replied(reply),
                    Ok(Started::Events(answers)) => Stage::Reading(answers),
                    Err(error) => Stage::Failed(error),
                },
                Stage::Failed(error) => return Err(error.clone()),
            };
            self.stage = next;
        }
    }

    fn asks(&self, questions: Questions) -> Result<Stage, UpstreamError> {
        if self.sent_again == MOST {
            return Err(UpstreamError::invalid(format!(
                "it asks its client more than {MOST} times"
            )));
        }
        if !self.target.speaks_for_client() {
            return Err(UpstreamError::invalid("it asks a client that answers no questions"));
        }
        Ok(Stage::Asking(questions))
    }

    /// Sends the request again that the server has refused, with these headers in place of those of the same names.
    pub(crate) fn renew(&mut self, headers: &HeaderMap) {
        self.target = Arc::new(self.target.with_headers(headers));
        self.stage = self.send();
    }

    fn send(&self) -> Stage {
        let request = self.upstreams.again(&self.request, self.inputs.clone());
        let (upstreams, target, cancel) = (self.upstreams.clone(), Arc::clone(&self.target), self.cancel.clone());
        let deadline = self.deadline;
        Stage::Sending(Box::pin(async move {
            upstreams
                .start(&target, request, Instant::now(), deadline, cancel)
                .await
                .map_err(|error| error.masked(&target))
        }))
    }
}
