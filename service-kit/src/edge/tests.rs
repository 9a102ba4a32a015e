//! One test for each attack on a listener, against the part that withstands it. Timeouts are short; nothing is
//! measured.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use http_body::{Body as _, Frame};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    time::{sleep, timeout},
};

use super::{Acceptor, Gate, Guarded, Limits, Permit, Served, TooSlow, gate::Refused, request_body, response_body};

const SHORT: Duration = Duration::from_millis(60);
const LONG: Duration = Duration::from_secs(600);

fn gate(connections: usize, per_address: usize) -> Arc<Gate> {
    with(connections, per_address, LONG, LONG)
}

fn with(connections: usize, per_address: usize, client_timeout: Duration, idle: Duration) -> Arc<Gate> {
    Gate::new(Limits {
        connections,
        per_address,
        client_timeout,
        idle,
        ..Limits::default()
    })
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

/// The client's end and the guarded end of a connection.
fn guarded(gate: &Arc<Gate>) -> (DuplexStream, Guarded<DuplexStream>) {
    let (client, server) = tokio::io::duplex(1024);
    (client, Guarded::new(server, gate.admit(address(1)).unwrap()))
}

/// Reads until the connection ends, as a server does.
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
    // All addresses of an IPv6 /64 network count as one, and an IPv4 address is the same in both notations.
    let v6 = |text: &str| gate.admit(text.parse().unwrap());
    let _kept = (v6("2001:db8::1").unwrap(), v6("2001:db8::2").unwrap());
    assert_eq!(v6("2001:db8::3").err(), Some(Refused::Address));
    assert!(v6("2001:db8:0:1::1").is_ok());
    let _kept = (gate.admit(address(9)).unwrap(), v6("::ffff:192.0.2.9").unwrap());
    assert_eq!(gate.admit(address(9)).err(), Some(Refused::Address));
    // Many clients share the address of a proxy.
    let _many: Vec<_> = (0..5).map(|_| v6("127.0.0.1").unwrap()).collect();
    drop(_many);
}

