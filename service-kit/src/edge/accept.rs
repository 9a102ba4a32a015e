//! Accepts connections, and goes on whatever happens.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures::Stream;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{Gate, Guarded, Place, guarded::LINGER_BYTES};
use crate::{connection::Connection, peer::Peer};

/// How much of an answer the kernel takes before its client does. By itself it takes some MB, and then nothing until a third of that is gone:
/// who takes it slowly would seem to take nothing.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 << 10;

/// How long to wait where a connection cannot be accepted, at first and at most.
const WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long the request of whoever is refused may take to come, and then to be forgotten; and of how many at a time that is awaited.
const REFUSING: Duration = Duration::from_millis(300);
const REFUSED: usize = 128;

/// Accepts the connections of a listener for which there is a place.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    gate: Arc<Gate>,
    /// Written to whoever is refused.
    refusal: &'static [u8],
    refusing: Arc<Semaphore>,
    wait: Duration,
}

impl Acceptor {
    /// `refusal` is written to whoever finds no place, whatever they ask for.
    pub fn new(listener: TcpListener, gate: Arc<Gate>, refusal: &'static [u8]) -> Self {
        Self {
            listener,
            gate,
            refusal,
            refusing: Arc::new(Semaphore::new(REFUSED)),
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
                            #[cfg(target_os = "linux")]
                            if let Err(error) = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT) {
                                tracing::debug!(error = %error, "a connection keeps much of an answer in the kernel");
                            }
                            return (stream, address, place);
                        }
                        Err(_) => self.refuse(stream),
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

impl Acceptor {
    fn refuse(&self, stream: TcpStream) {
        if self.refusal.is_empty() {
            return;
        }
        match Arc::clone(&self.refusing).try_acquire_owned() {
            Ok(turn) => drop(tokio::spawn(refuse(stream, self.refusal, turn))),
            // All of it or nothing: nobody is waited for.
            Err(_) => drop(stream.try_write(self.refusal)),
        }
    }
}

/// Refuses a request when it comes: a client takes an answer that comes earlier for a broken connection, and a connection that is closed with
/// something unread is reset, often before the answer was read.
async fn refuse(mut stream: TcpStream, refusal: &'static [u8], _turn: OwnedSemaphorePermit) {
    // Whether it has come or not, it is answered.
    let _ = timeout(REFUSING, stream.readable()).await;
    if stream.try_write(refusal).is_ok() && stream.shutdown().await.is_ok() {
        let _ = timeout(REFUSING, forget(&stream)).await;
    }
}

/// Reads what a client sends until it ends the connection, and forgets it.
async fn forget(stream: &TcpStream) {
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
