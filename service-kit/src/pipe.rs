//! Connections between services of one process: the same `Channel` type as over TCP, over in-memory pipes.
//!
//! A pipe belongs to one pair of services, and whoever accepts it knows the client: this is the workload identity of one
//! process, and nothing a client sends can forge it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::Stream;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_util::either::Either;
use tonic::transport::{Channel, Endpoint, server::Connected};

use crate::{
    edge::{self, Gate, Guarded, Limits, Phase},
    peer::{Peer, Workload},
};

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

/// Connections of strangers over TCP, within the limits that hold where nobody sets others.
pub fn tcp(listener: TcpListener) -> impl Stream<Item = io::Result<Connection>> + Send {
    edge::connections(listener, Gate::new(Limits::default()))
}

/// An accepted connection that knows its other end.
#[derive(Debug)]
pub struct Connection {
    io: Either<DuplexStream, Guarded<TcpStream>>,
    peer: Peer,
}

impl Connection {
    /// A stranger's.
    pub(crate) fn guarded(connection: Guarded<TcpStream>, peer: Peer) -> Self {
        Self {
            io: Either::Right(connection),
            peer,
        }
    }
}

/// What a request knows of the connection that it came over.
#[derive(Clone, Debug)]
pub struct Link {
    /// Who is at the other end.
    pub(crate) peer: Peer,
    /// What the connection is at, and how long its client may let us wait; `None`: the client is one of us.
    pub(crate) guard: Option<(Arc<Phase>, std::time::Duration)>,
}

impl Connected for Connection {
    type ConnectInfo = Link;

    fn connect_info(&self) -> Link {
        Link {
            peer: self.peer,
            guard: match &self.io {
                Either::Left(_) => None,
                Either::Right(guarded) => Some((Arc::clone(guarded.phase()), guarded.patience())),
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
