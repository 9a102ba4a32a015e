//! Accepts connections, and goes on whatever happens.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures::Stream;
use tokio::net::{TcpListener, TcpStream};

use super::{Gate, Guarded, Place};
use crate::{peer::Peer, pipe::Connection};

/// How long to wait where a connection cannot be accepted, at first and at most.
const WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Accepts the connections of a listener for which there is a place.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    gate: Arc<Gate>,
    /// Written to whoever is refused.
    refusal: &'static [u8],
    wait: Duration,
}

impl Acceptor {
    /// `refusal` is written, without having read anything, to whoever finds no place.
    pub fn new(listener: TcpListener, gate: Arc<Gate>, refusal: &'static [u8]) -> Self {
        Self {
            listener,
            gate,
            refusal,
            wait: WAIT,
        }
    }

    /// The next connection that has a place. Can be dropped without losing one.
    pub async fn accept(&mut self) -> (TcpStream, SocketAddr, Place) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    self.wait = WAIT;
                    match self.gate.admit(address.ip()) {
                        Ok(place) => {
                            if let Err(error) = stream.set_nodelay(true) {
                                tracing::debug!(error = %error, "a connection keeps Nagle's algorithm");
                            }
                            return (stream, address, place);
                        }
                        // All of it or nothing: nobody is waited for.
                        Err(_) => drop(stream.try_write(self.refusal)),
                    }
                }
                Err(error) if is_of_one_connection(&error) => {
                    tracing::debug!(error = %error, "a connection was gone before it was accepted");
                }
                Err(error) => {
                    // No descriptor, or no memory. The connection waits in the kernel, and accepting would fail again at once.
                    tracing::warn!(error = %error, "connections cannot be accepted; trying again");
                    self.gate.make_room();
                    tokio::time::sleep(self.wait).await;
                    self.wait = (self.wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }
}

/// The guarded connections of strangers, for gRPC.
pub fn connections(listener: TcpListener, gate: Arc<Gate>) -> impl Stream<Item = io::Result<Connection>> + Send {
    futures::stream::unfold(Acceptor::new(listener, gate, b""), |mut acceptor| async move {
        let (stream, address, place) = acceptor.accept().await;
        let connection = Connection::guarded(Guarded::new(stream, place), Peer::External(address));
        Some((Ok(connection), acceptor))
    })
}

/// The listener is as good as before (accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}
