//! What a stop does to connections.

use std::{net::SocketAddr, time::Duration};

use axum::{Extension, extract::State, routing::get};
use service_kit::edge::{KeepOpen, Limits};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use super::*;

/// Requests that have begun, and whether they may end.
#[derive(Clone)]
struct Handler {
    begun: watch::Sender<usize>,
    end: watch::Sender<bool>,
}

impl Handler {
    async fn waits(State(handler): State<Self>) {
        handler.begun.send_modify(|begun| *begun += 1);
        let mut end = handler.end.subscribe();
        end.wait_for(|end| *end).await.unwrap();
    }

    async fn holds(handler: State<Self>, Extension(connection): Extension<KeepOpen>) {
        let _held = connection.hold();
        Self::waits(handler).await;
    }
}

async fn ask(address: SocketAddr, path: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

/// Until the connection ends.
async fn received(mut client: TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is reset has ended, too.
    let _end = client.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_stop_cuts_off_what_does_not_hold_its_connection_open() {
    let handler = Handler {
        begun: watch::Sender::new(0),
        end: watch::Sender::new(false),
    };
    let router = Router::new()
        .route("/waits", get(Handler::waits))
        .route("/holds", get(Handler::holds))
        .with_state(handler.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let public = format!("http://{address}").parse().unwrap();
    let site = Site {
        router,
        direct: Arc::default(),
        hosts: Arc::new(Hosts::new(public, &[])),
        https: false,
        http_path: HttpPath::Own,
    };
    let stop = Stop {
        begun: CancellationToken::new(),
        drain: Duration::ZERO,
    };
    let serving = serve(listener, Gate::new(Limits::default()), site, None, stop.clone());
    let serving = tokio::spawn(serving);
    let mut begun = handler.begun.subscribe();
    let holds = ask(address, "/holds").await;
    begun.wait_for(|begun| *begun == 1).await.unwrap();
    // One on each thread, which cuts off the older connections first.
    let threads = thread::available_parallelism().unwrap().get();
    let mut cut_off = Vec::new();
    for _ in 0..threads {
        cut_off.push(ask(address, "/waits").await);
    }
    begun.wait_for(|begun| *begun == 1 + threads).await.unwrap();

    stop.begun.cancel();
    for waits in cut_off {
        assert_eq!(received(waits).await, "");
    }
    handler.end.send_replace(true);
    let answer = received(holds).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    serving.await.unwrap().unwrap();
}
