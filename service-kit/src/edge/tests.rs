//! Each attack on a listener, against the part that withstands it. Times are short ones; nothing is measured.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use http_body::{Body as _, Frame};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    time::{sleep, timeout},
};

use super::{Gate, Guarded, Limits, Served, TooSlow, gate::Refused, request_body};

const SHORT: Duration = Duration::from_millis(60);
const LONG: Duration = Duration::from_secs(600);

fn gate(connections: usize, per_address: usize) -> Arc<Gate> {
    with(connections, per_address, LONG, LONG)
}

fn with(connections: usize, per_address: usize, patience: Duration, idle: Duration) -> Arc<Gate> {
    Gate::new(Limits {
        connections,
        per_address,
        patience,
        idle,
        ..Limits::default()
    })
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

/// A connection's two ends.
fn guarded(gate: &Arc<Gate>) -> (DuplexStream, Guarded<DuplexStream>) {
    let (client, server) = tokio::io::duplex(1024);
    (client, Guarded::new(server, gate.admit(address(1)).unwrap()))
}

/// Reads to the end, as a server does.
async fn ends(connection: &mut Guarded<DuplexStream>) {
    let mut buffer = [0; 256];
    let end = async { while connection.read(&mut buffer).await.unwrap() > 0 {} };
    timeout(Duration::from_secs(20), end).await.expect("it should end");
}

#[test]
fn counts_connections_of_one_address() {
    let gate = gate(100, 2);
    let first = gate.admit(address(1)).unwrap();
    let _second = gate.admit(address(1)).unwrap();
    assert_eq!(gate.admit(address(1)).err(), Some(Refused::Address));
    assert!(gate.admit(address(2)).is_ok());
    drop(first);
    assert!(gate.admit(address(1)).is_ok());
    // One network of IPv6 is one address, and an IPv4 address is the same in both ways to write it.
    let v6 = |text: &str| gate.admit(text.parse().unwrap());
    let _kept = (v6("2001:db8::1").unwrap(), v6("2001:db8::2").unwrap());
    assert_eq!(v6("2001:db8::3").err(), Some(Refused::Address));
    assert!(v6("2001:db8:0:1::1").is_ok());
    let _kept = (gate.admit(address(9)).unwrap(), v6("::ffff:192.0.2.9").unwrap());
    assert_eq!(gate.admit(address(9)).err(), Some(Refused::Address));
    // Many people come from a proxy.
    let _many: Vec<_> = (0..5).map(|_| v6("127.0.0.1").unwrap()).collect();
    drop(_many);
}

#[tokio::test]
async fn whoever_is_quiet_gives_up_their_place() {
    let gate = gate(3, 100);
    let busy = gate.admit(address(1)).unwrap();
    let _request = Served::begin(Arc::clone(busy.phase()));
    let quiet = gate.admit(address(1)).unwrap();
    sleep(Duration::from_millis(1100)).await;
    let young = gate.admit(address(1)).unwrap();
    let newcomer = gate.admit(address(2)).unwrap();
    assert!(!newcomer.phase().is_spare());
    assert!(quiet.phase().is_evicted());
    assert!(!busy.phase().is_evicted() && !young.phase().is_evicted());
    drop(quiet);
    assert_eq!(gate.taken(), 3);
}

#[test]
fn where_nobody_is_quiet_places_are_left_for_health() {
    let gate = gate(2, 1000);
    let busy: Vec<_> = (0..2).map(|_| gate.admit(address(1)).unwrap()).collect();
    let _requests: Vec<_> = busy
        .iter()
        .map(|place| Served::begin(Arc::clone(place.phase())))
        .collect();
    let spare: Vec<_> = (0..64).map(|_| gate.admit(address(2)).unwrap()).collect();
    assert!(spare.iter().all(|place| place.phase().is_spare()));
    assert_eq!(gate.admit(address(3)).err(), Some(Refused::Full));
    drop(spare);
    drop(busy);
    assert_eq!(gate.taken(), 0);
    assert!(!gate.admit(address(3)).unwrap().phase().is_spare());
}

/// Those who are quiet on the places for health make no room for others.
#[tokio::test]
async fn places_for_health_stay_for_health() {
    let gate = gate(1, 1000);
    let busy = gate.admit(address(1)).unwrap();
    let _request = Served::begin(Arc::clone(busy.phase()));
    let quiet: Vec<_> = (0..64).map(|_| gate.admit(address(2)).unwrap()).collect();
    sleep(Duration::from_millis(1100)).await;
    assert!(gate.admit(address(3)).unwrap().phase().is_spare());
    assert_eq!(quiet.iter().filter(|place| place.phase().is_evicted()).count(), 1);
}

#[tokio::test]
async fn an_evicted_connection_ends() {
    let gate = gate(10, 10);
    let (_client, mut connection) = guarded(&gate);
    tokio::join!(ends(&mut connection), async {
        sleep(Duration::from_millis(1100)).await;
        gate.make_room();
    });
}

#[tokio::test]
async fn a_head_must_come_in_time() {
    // Nothing at all; a part; a part of what begins HTTP/2; a part of what begins TLS.
    for sent in ["", "GET / HTTP/1.1\r\nhost: a", "PR", "\x16\x03\x01"] {
        let gate = with(10, 10, SHORT, LONG);
        let (mut client, mut connection) = guarded(&gate);
        client.write_all(sent.as_bytes()).await.unwrap();
        ends(&mut connection).await;
    }
}

#[tokio::test]
async fn a_head_that_drips_must_come_in_time() {
    let gate = with(10, 10, SHORT * 4, LONG);
    let (mut client, mut connection) = guarded(&gate);
    tokio::select! {
        () = ends(&mut connection) => {}
        () = async { loop { client.write_all(b"x").await.unwrap(); sleep(SHORT / 4).await; } } => {}
    }
}

#[tokio::test]
async fn without_a_request_a_connection_is_open_only_for_a_while() {
    for preface in ["", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let gate = with(10, 10, LONG, SHORT);
        let (mut client, mut connection) = guarded(&gate);
        client.write_all(preface.as_bytes()).await.unwrap();
        let request = Served::begin(Arc::clone(connection.phase()));
        drop(request);
        ends(&mut connection).await;
    }
}

/// Signs of life of HTTP/2, which TLS hides, are no part of a head.
#[tokio::test]
async fn signs_of_life_are_no_request() {
    for begins in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01"] {
        let gate = with(10, 10, SHORT, LONG);
        let (mut client, mut connection) = guarded(&gate);
        client.write_all(begins.as_bytes()).await.unwrap();
        connection.read_exact(&mut vec![0; begins.len()]).await.unwrap();
        drop(Served::begin(Arc::clone(connection.phase())));
        client.write_all(b"alive").await.unwrap();
        connection.read_exact(&mut [0; 5]).await.unwrap();
        let read = timeout(SHORT * 5, connection.read_u8()).await;
        assert!(read.is_err(), "it is still open");
    }
}

