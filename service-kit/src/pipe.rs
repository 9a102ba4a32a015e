//! Connections between services of one process: the same `Channel` type as over TCP, over in-memory pipes.
//!
//! A pipe belongs to one pair of services, and whoever accepts it knows the client: this is the workload identity of one
//! process, and nothing a client sends can forge it.

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

/// Connections of strangers over TCP, within the limits that hold where nobody sets others.
pub fn tcp(listener: TcpListener) -> impl Stream<Item = io::Result<Connection>> + Send {
    edge::connections(listener, Gate::new(Limits::default()))
}
