//! Serves HTTP. Each connection stays on one of several single-threaded runtimes.
//!
//! A tool call waits for two sockets in turn, its client's and its upstream's. On a work-stealing runtime, like that of
//! the rest of the process, one thread wakes another for every response, which costs more than everything else the
//! gateway does for a call: with all connections on that runtime, 64 callers got 11 % fewer responses a second on a busy machine (as
//! many on a quiet one), and the median of what the gateway adds was 20 % longer (`just bench` on two cores, 20 rounds each).

mod answering;
mod lane;
mod lanes;
mod load;
mod over_hyper;
mod over_own;
mod stop;
#[cfg(test)]
mod tests;
mod tls;

use std::{io, sync::Arc, thread};

use axum::Router;
use rustls::ServerConfig;
use service_kit::{
    Hosts,
    app::Direct,
    edge::{Acceptor, Gate},
    http1::HttpPath,
};
use tokio::net::TcpListener;

pub(crate) use self::stop::Stop;
use self::{
    lane::{Accepted, lane},
    lanes::Lanes,
    tls::Tls,
};

/// The response to a connection for which there is no place.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-type: text/plain\r\nx-content-type-options: nosniff\r\ncontent-length: 28\r\n\r\ntoo many connections; retry\n";

/// What the listener serves.
#[derive(Clone)]
pub(crate) struct Site {
    /// All routes.
    pub(crate) router: Router,
    /// What most requests go to, without the router.
    pub(crate) direct: Arc<[Direct]>,
    /// The hosts for which requests are accepted.
    pub(crate) hosts: Arc<Hosts>,
    /// Whether browsers use https.
    pub(crate) https: bool,
    /// What serves the direct requests.
    pub(crate) http_path: HttpPath,
}

/// Serves `site` on `listener`, over TLS if that is configured, until `stop` has begun, and then the requests in progress.
pub(crate) async fn serve(
    listener: TcpListener,
    gate: Arc<Gate>,
    site: Site,
    tls: Option<Arc<ServerConfig>>,
    stop: Stop,
) -> io::Result<()> {
    // A client that expects TLS cannot read it.
    let refusal = if tls.is_some() { &[] } else { REFUSAL };
    let tls = tls.map(Tls::new);
    let lanes = thread::available_parallelism().map_or(1, usize::from);
    let (lanes, ends): (Vec<_>, Vec<_>) = (0..lanes)
        .map(|_| lane(site.clone(), tls.clone(), gate.limits().client_timeout, stop.clone()))
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .unzip();
    let mut lanes = Lanes::new(lanes, gate.limits());
    let mut acceptor = Acceptor::new(listener, gate, refusal);
    loop {
        let (connection, peer, permit) = tokio::select! {
            accepted = acceptor.accept() => accepted,
            () = stop.begun.cancelled() => break,
        };
        let connection = match connection.into_std() {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!(error = %error, "a connection was gone before it was served");
                continue;
            }
        };
        let accepted = Accepted {
            connection,
            peer,
            permit,
        };
        let lane = lanes
            .next()
            .ok_or_else(|| io::Error::other("no thread serves connections"))?;
        // If the queues of all are full, nothing more is accepted.
        tokio::select! {
            given = lane.give(accepted) => given?,
            () = stop.begun.cancelled() => break,
        }
    }
    drop((acceptor, lanes));
    for end in ends {
        end.await
            .map_err(|_| io::Error::other("a thread that serves connections has failed"))?;
    }
    Ok(())
}
