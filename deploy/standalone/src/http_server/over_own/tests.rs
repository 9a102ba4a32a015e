//! What a client sees.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    response::{IntoResponse as _, Response},
    routing::any,
};
use bytes::Bytes;
use futures::{
    FutureExt as _, StreamExt as _,
    channel::mpsc as pieces,
    future::{BoxFuture, ready},
};
use http::{Request, StatusCode, request::Parts};
use http_body_util::BodyExt as _;
use service_kit::{
    Hosts, Peer, Quotas,
    app::{Answer, Direct, Endpoint, RequestBody},
    edge::{Gate, Guarded, KeepOpen, Limits},
    http1::HttpPath,
    json_answer::JsonAnswer,
    quota::Allowance,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{Stop, answering::json_head},
    exchange::AHEAD,
    *,
};

/// What the server has to do with a request.
enum Asked {
    /// The body of it has come.
    Echo,
    /// It waits; the sender is dropped with it.
    Waits(oneshot::Sender<()>),
    /// Pieces of its answer.
    Streams(pieces::Sender<Result<Bytes, &'static str>>),
}

struct Server {
    /// One call at a time.
    quotas: Arc<Quotas>,
    client: DuplexStream,
    asked: mpsc::UnboundedReceiver<Asked>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// What answers requests with one head.
struct Answers {
    quotas: Arc<Quotas>,
    asked: mpsc::UnboundedSender<Asked>,
    head: Arc<Parts>,
}

impl Endpoint for Answers {
    fn answer(self: Arc<Self>, body: RequestBody) -> BoxFuture<'static, Answer> {
        if let Some(length) = self.head.uri.path().strip_prefix("/mcp/json/") {
            let text = "x".repeat(length.parse().unwrap());
            let mut pieces = <[Bytes; 5]>::default();
            (pieces[1], pieces[3]) = (text.into(), Bytes::from_static(b"!"));
            let Ok(in_flight) = self.quotas.call(&"users/a".into()) else {
                return ready(StatusCode::TOO_MANY_REQUESTS.into_response().into()).boxed();
            };
            let in_flight = Some(in_flight);
            return ready(Answer::Json(JsonAnswer { pieces, in_flight })).boxed();
        }
        let answer = answer(self.asked.clone(), Arc::clone(&self.head), body.into());
        answer.map(Answer::from).boxed()
    }
}

async fn answer(asked: mpsc::UnboundedSender<Asked>, head: Arc<Parts>, body: Body) -> Response {
    match head.uri.path() {
        "/mcp/echo" => {
            let _ = asked.send(Asked::Echo);
            match body.collect().await {
                Ok(body) => body.to_bytes().into_response(),
                Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
            }
        }
        "/mcp/waits" => {
            let (sender, receiver) = oneshot::channel();
            let _ = asked.send(Asked::Waits(sender));
            let _ = receiver.await;
            std::future::pending().await
        }
        "/mcp/streams" => {
            let (sender, receiver) = pieces::channel(0);
            let _ = asked.send(Asked::Streams(sender));
            Body::from_stream(receiver).into_response()
        }
        "/mcp/nothing" => StatusCode::NO_CONTENT.into_response(),
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}

impl Server {
    fn start() -> Self {
        let (client, server) = tokio::io::duplex(32 << 10);
        let (sender, asked) = mpsc::unbounded_channel();
        let quotas = Quotas::new(Allowance {
            calls: 1,
            ..Allowance::default()
        });
        let theirs = Arc::clone(&quotas);
        let direct = Direct {
            begins: &["POST /mcp/"],
            find: Arc::new(move |head| {
                let answers = || Answers {
                    quotas: Arc::clone(&theirs),
                    asked: sender.clone(),
                    head: Arc::clone(head),
                };
                let is_ours = head.uri.path().starts_with("/mcp/");
                is_ours.then(|| Arc::new(answers()) as Arc<dyn Endpoint>)
            }),
        };
        let router = Router::new().fallback(any(async |request: Request<Body>| format!("routed {}", request.uri())));
        let site = super::super::Site {
            router,
            direct: [direct].into(),
            hosts: Arc::new(Hosts::new("http://a.example".parse().unwrap(), &[])),
            https: false,
            http_path: HttpPath::Own,
        };
        let permit = Gate::new(Limits::default()).admit([127, 0, 0, 1].into()).unwrap();
        let answering = Answering {
            site,
            peer: Peer::External(([127, 0, 0, 1], 1).into()),
            phase: Arc::clone(permit.phase()),
            keep_open: KeepOpen::new(),
            client_timeout: Duration::from_secs(20),
            load: Arc::default(),
            json: json_head(false),
        };
        let stop = CancellationToken::new();
        let stops = Stop {
            begun: stop.clone(),
            drain: Duration::from_secs(3),
        }
        .of_lane();
        let guarded = Guarded::new(server, permit);
        let serving = tokio::spawn(serve(over_hyper::builder(), guarded, answering, stops));
        Self {
            quotas,
            client,
            asked,
            stop,
            serving,
        }
    }

    async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.client.write_all(text.as_ref()).await.unwrap();
    }

    /// Until this has come.
    async fn until(&mut self, end: &str) -> String {
        let mut came = Vec::new();
        while !came.ends_with(end.as_bytes()) {
            let byte = self.client.read_u8().await;
            let byte = byte.unwrap_or_else(|_| panic!("the end before {end:?}: {:?}", String::from_utf8_lossy(&came)));
            came.push(byte);
        }
        String::from_utf8(came).unwrap()
    }

    /// Until the server closes the connection.
    async fn rest(mut self) -> String {
        let mut rest = String::new();
        self.client.read_to_string(&mut rest).await.unwrap();
        drop(self.client);
        self.serving.await.unwrap();
        rest
    }
}

fn post(path: &str, fields: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: a.example\r\n{fields}\r\n{body}")
}

fn echo(body: &str) -> String {
    post("/mcp/echo", &format!("content-length: {}\r\n", body.len()), body)
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_one_after_the_other() {
    let mut server = Server::start();
    server.send(echo("one") + &echo("two")).await;
    let one = server.until("one").await;
    assert!(one.starts_with("HTTP/1.1 200 OK\r\n"), "{one}");
    assert!(one.contains("\r\ncontent-length: 3\r\n"), "{one}");
    assert!(one.contains("\r\nx-content-type-options: nosniff\r\n"), "{one}");
    assert!(one.contains("\r\ndate: "), "{one}");
    assert!(!one.contains("connection"), "{one}");
    server.until("two").await;
    for text in echo("three").as_bytes().chunks(1) {
        server.send(text).await;
    }
    server.until("three").await;
}

/// Over either path.
#[tokio::test]
async fn json_comes_with_the_fields_of_every_answer() {
    for length in [0, 5, 100_000] {
        let mut server = Server::start();
        let request = format!("POST /mcp/json/{length} HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0\r\n");
        let body = format!("{}!", "x".repeat(length));
        for _ in 0..2 {
            server.send(format!("{request}\r\n")).await;
            let answer = server.until("!").await;
            let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
            assert_eq!(rest, body);
            assert!(
                head.starts_with(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-content-type-options: nosniff\r\ndate: "
                ),
                "{head}"
            );
            assert!(head.ends_with(&format!("\r\ncontent-length: {}", length + 1)), "{head}");
        }
        server.send(format!("{request}connection: close\r\n\r\n")).await;
        let answer = server.rest().await;
        let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with("\r\nconnection: close"), "{head}");
        assert_eq!(rest, body);
    }
}

/// Otherwise a caller could have any number of answers in memory that they do not read.
#[tokio::test]
async fn a_call_is_in_progress_until_its_answer_is_sent() {
    let mut server = Server::start();
    let calls = |server: &Server| server.quotas.call(&"users/a".into()).is_ok();
    let length = 3 * AHEAD;
    let request = format!("POST /mcp/json/{length} HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0\r\n\r\n");
    server.send(request).await;
    server.until("\r\n\r\n").await;
    assert!(!calls(&server), "most of it is not sent");
    let mut read = vec![0; length + 1 - AHEAD / 2];
    server.client.read_exact(&mut read).await.unwrap();
    while !calls(&server) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn other_requests_of_the_connection_go_to_the_router() {
    let mut server = Server::start();
    let get = "GET /page HTTP/1.1\r\nhost: a.example\r\n\r\n";
    server.send(echo("one") + get + &echo("two")).await;
    server.until("one").await;
    server.until("routed /page").await;
    server.until("two").await;
    let mut server = Server::start();
    let post = post("/mcpx", "content-length: 0\r\n", "");
    for text in post.as_bytes().chunks(1) {
        server.send(text).await;
    }
    server.until("routed /mcpx").await;
}

#[tokio::test]
async fn a_body_is_read_as_it_comes() {
    let mut server = Server::start();
    server.send(post("/mcp/echo", "content-length: 6\r\n", "abc")).await;
    server.asked.recv().await.unwrap();
    server.send("def").await;
    server.until("\r\n\r\nabcdef").await;
    let chunked = "transfer-encoding: chunked\r\n";
    server.send(post("/mcp/echo", chunked, "1\r\na\r\n2\r\n")).await;
    server.asked.recv().await.unwrap();
    server.send("bc\r\n0\r\nx: y\r\n\r\n").await;
    server.until("\r\n\r\nabc").await;
    let long = "x".repeat(200_000);
    let (mut reads, mut writes) = tokio::io::split(server.client);
    let text = echo(&long);
    let (_, read) = tokio::join!(writes.write_all(text.as_bytes()), async {
        let mut read = Vec::new();
        while !read.ends_with(long.as_bytes()) {
            reads.read_buf(&mut read).await.unwrap();
        }
        read
    });
    assert!(read.starts_with(b"HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_client_that_asks_is_told_to_send_the_body_when_it_is_wanted() {
    let expects = "content-length: 3\r\nexpect: 100-continue\r\n";
    let mut server = Server::start();
    server.send(post("/mcp/echo", expects, "")).await;
    assert_eq!(server.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    server.send("abc").await;
    server.until("\r\n\r\nabc").await;
    server.send(post("/mcp/refused", expects, "")).await;
    let answer = server.until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn a_body_that_is_no_body_is_said_to_be_and_ends_the_connection() {
    let mut server = Server::start();
    server
        .send(post("/mcp/echo", "transfer-encoding: chunked\r\n", "x\r\n"))
        .await;
    let answer = server.rest().await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let mut server = Server::start();
    server.send(post("/mcp/echo", "content-length: +1\r\n", "a")).await;
    let answer = server.rest().await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.contains("Content-Length"), "{answer}");
    assert!(answer.contains("\r\nx-content-type-options: nosniff\r\n"), "{answer}");
}

#[tokio::test]
async fn a_request_ends_with_its_connection() {
    let mut server = Server::start();
    server.send(post("/mcp/waits", "content-length: 0\r\n", "")).await;
    let Some(Asked::Waits(mut waits)) = server.asked.recv().await else {
        panic!("it waits");
    };
    drop(server.client);
    waits.closed().await;
    server.serving.await.unwrap();
}

#[tokio::test]
async fn a_stream_comes_in_chunks_as_it_is_made() {
    let mut server = Server::start();
    server.send(post("/mcp/streams", "content-length: 0\r\n", "")).await;
    let Some(Asked::Streams(mut stream)) = server.asked.recv().await else {
        panic!("it streams");
    };
    let head = server.until("\r\n\r\n").await;
    assert!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "{head}");
    for piece in ["abc", "", "0123456789abcdef"] {
        let piece = Ok(Bytes::from_static(piece.as_bytes()));
        futures::SinkExt::send(&mut stream, piece).await.unwrap();
    }
    assert_eq!(server.until("f\r\n").await, "3\r\nabc\r\n10\r\n0123456789abcdef\r\n");
    drop(stream);
    assert_eq!(server.until("0\r\n\r\n").await, "0\r\n\r\n");
    server.send(echo("more")).await;
    server.until("more").await;
}

#[tokio::test]
async fn a_stream_that_fails_has_no_end() {
    let mut server = Server::start();
    server.send(post("/mcp/streams", "content-length: 0\r\n", "")).await;
    let Some(Asked::Streams(mut stream)) = server.asked.recv().await else {
        panic!("it streams");
    };
    futures::SinkExt::send(&mut stream, Ok(Bytes::from_static(b"a")))
        .await
        .unwrap();
    futures::SinkExt::send(&mut stream, Err("broken")).await.unwrap();
    let rest = server.rest().await;
    assert!(rest.ends_with("1\r\na\r\n"), "{rest}");
}

/// A server that made all of a long answer at once would keep it for each client that is slow.
#[tokio::test]
async fn a_client_that_does_not_read_holds_up_its_answer() {
    let mut server = Server::start();
    server.send(post("/mcp/streams", "content-length: 0\r\n", "")).await;
    let Some(Asked::Streams(stream)) = server.asked.recv().await else {
        panic!("it streams");
    };
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let pieces = futures::stream::repeat(Bytes::from(vec![b'x'; 16 << 10])).take(100);
    let pieces = pieces.inspect(move |_| {
        counted.fetch_add(1, Relaxed);
    });
    let sending = tokio::spawn(pieces.map(|piece| Ok(Ok(piece))).forward(stream));
    let mut before = usize::MAX;
    while before != taken.load(Relaxed) {
        before = taken.load(Relaxed);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    assert!((8..16).contains(&before), "{before}");
    server.until("\r\n0\r\n\r\n").await;
    sending.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_a_stream_that_its_connection_ends() {
    let mut server = Server::start();
    server
        .send("POST /mcp/streams HTTP/1.0\r\nhost: a.example\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n")
        .await;
    let Some(Asked::Streams(mut stream)) = server.asked.recv().await else {
        panic!("it streams");
    };
    futures::SinkExt::send(&mut stream, Ok(Bytes::from_static(b"abc")))
        .await
        .unwrap();
    drop(stream);
    let answer = server.rest().await;
    assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
    assert!(!answer.contains("transfer-encoding"), "{answer}");
}

#[tokio::test]
async fn an_answer_without_a_body_has_no_length() {
    let mut server = Server::start();
    server.send(post("/mcp/nothing", "content-length: 0\r\n", "")).await;
    let head = server.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 204 No Content\r\n"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    server.send(echo("more")).await;
    server.until("more").await;
}

#[tokio::test]
async fn a_connection_that_is_to_close_closes_behind_its_answer() {
    let mut server = Server::start();
    let fields = "content-length: 1\r\nconnection: close\r\n";
    server.send(post("/mcp/echo", fields, "a") + &echo("b")).await;
    let answer = server.rest().await;
    assert!(answer.ends_with("\r\n\r\na"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_others_behind_their_answers() {
    let mut server = Server::start();
    server.send(echo("a")).await;
    server.until("\r\n\r\na").await;
    server.stop.cancel();
    assert_eq!(server.rest().await, "");
    let mut server = Server::start();
    server.send(post("/mcp/echo", "content-length: 2\r\n", "a")).await;
    server.asked.recv().await.unwrap();
    server.stop.cancel();
    server.send("b").await;
    let answer = server.rest().await;
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nab"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn what_takes_longer_than_the_drain_is_cut_off() {
    let mut server = Server::start();
    server.send(post("/mcp/waits", "content-length: 0\r\n", "")).await;
    let Some(Asked::Waits(mut waits)) = server.asked.recv().await else {
        panic!("it waits");
    };
    server.stop.cancel();
    let began = tokio::time::Instant::now();
    waits.closed().await;
    assert_eq!(began.elapsed().as_secs(), 3);
    assert_eq!(server.rest().await, "");
}
