//! A request over one connection, up to the head of its answer.

use std::{future::poll_fn, io, sync::Arc, task::Poll};

use http::Method;
use service_kit::http1::Malformed;
use tokio::time::Instant;

use super::{
    body::OwnBody,
    connection::{Connection, Message},
    kept::Kept,
};
use crate::upstream::response::Response;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// The connection failed before anything of the request can have reached the server.
    #[error("the connection was closed before the request was sent")]
    Untouched(#[source] io::Error),
    /// The connection failed.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// The answer has not begun in time.
    #[error("the answer did not begin in time")]
    Late,
    /// What came is not an answer.
    #[error(transparent)]
    Malformed(Malformed),
}

/// Sends a request, and waits for the head of its answer until `deadline`, if there is one. Behind the answer, the connection is kept in `home`. If this is dropped, it is closed.
/// The request is taken out of `message`, and put back where nothing of it was sent.
pub(super) async fn exchange(
    mut connection: Box<Connection>,
    home: &Arc<Kept>,
    method: &Method,
    message: &mut Message,
    deadline: Option<Instant>,
) -> Result<Response<OwnBody>, ExchangeError> {
    connection.start(method, std::mem::take(message));
    let read = poll_fn(|cx| {
        connection.send(cx);
        loop {
            if connection.is_gone() {
                *message = connection.take_back();
                let error = connection.ended_early(None);
                return Poll::Ready(Err(ExchangeError::Untouched(error)));
            }
            // What cannot be sent to its end may have been answered before, by a refusal.
            let error = match connection.poll_receive(cx, 0) {
                Poll::Pending => {
                    let Some(deadline) = deadline else { return Poll::Pending };
                    return connection.alarm.poll(cx, deadline).map(|()| Err(ExchangeError::Late));
                }
                Poll::Ready(Ok(true)) => match connection.read_head() {
                    Ok(Some(read)) => return Poll::Ready(Ok(read)),
                    Ok(None) => continue,
                    Err(malformed) => return Poll::Ready(Err(ExchangeError::Malformed(malformed))),
                },
                Poll::Ready(Ok(false)) => None,
                Poll::Ready(Err(error)) => Some(error),
            };
            let error = connection.ended_early(error);
            return Poll::Ready(Err(ExchangeError::Broken(error)));
        }
    });
    let (head, framing, keeps_open) = read.await?;
    let home = keeps_open.then(|| Arc::downgrade(home));
    Ok(Response::new(head, OwnBody::new(connection, framing, home)))
}
