//! Accepts connections, and continues after any error.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures::Stream;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{Gate, Guarded, Permit, guarded::LINGER_BYTES};
use crate::{connection::Connection, peer::Peer};

/// How many unsent bytes of a response the kernel buffers (`TCP_NOTSENT_LOWAT`). By default it accepts several MB, and
/// then nothing until a third of that is sent: a slow reader would look like one that reads nothing.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 << 10;

/// The first and the longest delay after a connection could not be accepted.
const WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A refused client gets this long to send its request, and then to read the refusal; the listener waits for at most
/// `REFUSED` such clients at a time.
const REFUSING: Duration = Duration::from_millis(300);
const REFUSED: usize = 128;

/// Accepts the connections of a listener for which the gate has a place.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    gate: Arc<Gate>,
    /// The response to a refused client.
    refusal: &'static [u8],
    refusing: Arc<Semaphore>,
    wait: Duration,
}

impl Acceptor {
    /// `refusal` is written to each client for whom there is no place, whatever the request.
    pub fn new(listener: TcpListener, gate: Arc<Gate>, refusal: &'static [u8]) -> Self {
        Self {
            listener,
            gate,
            refusal,
            refusing: Arc::new(Semaphore::new(REFUSED)),
            wait: WAIT,
        }
    }

    /// Returns the next connection that has a place. Cancel-safe: no connection is lost.
    pub async fn accept(&mut self) -> (TcpStream, SocketAddr, Permit) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    self.wait = WAIT;
                    match self.gate.admit(address.ip()) {
                        Ok(permit) => {
                            if let Err(error) = stream.set_nodelay(true) {
                                tracing::debug!(error = %error, "a connection keeps Nagle's algorithm");
                            }
                            #[cfg(target_os = "linux")]
                            if let Err(error) = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT) {
                                tracing::debug!(error = %error, "a connection keeps much of an answer in the kernel");
                            }
                            return (stream, address, permit);
                        }
                        Err(_) => self.refuse(stream),
                    }
                }
                Err(error) if is_of_one_connection(&error) => {
                    tracing::debug!(error = %error, "a connection was gone before it was accepted");
                }
                Err(error) => {
                    // The process is out of descriptors or memory. The connection stays in the kernel's queue, so an
                    // immediate retry would fail again.
                    tracing::warn!(error = %error, "connections cannot be accepted; trying again");
                    self.gate.make_room();
                    tokio::time::sleep(self.wait).await;
                    self.wait = (self.wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }
}

impl Acceptor {
    fn refuse(&self, stream: TcpStream) {
        if self.refusal.is_empty() {
            return;
        }
        match Arc::clone(&self.refusing).try_acquire_owned() {
            Ok(turn) => drop(tokio::spawn(refuse(stream, self.refusal, turn))),
            // The refusal fits the send buffer or is dropped: the listener does not wait.
            Err(_) => drop(stream.try_write(self.refusal)),
        }
    }
}

/// Refuses a request once it arrives. A client treats an earlier response as a broken connection, and closing a
/// connection with unread bytes resets it, often before the client has read the response.
async fn refuse(mut stream: TcpStream, refusal: &'static [u8], _turn: OwnedSemaphorePermit) {
    // The client gets the refusal even if its request did not arrive in time.
    let _ = timeout(REFUSING, stream.readable()).await;
    if stream.try_write(refusal).is_ok() && stream.shutdown().await.is_ok() {
        let _ = timeout(REFUSING, discard(&stream)).await;
    }
}

/// Reads and discards what a client sends, until the client closes the connection.
async fn discard(stream: &TcpStream) {
    let mut left = LINGER_BYTES;
    let mut buffer = [0; 4 << 10];
    while left > 0 && stream.readable().await.is_ok() {
        match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => left = left.saturating_sub(length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// The guarded connections of a gRPC listener.
pub fn connections(listener: TcpListener, gate: Arc<Gate>) -> impl Stream<Item = io::Result<Connection>> + Send {
    futures::stream::unfold(Acceptor::new(listener, gate, b""), |mut acceptor| async move {
        let (stream, address, permit) = acceptor.accept().await;
        let connection = Connection::guarded(Guarded::new(stream, permit), Peer::External(address));
        Some((Ok(connection), acceptor))
    })
}

/// Whether only one connection failed and the listener still works (accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}
