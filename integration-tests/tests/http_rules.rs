//! What the endpoints accept as HTTP/1.1: what two programs in a row could read otherwise is refused, and its connection closed.
//!
//! Over both of `--http-path`. Where hyper is laxer, the case says so. Those of upstreams' answers are in `gateway-svc`, in the tests of its pool.

use std::time::Duration;

use integration_tests::Stack;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// No answer takes longer, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(20);
/// What both refuse with the same status.
const SAME: Hyper = Hyper::Same;

/// What hyper does where our own reader refuses a request.
#[derive(Clone, Copy)]
enum Hyper {
    Same,
    /// It refuses it with another status.
    Refuses(u16),
    /// It accepts it.
    Accepts,
}

struct Case {
    name: &'static str,
    request: Vec<u8>,
    status: u16,
    hyper: Hyper,
}

fn case(name: &'static str, request: impl Into<Vec<u8>>, status: u16, hyper: Hyper) -> Case {
    Case {
        name,
        request: request.into(),
        status,
        hyper,
    }
}

struct Endpoint {
    address: String,
    token: String,
}

impl Endpoint {
    /// A request with these fields besides those that each has.
    fn post(&self, fields: &str, body: &str) -> String {
        self.with_line(
            "POST /mcp/default HTTP/1.1",
            &format!("host: localhost\r\n{fields}"),
            body,
        )
    }

    fn with_line(&self, line: &str, fields: &str, body: &str) -> String {
        let token = &self.token;
        format!(
            "{line}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             accept: application/json, text/event-stream\r\n{fields}\r\n{body}"
        )
    }

    async fn sent(&self, request: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).await.expect("it is listened on");
        // A server that has refused the request may have closed it already.
        let _ = stream.write_all(request).await;
        stream
    }

    /// The first answer, and whether the server closes the connection behind it.
    async fn answered(&self, request: &[u8]) -> (String, bool) {
        let mut stream = self.sent(request).await;
        let answer = answer(&mut stream).await;
        let closes = answer.to_lowercase().contains("\r\nconnection: close\r\n");
        if closes {
            let rest = timeout(TIMEOUT, stream.read(&mut [0; 1])).await.expect("it is closed");
            assert!(matches!(rest, Ok(0) | Err(_)), "nothing comes behind it: {answer}");
        }
        (answer, closes)
    }
}

/// Reads an answer that has a length.
async fn answer(stream: &mut TcpStream) -> String {
    let read = async {
        let mut came = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&came);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .to_lowercase()
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
                if body.len() >= length.unwrap_or_default() {
                    return text.into_owned();
                }
            }
            if stream.read_buf(&mut came).await.unwrap_or_default() == 0 {
                return String::from_utf8_lossy(&came).into_owned();
            }
        }
    };
    timeout(TIMEOUT, read).await.expect("it is answered")
}

