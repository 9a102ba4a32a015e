//! A thread that serves connections.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, thread, time::Duration};

use service_kit::{
    Peer,
    edge::{Guarded, KeepOpen, Permit},
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use super::{Site, answering::Answering, over_hyper, stop::Stop};

/// Connections that wait for a thread. The kernel keeps further ones in its backlog.
const QUEUE: usize = 64;

/// A connection that was accepted on another thread.
pub(super) struct Accepted {
    pub(super) connection: std::net::TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) permit: Permit,
}

type Lane = (mpsc::Sender<Accepted>, oneshot::Receiver<()>);

/// Starts a thread that serves the connections sent to it, and returns a receiver that resolves when it has ended.
pub(super) fn lane(site: Site, client_timeout: Duration, stop: Stop) -> io::Result<Lane> {
    let (give, mut connections) = mpsc::channel::<Accepted>(QUEUE);
    let (end, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("http".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let builder = over_hyper::builder();
            // Each connection holds a sender; the channel closes when all connections have ended.
            let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
            while let Some(accepted) = connections.recv().await {
                let Accepted {
                    connection,
                    peer,
                    permit,
                } = accepted;
                let Ok(connection) = TcpStream::from_std(connection) else {
                    continue;
                };
                let answering = Answering {
                    site: site.clone(),
                    peer: Peer::External(peer),
                    phase: Arc::clone(permit.phase()),
                    keep_open: KeepOpen::new(),
                    client_timeout,
                };
                let guarded = Guarded::new(connection, permit);
                let served = over_hyper::serve(builder.clone(), guarded, answering, stop.clone());
                let open = open.clone();
                tokio::spawn(async move {
                    served.await;
                    drop(open);
                });
            }
            drop(open);
            // Each ends in time by itself.
            let _ = all_closed.recv().await;
        });
        // If the receiver is gone, the process is ending.
        let _ = end.send(());
    })?;
    Ok((give, ended))
}
