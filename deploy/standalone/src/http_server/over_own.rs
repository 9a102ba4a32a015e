//! Serves the requests that most are over HTTP/1.1 of our own; a connection with another request goes to hyper, and stays there.

mod client;
mod exchange;
mod incoming;
mod rewound;
#[cfg(test)]
mod tests;

use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::Arc,
    task::{Poll, Waker},
};

use http::request::Parts;
use hyper_util::{rt::TokioExecutor, server::conn::auto};
use service_kit::{
    app::{Direct, Endpoint},
    http1::{Malformed, RequestHead, RequestReader},
};
use tokio::io::{AsyncRead, AsyncWrite};

use self::{client::Client, rewound::Rewound};
use super::{answering::Answering, over_hyper, stop::LaneStop};

/// Serves a connection until it ends.
pub(super) async fn serve<I>(builder: auto::Builder<TokioExecutor>, io: I, answering: Answering, stop: LaneStop)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let own = async {
        let served = Serving {
            client: Client::new(io),
            reader: RequestReader::default(),
            last: None,
            answering: &answering,
            stop: &stop,
        };
        served.run().await
    };
    let left = {
        let mut own = Box::pin(own);
        let cut_off = async {
            stop.begins().await;
            stop.cuts_off(&answering.keep_open).await;
        };
        let (mut cut_off, mut waits) = (pin!(cut_off), None::<Waker>);
        let left = poll_fn(|cx| {
            if let Poll::Ready(left) = own.as_mut().poll(cx) {
                return Poll::Ready(Some(left));
            }
            // As long as the stop has not begun, it is enough that it can wake this task.
            if !stop.has_begun() && waits.as_ref().is_some_and(|waits| waits.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            waits = Some(cx.waker().clone());
            cut_off.as_mut().poll(cx).map(|()| None)
        });
        match left.await {
            Some(left) => left,
            None => return,
        }
    };
    match left {
        Ok(Some(rest)) => Box::pin(over_hyper::serve(builder, rest, answering, stop)).await,
        Ok(None) => {}
        Err(error) => tracing::debug!(error = %error, "a connection has failed"),
    }
}

/// A connection that is served.
struct Serving<'a, I> {
    client: Client<I>,
    reader: RequestReader,
    /// The last head, if it may come again, and what answers requests with it.
    last: Option<(Arc<Parts>, Arc<dyn Endpoint>)>,
    answering: &'a Answering,
    stop: &'a LaneStop,
}

/// What a client has begun to send.
enum Begun {
    /// One of the requests that most are.
    Direct,
    Other,
    /// It has closed the connection, or has sent nothing when the server stops.
    Nothing,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Serving<'_, I> {
    /// Returns the connection where another request than most comes.
    async fn run(mut self) -> io::Result<Option<Rewound<I>>> {
        loop {
            match self.begun().await? {
                Begun::Direct => {}
                Begun::Other => {
                    let (read, io) = self.client.into_parts();
                    return Ok(Some(Rewound::new(read, io)));
                }
                Begun::Nothing => break,
            }
            let Some(head) = self.head().await? else {
                break;
            };
            let stays = match head {
                Ok(head) => self.exchange(head).await?,
                Err(malformed) => self.refuse(malformed).await?,
            };
            if !stays {
                break;
            }
            self.client.rest();
        }
        poll_fn(|cx| self.client.poll_close(cx)).await?;
        Ok(None)
    }

    /// Which request begins: its first bytes say so.
    async fn begun(&mut self) -> io::Result<Begun> {
        poll_fn(|cx| {
            loop {
                match begins(&self.answering.site.direct, &self.client.came) {
                    Some(true) => return Poll::Ready(Ok(Begun::Direct)),
                    Some(false) => return Poll::Ready(Ok(Begun::Other)),
                    None => {}
                }
                match self.client.poll_receive(cx, 0)? {
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => return Poll::Ready(Ok(Begun::Nothing)),
                    // The task is woken when the server begins to stop.
                    Poll::Pending if self.client.came.is_empty() && self.stop.has_begun() => {
                        return Poll::Ready(Ok(Begun::Nothing));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Reads the head of a request; `None` where the client closes the connection before its end.
    async fn head(&mut self) -> io::Result<Option<Result<RequestHead, Malformed>>> {
        poll_fn(|cx| {
            loop {
                match self.reader.read(&mut self.client.came) {
                    Ok(Some(head)) => return Poll::Ready(Ok(Some(Ok(head)))),
                    Ok(None) => {}
                    Err(malformed) => return Poll::Ready(Ok(Some(Err(malformed)))),
                }
                match self.client.poll_receive(cx, 0)? {
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => return Poll::Ready(Ok(None)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }
}

/// Whether these bytes begin a request that is answered without the router; `None`: they are too few to say.
fn begins(direct: &[Direct], came: &[u8]) -> Option<bool> {
    let mut may = false;
    for begin in direct.iter().flat_map(|direct| direct.begins) {
        if begin.bytes().zip(came).all(|(one, other)| one == *other) {
            if came.len() >= begin.len() {
                return Some(true);
            }
            may = true;
        }
    }
    if may { None } else { Some(false) }
}
