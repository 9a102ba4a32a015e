//! Each of the threads that serve HTTP has its part of the connections that stay, whatever connections come and go meanwhile.

use std::{fs, io, thread};

use integration_tests::Stack;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Requests of each client whose connection stays.
const REQUESTS: usize = 100;

/// How often each thread that serves HTTP has waited for something to do.
fn waits(pid: i32) -> Vec<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let read = |thread: io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(thread.ok()?.path().join("status")).ok()?;
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let waits = field("voluntary_ctxt_switches:")?.parse().ok()?;
        (field("Name:")? == "http").then_some(waits)
    };
    threads.filter_map(read).collect()
}

/// A client with a connection of its own.
struct Client(TcpStream);

impl Client {
    async fn connected(stack: &Stack) -> Self {
        let mut client = Self(TcpStream::connect(stack.http()).await.expect("it listens"));
        client.asks("keep-alive").await;
        client
    }

    async fn asks(&mut self, connection: &str) {
        let request = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: {connection}\r\n\r\n");
        self.0.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(self.0.read_u8().await.expect("it answers"));
        }
        let head = String::from_utf8(answer).expect("a head is ASCII").to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let mut lines = head.lines();
        let length = lines.find_map(|line| line.strip_prefix("content-length: "));
        let length = length
            .and_then(|length| length.parse().ok())
            .expect("it says how long it is");
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.expect("the body comes, too");
    }

    /// Until the server has closed the connection.
    async fn leaves(mut self) {
        self.asks("close").await;
        let left = self.0.read(&mut [0]).await.expect("it closes well");
        assert_eq!(left, 0);
    }
}

/// If the threads took turns, one would have all of these connections.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_stay_are_shared_among_the_threads() {
    let stack = Stack::start().await;
    let threads = waits(stack.pid()).len();
    assert_eq!(threads, thread::available_parallelism().expect("it is known").get());
    let mut staying = Vec::new();
    for _ in 0..8 * threads {
        staying.push(Client::connected(&stack).await);
        let mut passing = Vec::new();
        for _ in 1..threads {
            passing.push(Client::connected(&stack).await);
        }
        for client in passing {
            client.leaves().await;
        }
    }
    let before = waits(stack.pid());
    for _ in 0..REQUESTS {
        for client in &mut staying {
            client.asks("keep-alive").await;
        }
    }
    let waited: Vec<_> = before
        .iter()
        .zip(waits(stack.pid()))
        .map(|(before, after)| after - before)
        .collect();
    let all: u64 = waited.iter().sum();
    assert!(
        all >= (REQUESTS * staying.len()) as u64 / 2,
        "they waited for each request: {waited:?}"
    );
    let part = all / threads as u64;
    assert!(waited.iter().all(|waits| *waits >= part / 2), "{waited:?}");
}
