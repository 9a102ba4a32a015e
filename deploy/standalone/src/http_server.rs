//! Serves HTTP, each connection on one of some threads, and only on that.
//!
//! A call waits for two sockets in turn, its client's and its upstream's. Where threads share their work, as those of the rest of
//! the process do, one wakes the other for every answer; that costs more than all else the gateway does for a call.

use std::{io, thread, time::Duration};

use axum::{
    Router,
    serve::{Listener, ListenerExt as _},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

/// How long open requests may go on once the server stops; event streams are cut then.
const DRAIN: Duration = Duration::from_secs(3);

/// Serves `router` on `listener` until `stop` is cancelled.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    let address = listener.local_addr()?;
    let mut listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(error = %error, "a connection keeps Nagle's algorithm");
        }
    });
    let lanes = thread::available_parallelism().map_or(1, usize::from);
    let (mut lanes, ends): (Vec<_>, Vec<_>) = (0..lanes)
        .map(|_| lane(router.clone(), address, stop.clone()))
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .unzip();
    loop {
        let (connection, _) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            () = stop.cancelled() => break,
        };
        // The next has the next turn.
        lanes.rotate_left(1);
        if lanes[0].send(connection.into_std()?).is_err() {
            return Err(io::Error::other("a thread that serves connections has ended"));
        }
    }
    for end in ends {
        end.await
            .map_err(|_| io::Error::other("a thread that serves connections has failed"))??;
    }
    Ok(())
}

type Lane = (
    mpsc::UnboundedSender<std::net::TcpStream>,
    oneshot::Receiver<io::Result<()>>,
);

/// Starts a thread that serves the connections it is given, and tells how it ended.
fn lane(router: Router, address: std::net::SocketAddr, stop: CancellationToken) -> io::Result<Lane> {
    let (give, connections) = mpsc::unbounded_channel();
    let (end, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = Handed { connections, address };
    thread::Builder::new().name("http".to_owned()).spawn(move || {
        let served = runtime.block_on(async {
            let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
            tokio::select! {
                served = serving => served,
                () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => Ok(()),
            }
        });
        // Nobody waits any more: the process ends.
        let _ = end.send(served);
    })?;
    Ok((give, ended))
}

/// Connections that were accepted on another thread.
struct Handed {
    connections: mpsc::UnboundedReceiver<std::net::TcpStream>,
    address: std::net::SocketAddr,
}

impl Listener for Handed {
    type Io = TcpStream;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (TcpStream, Self::Addr) {
        loop {
            let Some(connection) = self.connections.recv().await else {
                // None will come; the stop is what ends the server.
                return std::future::pending().await;
            };
            let peer = connection.peer_addr();
            match peer.and_then(|peer| Ok((TcpStream::from_std(connection)?, peer))) {
                Ok(accepted) => return accepted,
                Err(error) => tracing::debug!(error = %error, "a connection was gone before it was served"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}