#[tokio::test]
async fn a_quiet_connection_is_evicted() {
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
fn without_quiet_connections_places_remain_for_health_checks() {
    let gate = gate(2, 1000);
    let busy: Vec<_> = (0..2).map(|_| gate.admit(address(1)).unwrap()).collect();
    let _requests: Vec<_> = busy
        .iter()
        .map(|permit| Served::begin(Arc::clone(permit.phase())))
        .collect();
    let spare: Vec<_> = (0..64).map(|_| gate.admit(address(2)).unwrap()).collect();
    assert!(spare.iter().all(|permit| permit.phase().is_spare()));
    assert_eq!(gate.admit(address(3)).err(), Some(Refused::Full));
    drop(spare);
    drop(busy);
    assert_eq!(gate.taken(), 0);
    assert!(!gate.admit(address(3)).unwrap().phase().is_spare());
}

/// A quiet connection on a place for health checks makes no room for other requests.
#[tokio::test]
async fn places_for_health_checks_serve_nothing_else() {
    let gate = gate(1, 1000);
    let busy = gate.admit(address(1)).unwrap();
    let _request = Served::begin(Arc::clone(busy.phase()));
    let quiet: Vec<_> = (0..64).map(|_| gate.admit(address(2)).unwrap()).collect();
    sleep(Duration::from_millis(1100)).await;
    assert!(gate.admit(address(3)).unwrap().phase().is_spare());
    assert_eq!(quiet.iter().filter(|permit| permit.phase().is_evicted()).count(), 1);
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
async fn a_head_must_arrive_in_time() {
    // Nothing; a part of an HTTP/1 head; a part of the HTTP/2 preface; a part of a TLS handshake.
    for sent in ["", "GET / HTTP/1.1\r\nhost: a", "PR", "\x16\x03\x01"] {
        let gate = with(10, 10, SHORT, LONG);
        let (mut client, mut connection) = guarded(&gate);
        client.write_all(sent.as_bytes()).await.unwrap();
        ends(&mut connection).await;
    }
}

#[tokio::test]
async fn a_head_that_arrives_byte_by_byte_must_arrive_in_time() {
    let gate = with(10, 10, SHORT * 4, LONG);
    let (mut client, mut connection) = guarded(&gate);
    tokio::select! {
        () = ends(&mut connection) => {}
        () = async { loop { client.write_all(b"x").await.unwrap(); sleep(SHORT / 4).await; } } => {}
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    for preface in ["", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let gate = with(10, 10, LONG, SHORT);
        let (mut client, mut connection) = guarded(&gate);
        client.write_all(preface.as_bytes()).await.unwrap();
        let request = Served::begin(Arc::clone(connection.phase()));
        drop(request);
        ends(&mut connection).await;
    }
}

/// HTTP/2 keep-alive frames, which TLS hides, are not a part of a request head.
#[tokio::test]
async fn keep_alive_frames_are_no_request() {
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
async fn a_request_in_progress_has_no_deadline() {
    let gate = with(10, 10, SHORT, SHORT);
    let (_client, mut connection) = guarded(&gate);
    let _request = Served::begin(Arc::clone(connection.phase()));
    let read = timeout(SHORT * 5, connection.read_u8()).await;
    assert!(read.is_err(), "it is still open");
}

#[tokio::test]
async fn a_response_must_be_read_in_time() {
    let gate = with(10, 10, SHORT, LONG);
    let (_client, mut connection) = guarded(&gate);
    let written = timeout(Duration::from_secs(20), connection.write_all(&[0; 4096])).await;
    assert_eq!(written.unwrap().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

/// A byte within each timeout is not enough.
#[tokio::test]
async fn a_response_must_not_be_read_byte_by_byte() {
    let gate = with(10, 10, SHORT * 4, LONG);
    let (mut client, mut connection) = guarded(&gate);
    let drips = async {
        loop {
            sleep(SHORT).await;
            client.read_exact(&mut [0; 4]).await.unwrap();
        }
    };
    let written = tokio::select! {
        written = timeout(Duration::from_secs(20), connection.write_all(&[0; 1 << 20])) => written.unwrap(),
        () = drips => unreachable!("it has no end"),
    };
    assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

/// Counts its instances.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Serves a connection over HTTP/2. `/quiet` is an event stream without events; every other path returns a large
/// response. `held` counts the responses that exist.
fn serve(permit: Permit, held: &Arc<AtomicUsize>) -> DuplexStream {
    let (client, server) = tokio::io::duplex(1 << 20);
    let (phase, held) = (Arc::clone(permit.phase()), Arc::clone(held));
    let service = tower::service_fn(move |request: http::Request<_>| {
        let _: &http::Request<hyper::body::Incoming> = &request;
        let (served, held) = (Served::begin(Arc::clone(&phase)), Counted::new(&held));
        let quiet = request.uri().path() == "/quiet";
        async move {
            let pieces = stream::unfold((held, 0), move |(held, sent)| async move {
                if quiet {
                    std::future::pending::<()>().await;
                }
                let piece = Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; 1 << 20])));
                (sent < 4).then_some((piece, (held, sent + 1)))
            });
            let body = http_body_util::StreamBody::new(Box::pin(pieces));
            Ok::<_, Infallible>(http::Response::new(response_body(body, served)))
        }
    });
    let io = TokioIo::new(Guarded::new(server, permit));
    tokio::spawn(async move {
        let builder = auto::Builder::new(TokioExecutor::new());
        builder.serve_connection(io, TowerToHyperService::new(service)).await
    });
    client
}

/// An HTTP/2 client whose streams have this window, and which requests these paths.
async fn asks(io: DuplexStream, window: u32, paths: &[&str]) -> Vec<h2::RecvStream> {
    let mut builder = h2::client::Builder::new();
    let (mut requests, connection) = builder
        .initial_window_size(window)
        .initial_connection_window_size(8 << 20)
        .handshake::<_, Bytes>(io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for path in paths {
        let request = http::Request::get(format!("http://x{path}")).body(()).unwrap();
        let (answer, _) = requests.send_request(request, true).unwrap();
        answers.push(answer.await.unwrap().into_body());
    }
    answers
}

/// The client reads every TCP segment but no byte of a response: with a window of 0, and with one that leaves the last
/// piece in the server.
#[tokio::test]
async fn a_response_on_a_shared_connection_must_be_read_in_time() {
    for window in [0, 1] {
        let gate = with(10, 10, SHORT * 2, LONG);
        let held = Arc::default();
        let io = serve(gate.admit(address(1)).unwrap(), &held);
        let mut answers = asks(io, window, &["/quiet", "/large", "/large"]).await;
        assert_eq!(held.load(SeqCst), 3);
        let end = timeout(Duration::from_secs(20), async {
            while let Some(Ok(_)) = answers[1].data().await {}
        });
        end.await.expect("it should end");
        while gate.taken() + held.load(SeqCst) > 0 {
            sleep(SHORT / 10).await;
        }
    }
}

#[tokio::test]
async fn a_response_may_be_read_slowly() {
    let gate = with(10, 10, SHORT * 10, SHORT);
    let held = Arc::default();
    let io = serve(gate.admit(address(1)).unwrap(), &held);
    let mut answers = asks(io, 256 << 10, &["/quiet", "/large"]).await;
    let mut large = answers.remove(1);
    let mut bytes = 0;
    while let Some(data) = large.data().await {
        let length = data.expect("the connection stays open").len();
        bytes += length;
        sleep(SHORT / 10).await;
        large.flow_control().release_capacity(length).unwrap();
    }
    assert_eq!(bytes, 4 << 20);
    drop(large);
    // An idle event stream waits for the server, not for the client.
    sleep(SHORT * 30).await;
    assert_eq!((gate.taken(), held.load(SeqCst)), (1, 1));
}

/// A response may stall while the client reads others. Time passes only while nothing else happens: on a busy machine, this client would read too slowly.
#[tokio::test(start_paused = true)]
async fn a_response_may_stall_while_others_are_read() {
    let gate = with(10, 10, SHORT * 2, LONG);
    let held = Arc::default();
    let io = serve(gate.admit(address(1)).unwrap(), &held);
    let mut answers = asks(io, 16 << 10, &["/large", "/large"]).await;
    let left = timeout(SHORT * 2 * 4, async {
        loop {
            let length = answers[1]
                .data()
                .await
                .expect("it is long")
                .expect("the connection stays open")
                .len();
            sleep(SHORT / 10).await;
            answers[1].flow_control().release_capacity(length).unwrap();
        }
    });
    left.await.expect_err("it goes on");
    let end = timeout(Duration::from_secs(20), async {
        while let Some(Ok(_)) = answers[0].data().await {}
    });
    end.await.expect("with both left, it should end");
}

/// A connection whose client reads slowly or not at all counts as quiet after a while, and is evicted for a new one.
#[tokio::test]
async fn a_connection_that_blocks_writes_is_evicted() {
    let gate = with(1, 10, Duration::from_secs(10), LONG);
    let (_client, mut connection) = guarded(&gate);
    let written = async {
        let written = connection.write_all(&[0; 4096]).await;
        drop(connection);
        written
    };
    let (written, ()) = tokio::join!(written, async {
        sleep(Duration::from_millis(1100)).await;
        let gets_only_a_spare_place = || gate.admit(address(2)).unwrap().phase().is_spare();
        assert!(gets_only_a_spare_place(), "it is still busy");
        while gets_only_a_spare_place() {
            sleep(SHORT).await;
        }
    });
    // Otherwise the error would be a timeout.
    assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
}

/// The kernel buffers little, so that the server notices when a client reads some of a response.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_kernel_buffers_little_of_a_response() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut acceptor = Acceptor::new(listener, gate(10, 10), b"");
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    let (client, (server, _, _place)) = tokio::join!(socket.connect(address), acceptor.accept());
    let mut client = client.unwrap();
    let piece = vec![0; 64 << 10];
    let fill = async || {
        let mut filled = 0;
        while let Ok(Ok(())) = timeout(SHORT * 5, server.writable()).await {
            match server.try_write(&piece) {
                Ok(length) => filled += length,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
        filled
    };
    let filled = fill().await;
    assert!(filled < 512 << 10, "{filled}");
    client.read_exact(&mut vec![0; filled * 3 / 4]).await.unwrap();
    assert!(fill().await > 0, "reading makes room");
}

/// A response that the client does not read is not in progress; one that waits for the server is.
#[tokio::test]
async fn a_connection_that_reads_nothing_is_evicted() {
    let gate = gate(2, 1000);
    let held = Arc::default();
    let waiting = serve(gate.admit(address(1)).unwrap(), &held);
    let _waiting = asks(waiting, 0, &["/large"]).await;
    let busy = serve(gate.admit(address(1)).unwrap(), &held);
    let _busy = asks(busy, 0, &["/large", "/quiet"]).await;
    assert!(gate.admit(address(2)).unwrap().phase().is_spare(), "they are young");
    sleep(Duration::from_millis(1100)).await;
    let newcomer = gate.admit(address(2)).unwrap();
    assert!(!newcomer.phase().is_spare());
    assert!(gate.admit(address(2)).unwrap().phase().is_spare(), "the other is busy");
    while held.load(SeqCst) > 2 {
        sleep(SHORT / 10).await;
    }
}

#[tokio::test]
async fn an_early_response_still_arrives() {
    let gate = gate(10, 10);
    let (mut client, mut connection) = guarded(&gate);
    connection.phase().leaves_body_unread();
    let (answered, ()) = tokio::join!(
        async {
            connection.write_all(b"401").await.unwrap();
            connection.shutdown().await
        },
        async {
            client
                .write_all(&[0; 100_000])
                .await
                .expect("the connection stays open");
            drop(client);
        }
    );
    answered.unwrap();
}

/// The refusal also reaches a client that sends its request late, or sends more than the server reads.
#[tokio::test]
async fn a_refusal_arrives() {
    const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\r\n";
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut acceptor = Acceptor::new(
        listener,
        Gate::new(Limits {
            per_address: 0,
            proxies: Vec::new(),
            ..Limits::default()
        }),
        REFUSAL,
    );
    let clients = async {
        for (wait, length) in [(Duration::ZERO, 10), (SHORT, 10), (Duration::ZERO, 200_000)] {
            let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
            sleep(wait).await;
            client
                .write_all(&vec![b'x'; length])
                .await
                .expect("the connection stays open");
            let mut answer = Vec::new();
            client
                .read_to_end(&mut answer)
                .await
                .expect("the connection stays open");
            assert_eq!(answer, REFUSAL);
        }
    };
    tokio::select! {
        () = clients => {}
        _ = acceptor.accept() => panic!("there is no place"),
    }
}

/// Reads a body whose pieces arrive one by one.
async fn read(piece: usize, every: Duration, client_timeout: Duration) -> Result<usize, TooSlow> {
    let pieces = stream::unfold((), move |()| async move {
        sleep(every).await;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; piece]))), ()))
    });
    let gate = gate(10, 10);
    let permit = gate.admit(address(1)).unwrap();
    let body = http_body_util::StreamBody::new(Box::pin(futures::StreamExt::take(pieces, 20)));
    let mut body = request_body(body, client_timeout, Arc::clone(permit.phase()));
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
async fn a_body_must_arrive_in_time() {
    assert_eq!(read(1, LONG, SHORT).await, Err(TooSlow), "it stalls");
    assert_eq!(read(1, SHORT / 4, SHORT).await, Err(TooSlow), "it drips");
    assert_eq!(
        read(100_000, SHORT / 4, SHORT * 2).await,
        Ok(2_000_000),
        "it is fast enough"
    );
}
