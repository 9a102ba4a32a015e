//! Batches of messages (2025-03-26).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream};
use http::StatusCode;
use service_kit::{json_answer::json_response, quota::until_sent, turns::in_place};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    pieces::{self, Pieces},
    refusal::{plain, too_many},
    rpc::{INTERNAL_ERROR, INVALID_REQUEST, Kind, Message, PARSE_ERROR, RpcError},
    session::Session,
    visit::Visit,
};
use crate::{
    json::{self, JsonError},
    upstream::{Revision, Together},
};

/// The longest batch that is accepted, and how many of its requests are answered at a time.
pub const MAX_BATCH: usize = 50;
const BATCH_CONCURRENCY: usize = 8;
/// All answers to a batch (bytes).
const MAX_BATCH_ANSWERS: usize = Together::MOST;

/// The answers to a batch that are kept until all have arrived.
#[derive(Default)]
struct BatchAnswers {
    size: AtomicUsize,
    together: Arc<Together>,
}

impl Visit {
    /// Answers a batch with one JSON array. `own_turn` is the turn in which it is parsed.
    pub(super) async fn batch(&self, text: &str, own_turn: Option<OwnedSemaphorePermit>) -> Response {
        let session = &match self.session(None) {
            Ok(session) => session,
            Err(response) => return *response,
        };
        if session.revision != Revision::V2025_03_26 {
            return plain(
                StatusCode::BAD_REQUEST,
                INVALID_REQUEST,
                "the protocol version of this session does not support batches",
            );
        }
        let elements = match in_place(text.len(), || json::elements(text, MAX_BATCH)).await {
            Ok(elements) if !elements.is_empty() => elements,
            Ok(_) | Err(JsonError::TooLong(_)) => {
                let why = format!("a batch must have 1 to {MAX_BATCH} messages");
                return plain(StatusCode::BAD_REQUEST, INVALID_REQUEST, &why);
            }
            Err(error) => return plain(StatusCode::BAD_REQUEST, PARSE_ERROR, &error.to_string()),
        };
        drop(own_turn);
        // The first has been counted.
        let further = elements.len() - 1;
        if let Err(exceeded) = self.at.mcp.quotas.requests(&self.who.identified.charged_to, further) {
            return too_many(&exceeded, None);
        }
        let mut answers: Vec<Option<Pieces>> = vec![None; elements.len()];
        let mut requests = Vec::with_capacity(elements.len());
        for (index, element) in elements.into_iter().enumerate() {
            let _turn = self.turn(element.as_bytes()).await;
            match in_place(element.len(), || Message::parse(element)).await {
                Ok(message) if matches!(message.kind, Kind::Request { .. }) => requests.push((index, message)),
                // At once, and not counted: a caller with the maximum of calls in progress can still cancel them, and those of this batch.
                Ok(message) => drop(self.answer(session, &message, None).await),
                Err(malformed) => answers[index] = Some(pieces::whole(malformed.error.under(malformed.id))),
            }
        }
        let mut in_flight = Vec::new();
        if !requests.is_empty() {
            let at_a_time = BATCH_CONCURRENCY.min(requests.len());
            in_flight = match self.at.mcp.quotas.calls(&self.who.identified.subject, at_a_time) {
                Ok(in_flight) => in_flight,
                Err(exceeded) => return too_many(&exceeded, None),
            };
            let kept = BatchAnswers::default();
            let mut asked: Vec<BoxFuture<'_, (usize, Option<Pieces>)>> = Vec::with_capacity(requests.len());
            for (index, request) in requests {
                let kept = &kept;
                asked.push(Box::pin(
                    async move { (index, self.element(session, request, kept).await) },
                ));
            }
            let mut asked = stream::iter(asked).buffer_unordered(in_flight.len());
            while let Some((index, answer)) = asked.next().await {
                answers[index] = answer;
            }
        }
        let mut pieces = Vec::new();
        for answer in answers.into_iter().flatten() {
            pieces.push(Bytes::from_static(if pieces.is_empty() { b"[" } else { b"," }));
            pieces.extend(answer);
        }
        if pieces.is_empty() {
            return StatusCode::ACCEPTED.into_response();
        }
        pieces.push(Bytes::from_static(b"]"));
        until_sent(in_flight, json_response(pieces))
    }

    /// Answers one request of a batch.
    async fn element(&self, session: &Session, request: Message<'_>, kept: &BatchAnswers) -> Option<Pieces> {
        let answer = self.answer(session, &request, Some(&kept.together)).await;
        let answer = answer.into_message().await?;
        let length: usize = answer.iter().map(Bytes::len).sum();
        if fits(&kept.size, length) {
            return Some(answer);
        }
        let Kind::Request { id, .. } = request.kind else {
            return None;
        };
        let why =
            format!("the answers to this batch exceed {MAX_BATCH_ANSWERS} bytes together: send this request alone");
        Some(pieces::whole(RpcError::new(INTERNAL_ERROR, why).under(Some(id))))
    }
}

/// Adds the length of an answer to its batch's, if the limit allows it.
fn fits(size: &AtomicUsize, length: usize) -> bool {
    let with = |size: usize| size.checked_add(length).filter(|size| *size <= MAX_BATCH_ANSWERS);
    size.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_does_not_fit_takes_no_room() {
        let size = AtomicUsize::new(0);
        let (large, small) = (MAX_BATCH_ANSWERS / 2 - 10, 10);
        let fit = [large, large, large, small, small, small].map(|length| fits(&size, length));
        assert_eq!(fit, [true, true, false, true, true, false]);
        assert!(!fits(&size, usize::MAX));
    }
}
