//! An accepted connection: from a client over TCP, or from another service over an in-memory pipe.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::TcpStream,
};
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use crate::{
    edge::{Guarded, Phase},
    peer::{Peer, Workload},
};

/// An accepted connection that knows its peer.
#[derive(Debug)]
pub struct Connection {
    io: Either<DuplexStream, Guarded<TcpStream>>,
    peer: Peer,
}

impl Connection {
    /// A connection from a service, over a pipe.
    pub(crate) fn of_workload(pipe: DuplexStream, workload: Workload) -> Self {
        Self {
            io: Either::Left(pipe),
            peer: Peer::Workload(workload),
        }
    }

    /// A connection from a client, over TCP.
    pub(crate) fn guarded(connection: Guarded<TcpStream>, peer: Peer) -> Self {
        Self {
            io: Either::Right(connection),
            peer,
        }
    }
}

/// What a request knows about its connection.
#[derive(Clone, Debug)]
pub struct Link {
    pub(crate) peer: Peer,
    /// The state of the connection, and how long its client may stall. `None` for a connection from another service.
    pub(crate) guard: Option<(Arc<Phase>, Duration)>,
}

impl Connected for Connection {
    type ConnectInfo = Link;

    fn connect_info(&self) -> Link {
        Link {
            peer: self.peer,
            guard: match &self.io {
                Either::Left(_) => None,
                Either::Right(guarded) => Some((Arc::clone(guarded.phase()), guarded.client_timeout())),
            },
        }
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

    // Without these two methods, a message of 55 kB is sent in nine writes, each of which wakes the reader.
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
