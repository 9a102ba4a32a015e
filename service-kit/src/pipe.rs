//! Connections between services of one process: the same `Channel` type as over TCP, over in-memory pipes.
//!
//! A pipe belongs to one pair of services, and whoever accepts it knows the client: this is the workload identity of one
//! process, and nothing a client sends can forge it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt as _};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_util::either::Either;
use tonic::transport::{Channel, Endpoint, server::Connected};

use crate::peer::{Peer, Workload};

const BUFFER: usize = 256 * 1024;

/// Makes the pipe through which `client` calls one service: its end, and what that service accepts connections from.
///
/// The channel connects when first used, and again whenever the connection ends.
pub fn pipe(client: Workload) -> (Channel, PipeListener) {
    let (sender, receiver) = mpsc::channel(8);
    let connector = tower::service_fn(move |_: http::Uri| {
        let sender = sender.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(BUFFER);
            sender
                .send(Connection {
                    io: Either::Left(theirs),
                    peer: Peer::Workload(client),
                })
                .await
                .map_err(|_| io::Error::new(io::ErrorKind::ConnectionRefused, "the service has stopped"))?;
            Ok::<_, io::Error>(TokioIo::new(ours))
        }
    });
    let channel = Endpoint::from_static("http://pipe.invalid").connect_with_connector_lazy(connector);
    (channel, PipeListener { receiver })
}

/// The accepting end of a pipe.
#[derive(Debug)]
pub struct PipeListener {
    receiver: mpsc::Receiver<Connection>,
}

impl Stream for PipeListener {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx).map(|next| next.map(Ok))
    }
}

/// Connections of strangers over TCP.
pub fn tcp(listener: TcpListener) -> impl Stream<Item = io::Result<Connection>> + Send {
    futures::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.and_then(|(stream, address)| {
            stream.set_nodelay(true)?;
            Ok(Connection {
                io: Either::Right(stream),
                peer: Peer::External(address),
            })
        });
        Some((accepted, listener))
    })
    // An accept that fails (a client gone, no descriptor left) is no reason to stop listening.
    .filter_map(|accepted| async move {
        match accepted {
            Ok(connection) => Some(Ok(connection)),
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                None
            }
        }
    })
}

/// An accepted connection that knows its other end.
#[derive(Debug)]
pub struct Connection {
    io: Either<DuplexStream, TcpStream>,
    peer: Peer,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    // Without these, a message of 55 kB is sent in nine writes, each of which wakes its reader.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