#[tokio::test]
async fn a_request_may_take_as_long_as_it_likes() {
    let gate = with(10, 10, SHORT, SHORT);
    let (_client, mut connection) = guarded(&gate);
    let _request = Served::begin(Arc::clone(connection.phase()));
    let read = timeout(SHORT * 5, connection.read_u8()).await;
    assert!(read.is_err(), "it is still open");
}

#[tokio::test]
async fn an_answer_must_be_taken_in_time() {
    let gate = with(10, 10, SHORT, LONG);
    let (_client, mut connection) = guarded(&gate);
    let written = timeout(Duration::from_secs(20), connection.write_all(&[0; 4096])).await;
    assert_eq!(written.unwrap().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn an_answer_that_came_too_early_is_still_read() {
    let gate = gate(10, 10);
    let (mut client, mut connection) = guarded(&gate);
    connection.phase().leaves_body_unread();
    let (answered, ()) = tokio::join!(
        async {
            connection.write_all(b"401").await.unwrap();
            connection.shutdown().await
        },
        async {
            client.write_all(&[0; 100_000]).await.expect("nobody is cut off");
            drop(client);
        }
    );
    answered.unwrap();
}

/// Reads a body of pieces that come one by one.
async fn read(piece: usize, every: Duration, patience: Duration) -> Result<usize, TooSlow> {
    let pieces = stream::unfold((), move |()| async move {
        sleep(every).await;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; piece]))), ()))
    });
    let gate = gate(10, 10);
    let place = gate.admit(address(1)).unwrap();
    let body = http_body_util::StreamBody::new(Box::pin(futures::StreamExt::take(pieces, 20)));
    let mut body = request_body(body, patience, Arc::clone(place.phase()));
    let mut bytes = 0;
    while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
        match frame {
            Ok(frame) => bytes += frame.into_data().map_or(0, |data| data.len()),
            Err(error) => return Err(*error.downcast().expect("the stream itself has no errors")),
        }
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_body_must_come_in_time() {
    assert_eq!(read(1, LONG, SHORT).await, Err(TooSlow), "it stalls");
    assert_eq!(read(1, SHORT / 4, SHORT).await, Err(TooSlow), "it drips");
    assert_eq!(
        read(100_000, SHORT / 4, SHORT * 2).await,
        Ok(2_000_000),
        "it is fast enough"
    );
}
