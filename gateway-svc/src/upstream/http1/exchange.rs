//! A request over one connection, up to the head of its answer.

use std::{future::poll_fn, io, sync::Arc, task::Poll};

use bytes::Bytes;
use http::{Method, Response};
use service_kit::http1::{AnswerReader, Malformed};

use super::{body::OwnBody, connection::Connection, kept::Kept};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// The connection failed before anything of the request can have reached the server.
    #[error("the connection was closed before the request was sent")]
    Untouched(#[source] io::Error),
    /// The connection failed.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// What came is not an answer.
    #[error(transparent)]
    Malformed(Malformed),
}

/// Sends a request, and waits for the head of its answer. Behind the answer, the connection is kept in `home`. If this is dropped, it is closed.
pub(super) async fn exchange(
    mut connection: Box<Connection>,
    home: &Arc<Kept>,
    method: &Method,
    head: Bytes,
    body: Bytes,
) -> Result<Response<OwnBody>, ExchangeError> {
    connection.start(head, body);
    let mut reader = AnswerReader::new(method);
    let read = poll_fn(|cx| {
        connection.send(cx);
        loop {
            if connection.is_gone() {
                let error = connection.ended_early(None);
                return Poll::Ready(Err(ExchangeError::Untouched(error)));
            }
            // What cannot be sent to its end may have been answered before, by a refusal.
            let error = match connection.poll_receive(cx, 0) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(true)) => match reader.read(&mut connection.came) {
                    Ok(Some(answer)) => return Poll::Ready(Ok(answer)),
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
    let answer = read.await?;
    let mut response = Response::new(());
    *response.status_mut() = answer.status;
    *response.version_mut() = answer.version;
    *response.headers_mut() = answer.headers;
    let home = answer.keeps_open.then(|| Arc::downgrade(home));
    Ok(response.map(|()| OwnBody::new(connection, answer.framing, home)))
}
