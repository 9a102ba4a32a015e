//! A thread that serves connections.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, thread, time::Duration};

use futures::future::BoxFuture;
use hyper_util::{rt::TokioExecutor, server::conn::auto};
use service_kit::{
    Peer,
    edge::{Guarded, KeepOpen, Permit},
    http1::HttpPath,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use super::{
    Site,
    answering::{Answering, json_head},
    load::{Counted, Load},
    over_hyper, over_own,
    stop::{LaneStop, Stop},
    tls::Tls,
};

/// Connections that wait for a thread. The kernel keeps further ones in its backlog.
const QUEUE: usize = 64;

/// A connection that was accepted on another thread.
pub(super) struct Accepted {
    pub(super) connection: std::net::TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) permit: Permit,
}

/// A thread that serves the connections given to it, until this is dropped and they have ended.
pub(super) struct Lane {
    give: mpsc::Sender<(Accepted, Counted)>,
    load: Arc<Load>,
}

impl Lane {
    pub(super) fn load(&self) -> &Load {
        &self.load
    }

    /// Whether it takes a connection at once.
    pub(super) fn has_room(&self) -> bool {
        self.give.capacity() > 0
    }

    /// Gives it a connection.
    ///
    /// # Errors
    /// If the thread has ended.
    pub(super) async fn give(&self, accepted: Accepted) -> io::Result<()> {
        let given = self.give.send((accepted, self.load.connection()));
        let gone = |_| io::Error::other("a thread that serves connections has ended");
        given.await.map_err(gone)
    }
}

/// Starts a lane, and returns a receiver that resolves when its thread has ended.
pub(super) fn lane(
    site: Site,
    tls: Option<Tls>,
    client_timeout: Duration,
    stop: Stop,
) -> io::Result<(Lane, oneshot::Receiver<()>)> {
    let (give, mut connections) = mpsc::channel::<(Accepted, Counted)>(QUEUE);
    let (end, ended) = oneshot::channel();
    let load = Arc::<Load>::default();
    let lane = Lane {
        give,
        load: Arc::clone(&load),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("http".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let (builder, stop) = (over_hyper::builder(), stop.of_lane());
            let json = json_head(site.https);
            // Each connection holds a sender; the channel closes when all connections have ended.
            let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
            while let Some((accepted, counted)) = connections.recv().await {
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
                    load: Arc::clone(&load),
                    json: json.clone(),
                };
                let guarded = Guarded::new(connection, permit);
                let (builder, stop, open) = (builder.clone(), stop.clone(), (counted, open.clone()));
                let path = site.http_path;
                // Two tasks, since that of a connection without TLS is the smaller one.
                let Some(tls) = tls.clone() else {
                    let served = serve(path, builder, guarded, answering, stop);
                    tokio::spawn(async move {
                        served.await;
                        drop(open);
                    });
                    continue;
                };
                tokio::spawn(async move {
                    // Nobody waits for what begins when the server stops.
                    let stream = stop.until_begun(tls.begin(guarded)).await.flatten();
                    if let Some(stream) = stream {
                        serve(path, builder, stream, answering, stop).await;
                    }
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
    Ok((lane, ended))
}

/// Serves a connection until it ends. On the heap: a task has room for all that it has ever been.
fn serve<I>(
    path: HttpPath,
    builder: auto::Builder<TokioExecutor>,
    io: I,
    answering: Answering,
    stop: LaneStop,
) -> BoxFuture<'static, ()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match path {
        HttpPath::Own => Box::pin(over_own::serve(builder, io, answering, stop)),
        HttpPath::Hyper => Box::pin(over_hyper::serve(builder, io, answering, stop)),
    }
}
