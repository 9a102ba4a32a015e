//! Connections between the services of one process: the same `Channel` type as over TCP, over in-memory pipes.
//!
//! A pipe belongs to one pair of services, so the accepting service knows its client. That is the workload identity
//! within a process, and no message can forge it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::Stream;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::mpsc};
use tonic::transport::{Channel, Endpoint};

use crate::{
    connection::Connection,
    edge::{self, Gate, Limits},
    peer::Workload,
};

const BUFFER: usize = 256 * 1024;

/// Makes the pipe through which `client` calls one service. Returns the client's channel and the service's listener.
///
/// The channel connects at the first call, and reconnects after a connection has ended.
pub fn pipe(client: Workload) -> (Channel, PipeListener) {
    let (sender, receiver) = mpsc::channel(8);
    let connector = tower::service_fn(move |_: http::Uri| {
        let sender = sender.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(BUFFER);
            sender
                .send(Connection::of_workload(theirs, client))
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

/// Accepts TCP connections of clients, with the default limits.
pub fn tcp(listener: TcpListener) -> impl Stream<Item = io::Result<Connection>> + Send {
    edge::connections(listener, Gate::new(Limits::default()))
}
