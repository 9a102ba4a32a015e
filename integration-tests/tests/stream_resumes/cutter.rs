//! Stands between a client and the gateway, and breaks each stream that answers a POST after its first event.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, BodyDataStream},
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderValue, Method, StatusCode, header::CONNECTION};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use integration_tests::upstream::Served;

#[derive(Debug)]
pub(super) struct Cutter {
    pub(super) served: Served,
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    gateway: String,
    client: Client<HttpConnector, Body>,
    cut: AtomicUsize,
    resumed: AtomicUsize,
}

impl Cutter {
    /// How many streams it has broken.
    pub(super) fn cut(&self) -> usize {
        self.line.cut.load(Ordering::SeqCst)
    }

    /// How many streams the client went on with.
    pub(super) fn resumed(&self) -> usize {
        self.line.resumed.load(Ordering::SeqCst)
    }
}

/// Starts it before the program at an address.
pub(super) async fn start(gateway: &str) -> Cutter {
    let line = Arc::new(Line {
        gateway: gateway.to_owned(),
        client: Client::builder(TokioExecutor::new()).build_http(),
        cut: AtomicUsize::new(0),
        resumed: AtomicUsize::new(0),
    });
    let served = Served::start(Router::new().fallback(relay).with_state(Arc::clone(&line))).await;
    Cutter { served, line }
}

async fn relay(State(line): State<Arc<Line>>, mut request: Request) -> Response {
    let target = format!("http://{}{}", line.gateway, request.uri());
    *request.uri_mut() = target.parse().expect("an address and a path");
    let is_post = request.method() == Method::POST;
    if request.headers().contains_key("last-event-id") {
        line.resumed.fetch_add(1, Ordering::SeqCst);
    }
    let mut response = match line.client.request(request).await {
        Ok(response) => response,
        Err(error) => return (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    };
    // Or the client's next request may be sent on a connection that is just being broken.
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    let kind = response.headers().get("content-type");
    if !is_post || kind.is_none_or(|kind| kind != "text/event-stream") {
        return response.map(Body::new);
    }
    line.cut.fetch_add(1, Ordering::SeqCst);
    response.map(|body| Body::from_stream(first_event(Body::new(body).into_data_stream())))
}

/// The first event, and a fault.
fn first_event(body: BodyDataStream) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some((body, Vec::new())), |state| async {
        let (mut body, mut came) = state?;
        if came.windows(2).any(|two| two == b"\n\n") {
            // What is there is sent first.
            tokio::task::yield_now().await;
            return Some((Err(io::ErrorKind::ConnectionReset.into()), None));
        }
        let data = body.next().await?.map_err(io::Error::other);
        came.extend_from_slice(data.as_deref().unwrap_or_default());
        Some((data, Some((body, came))))
    })
}