fn status(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

/// An answer of the endpoint itself: it has read the message, which asks for a session.
fn is_accepted(answer: &str) -> bool {
    answer.contains("jsonrpc") && !answer.contains("-32700")
}

async fn endpoint(path: &str) -> (Stack, Endpoint) {
    let stack = Stack::builder()
        .flag("--http-path", path)
        .flag("--client-timeout", "2")
        .start()
        .await;
    let endpoint = Endpoint {
        address: stack.http().to_owned(),
        token: stack.token("alice@example.com", &[], false),
    };
    (stack, endpoint)
}

const MESSAGE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

fn length(body: &str) -> String {
    format!("content-length: {}\r\n", body.len())
}

fn refused(at: &Endpoint) -> Vec<Case> {
    let plain = length(MESSAGE);
    let post = |fields: &str| at.post(&format!("{plain}{fields}"), MESSAGE);
    let framed = |framing: &str| at.post(framing, MESSAGE);
    let line = |line: &str| at.with_line(line, &format!("host: localhost\r\n{plain}"), MESSAGE);
    let hosts = |hosts: &str| at.with_line("POST /mcp/default HTTP/1.1", &format!("{hosts}{plain}"), MESSAGE);
    let chunked = |chunks: &str| at.post("transfer-encoding: chunked\r\n", chunks);
    let chunk = format!("{:x}\r\n{MESSAGE}\r\n", MESSAGE.len());
    let many: String = (0..70).map(|number| format!("x-{number}: a\r\n")).collect();
    let long = "x".repeat(33 << 10);
    vec![
        case("a line that ends with LF alone", post("x: a\n"), 400, Hyper::Accepts),
        case("a field name with a space", post("x : a\r\n"), 400, SAME),
        case("a folded field", post("x: a\r\n b\r\n"), 400, SAME),
        case("a NUL in a field", post("x: a\0b\r\n"), 400, SAME),
        case("70 fields", post(&many), 431, Hyper::Accepts),
        case("a head of 33 KB", post(&format!("x: {long}\r\n")), 431, Hyper::Accepts),
        case(
            "a target with a fragment",
            line("POST /mcp/default#a HTTP/1.1"),
            400,
            Hyper::Accepts,
        ),
        case("HTTP/1.2", line("POST /mcp/default HTTP/1.2"), 505, Hyper::Refuses(400)),
        case("HTTP/2.0", line("POST /mcp/default HTTP/2.0"), 505, Hyper::Refuses(400)),
        case("no host", hosts(""), 400, Hyper::Refuses(421)),
        case(
            "two hosts",
            hosts("host: localhost\r\nhost: localhost\r\n"),
            400,
            Hyper::Refuses(421),
        ),
        case("an empty host", hosts("host: \r\n"), 400, Hyper::Refuses(421)),
        case(
            "a host with a slash",
            hosts("host: localhost/a\r\n"),
            400,
            Hyper::Refuses(421),
        ),
        case("two lengths", framed(&plain.repeat(2)), 400, Hyper::Accepts),
        case(
            "a length with a sign",
            framed(&format!("content-length: +{}\r\n", MESSAGE.len())),
            400,
            SAME,
        ),
        case(
            "a list of lengths",
            framed(&format!("content-length: {0}, {0}\r\n", MESSAGE.len())),
            400,
            SAME,
        ),
        case(
            "a length that is no number",
            framed("content-length: 0x10\r\n"),
            400,
            SAME,
        ),
        case(
            "a length and chunks",
            at.post(
                &format!("{plain}transfer-encoding: chunked\r\n"),
                &format!("{chunk}0\r\n\r\n"),
            ),
            400,
            Hyper::Accepts,
        ),
        case(
            "two encodings",
            at.post("transfer-encoding: chunked, chunked\r\n", &format!("{chunk}0\r\n\r\n")),
            501,
            Hyper::Accepts,
        ),
        case(
            "another encoding",
            at.post("transfer-encoding: gzip\r\n", ""),
            501,
            Hyper::Refuses(400),
        ),
        case(
            "chunks of HTTP/1.0",
            at.with_line(
                "POST /mcp/default HTTP/1.0",
                "host: localhost\r\ntransfer-encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            501,
            Hyper::Refuses(400),
        ),
        case(
            "a chunk with a size of eight digits",
            chunked(&format!("000000{chunk}0\r\n\r\n")),
            400,
            Hyper::Accepts,
        ),
        case(
            "a chunk whose size has a space",
            chunked(&format!(" {chunk}0\r\n\r\n")),
            400,
            SAME,
        ),
        case(
            "a chunk that is longer than its size",
            chunked("1\r\nab\r\n0\r\n\r\n"),
            400,
            SAME,
        ),
        case(
            "an extension with LF",
            chunked(&chunk.replacen("\r\n", ";a\n\r\n", 1)),
            400,
            SAME,
        ),
        case(
            "long extensions",
            chunked(&chunk.replacen("\r\n", &format!(";{}\r\n", "x".repeat(5_000)), 1)),
            400,
            Hyper::Refuses(408),
        ),
        case(
            "a long trailer section",
            chunked(&format!("{chunk}0\r\nx: {}\r\n\r\n", "x".repeat(5_000))),
            400,
            Hyper::Accepts,
        ),
        case("another expectation", post("expect: a\r\n"), 417, Hyper::Accepts),
        case(
            "a body that is too long",
            framed("content-length: 5000000\r\n"),
            413,
            SAME,
        ),
    ]
}

async fn refuses(path: &str) {
    let (_stack, at) = endpoint(path).await;
    let mut wrong = Vec::new();
    for case in refused(&at) {
        let Case { name, request, .. } = &case;
        let (answer, closes) = at.answered(request).await;
        let is_right = match (path, case.hyper) {
            ("hyper", Hyper::Accepts) => is_accepted(&answer),
            ("hyper", Hyper::Refuses(other)) => status(&answer) == other,
            // hyper closes without a word of it.
            ("hyper", Hyper::Same) => status(&answer) == case.status,
            _ => status(&answer) == case.status && closes,
        };
        if !is_right {
            wrong.push(format!("{name}: {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{path}:\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_in_two_ways_is_refused() {
    refuses("own").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_in_two_ways_is_refused_over_hyper() {
    refuses("hyper").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_odd_and_valid_is_answered() {
    for path in ["own", "hyper"] {
        let (_stack, at) = endpoint(path).await;
        let plain = length(MESSAGE);
        let chunks = "1;a=b\r\n{\r\n";
        let rest = format!("{:X};c\r\n{}\r\n0\r\nx: y\r\n\r\n", MESSAGE.len() - 1, &MESSAGE[1..]);
        for (name, request) in [
            ("a plain one", at.post(&plain, MESSAGE)),
            ("names in capitals", at.post(&plain.to_uppercase(), MESSAGE)),
            (
                "spaces around a value",
                at.post(&format!("content-length: \t {} \t\r\n", MESSAGE.len()), MESSAGE),
            ),
            (
                "bytes that are not ASCII",
                at.post(&format!("{plain}x: \u{e9}\r\n"), MESSAGE),
            ),
            (
                "an upgrade",
                at.post(&format!("{plain}connection: upgrade\r\nupgrade: h2c\r\n"), MESSAGE),
            ),
            (
                "a query",
                at.with_line(
                    "POST /mcp/default?a=b HTTP/1.1",
                    &format!("host: localhost\r\n{plain}"),
                    MESSAGE,
                ),
            ),
            (
                "chunks",
                at.post("transfer-encoding: Chunked\r\n", &format!("{chunks}{rest}")),
            ),
            (
                "an absolute target",
                at.with_line(
                    "POST http://localhost/mcp/default HTTP/1.1",
                    &format!("host: localhost\r\n{plain}"),
                    MESSAGE,
                ),
            ),
        ] {
            let (answer, closes) = at.answered(request.as_bytes()).await;
            assert!(is_accepted(&answer) && !closes, "{path}, {name}: {answer}");
            let (head, _) = answer.split_once("\r\n\r\n").expect("a head");
            let head = head.to_lowercase();
            assert_eq!(head.matches("\r\ncontent-length:").count(), 1, "{path}, {name}: {head}");
            assert!(!head.contains("\r\ntransfer-encoding:"), "{path}, {name}: {head}");
        }
        let old = at.with_line(
            "POST /mcp/default HTTP/1.0",
            &format!("host: localhost\r\n{plain}"),
            MESSAGE,
        );
        let mut stream = at.sent(old.as_bytes()).await;
        let mut all = Vec::new();
        stream
            .read_to_end(&mut all)
            .await
            .expect("HTTP/1.0 ends with its connection");
        assert!(is_accepted(&String::from_utf8_lossy(&all)), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_together_are_answered_in_turn() {
    for path in ["own", "hyper"] {
        let (_stack, at) = endpoint(path).await;
        let first = at.post(&length(MESSAGE), MESSAGE);
        let second = first.replace("/mcp/default", "/mcp/none");
        let page = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let mut stream = at.sent(format!("{first}{second}{page}{first}").as_bytes()).await;
        let mut all = String::new();
        while all.matches("HTTP/1.1 ").count() < 4 || !all.ends_with('}') {
            let mut came = Vec::new();
            let read = timeout(TIMEOUT, stream.read_buf(&mut came)).await.expect("more comes");
            assert!(read.expect("it stays open") > 0, "{path}: {all}");
            all.push_str(&String::from_utf8_lossy(&came));
        }
        let answers: Vec<&str> = all.split("HTTP/1.1 ").skip(1).collect();
        assert!(is_accepted(answers[0]), "{path}: {all}");
        assert!(answers[1].starts_with("404"), "{path}: {all}");
        assert!(answers[2].ends_with("ok\n"), "{path}: {all}");
        assert!(is_accepted(answers[3]), "{path}: {all}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_a_word_is_told_to_send_its_body() {
    for path in ["own", "hyper"] {
        let (_stack, at) = endpoint(path).await;
        let fields = format!("{}expect: 100-continue\r\n", length(MESSAGE));
        let mut stream = at.sent(at.post(&fields, "").as_bytes()).await;
        assert_eq!(answer(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n", "{path}");
        stream.write_all(MESSAGE.as_bytes()).await.expect("it is open");
        let answered = answer(&mut stream).await;
        assert!(is_accepted(&answered), "{path}: {answered}");
        // One who may not enter is told so at once.
        let stranger = at.post(&fields, "").replace("Bearer ", "Bearer x");
        let (answered, closes) = at.answered(stranger.as_bytes()).await;
        // hyper waits for the body, which the client does not send.
        assert_eq!((status(&answered), closes), (401, path == "own"), "{path}: {answered}");
    }
}
