//! A stream that ends before the reply, and goes on in another (MCP 2025-11-25, Streamable HTTP, "Resumability and Redelivery").

use std::time::Duration;

use http::HeaderValue;
use tokio::time::{Instant, sleep_until};

use super::{Answers, unless_cancelled};
use crate::upstream::{client::Era, error::UpstreamError, post::Begun};

/// Before a stream is resumed whose server does not say when.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, whatever the server says.
const LONGEST: Duration = Duration::from_secs(60);
/// So many attempts in a row may bring no event.
const FRUITLESS: u32 = 3;

/// The attempts so far.
#[derive(Debug, Default)]
pub(super) struct Resumed {
    /// The event behind which the last one began.
    behind: Option<HeaderValue>,
    fruitless: u32,
}

impl Answers {
    /// Opens the stream anew, behind the last event that came. False: the server does not number its events, or does not go on.
    pub(super) async fn resume(&mut self) -> Result<bool, UpstreamError> {
        // Where it has no sessions, closing a stream ends the call.
        if self.session.era == Era::Modern {
            return Ok(false);
        }
        self.room = None;
        self.events.restart();
        // What is between the streams is no message.
        self.begun = true;
        while let Some(last) = self.events.mark().last() {
            let same = self.resumed.behind.as_ref() == Some(&last);
            self.resumed.fruitless = if same { self.resumed.fruitless + 1 } else { 0 };
            if self.resumed.fruitless == FRUITLESS {
                break;
            }
            self.resumed.behind = Some(last.clone());
            self.pause().await?;
            let upstreams = &self.pending.upstreams;
            let opened = async {
                let response = upstreams
                    .open_stream(&self.pending.target, &self.session, Some(last))
                    .await?;
                upstreams
                    .begin(&self.pending.target, response, Some(&self.session))
                    .await
            };
            let opened = unless_cancelled(&self.cancel, opened).await;
            match opened {
                Ok(Begun::Events(body)) => {
                    self.body = Some(body);
                    return Ok(true);
                }
                Err(UpstreamError::Unreachable(_)) => {}
                Err(UpstreamError::Cancelled) => {
                    return self.tell_if_cancelled(Err(UpstreamError::Cancelled));
                }
                // Not even a refused credential: the call has been sent, and is not sent again.
                Ok(_) | Err(_) => break,
            }
        }
        Ok(false)
    }

    /// As long as the server wishes.
    async fn pause(&mut self) -> Result<(), UpstreamError> {
        let limits = self.pending.upstreams.limits();
        let wished = self.events.mark().retry().unwrap_or(PAUSE);
        let until = Instant::now() + wished.clamp(limits.reconnect, LONGEST.max(limits.reconnect));
        if until >= self.deadline {
            return Err(UpstreamError::Timeout {
                what: "finish its answer",
                within: limits.total,
            });
        }
        let waited = async {
            sleep_until(until).await;
            Ok(())
        };
        let waited = unless_cancelled(&self.cancel, waited).await;
        self.tell_if_cancelled(waited)
    }
}
