//! The server under test, and its clients.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use integration_tests::{McpClient, Stack, mcp::McpOptions, wait::eventually, walk};
use nix::{
    time::{ClockId, clock_getcpuclockid},
    unistd::Pid,
};
use reqwest::{Method, RequestBuilder, redirect::Policy};

use crate::{
    shapes::Way,
    table::Livez,
    upstream::{Told, Upstream},
};

/// The least processor time for a figure.
const ENOUGH: Duration = Duration::from_millis(150);
/// The most requests for a figure.
const MOST: u32 = 400;
/// How long `/livez` is measured.
const ASKING: Duration = Duration::from_millis(1500);
/// How many clients send requests meanwhile.
const SENDERS: usize = 2;

/// The server under test.
pub(crate) struct Server {
    stack: Stack,
    upstream: Upstream,
    http: reqwest::Client,
    grpc: reqwest::Client,
    token: String,
    /// An MCP session of the revision with batches, which also accepts everything else.
    session: String,
    cookies: String,
    clock: ClockId,
}

/// A request that can be sent repeatedly.
#[derive(Clone)]
pub(crate) struct Request {
    path: String,
    grpc: bool,
    headers: Vec<(String, Vec<u8>)>,
    body: Bytes,
    told: Told,
    /// The size of the shape.
    pub(crate) bytes: usize,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let upstream = Upstream::start().await;
        let mut builder = Stack::builder()
            .variable("RUST_LOG", "error")
            .flag("--max-calls", "256");
        for flag in [
            "--max-requests-per-minute",
            "--max-writes-per-minute",
            "--max-sessions-per-minute",
        ] {
            builder = builder.flag(flag, "1000000000");
        }
        let stack = builder.start().await;
        let (admin, alice) = (stack.admin(), stack.member("alice"));
        admin.publish("told", walk::remote(&upstream.url())).await;
        alice.install("told", None, &[]).await;
        admin.gateway("cost").await;
        admin.assign("cost", "told", "go").await;
        let options = McpOptions {
            revision: "2025-03-26".to_owned(),
            ..McpOptions::default()
        };
        let client = McpClient::connect(&stack.mcp_url("cost"), Some(alice.token()), options)
            .await
            .expect("it is taken");
        let session = client.session().expect("there is one").to_owned();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .build()
            .expect("a client");
        let grpc = reqwest::Client::builder()
            .no_proxy()
            .http2_prior_knowledge()
            .build()
            .expect("a client");
        let cookies = sign_in(&stack, &http).await;
        let clock = clock_getcpuclockid(Pid::from_raw(stack.pid())).expect("it runs");
        Self {
            token: alice.token().to_owned(),
            upstream,
            http,
            grpc,
            session,
            cookies,
            clock,
            stack,
        }
    }

    /// Makes the request that sends a shape in this way.
    pub(crate) fn prepare(&self, way: Way, shape: &[u8]) -> Request {
        let call = |arguments: &[u8], more: &[u8]| {
            let head = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"told__go\",\"arguments\":";
            [head.as_slice(), arguments, b"}", more, b"}"].concat()
        };
        let small = || call(b"{}", b"");
        let mut told = Told::nothing();
        let mut headers = vec![(
            "authorization".to_owned(),
            format!("Bearer {}", self.token).into_bytes(),
        )];
        let (path, body) = match way {
            Way::Arguments => ("/mcp/cost", call(&[b"{\"v\":", shape, b"}"].concat(), b"")),
            Way::Envelope => ("/mcp/cost", call(b"{}", shape)),
            Way::Body => ("/mcp/cost", shape.to_vec()),
            Way::Answer | Way::AnswerEnvelope | Way::Event | Way::Events => {
                told = match way {
                    Way::Answer => Told::json(&[b"{\"content\":[],\"v\":", shape, b"}"].concat(), b""),
                    Way::AnswerEnvelope => Told::json(b"{\"content\":[]}", shape),
                    Way::Event => Told::event(&[b"{\"content\":[],\"v\":", shape, b"}"].concat()),
                    _ => Told::events(shape),
                };
                ("/mcp/cost", small())
            }
            Way::Head => {
                for line in shape.split(|byte| *byte == b'\n').filter(|line| line.len() > 1) {
                    let colon = line.iter().position(|byte| *byte == b':').expect("it is a header");
                    let name = String::from_utf8_lossy(&line[..colon]).into_owned();
                    headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
                }
                ("/mcp/cost", small())
            }
            Way::CallTool => {
                let request = contracts::gateway::CallToolRequest {
                    parent: "gateways/cost".to_owned(),
                    exposed_name: "told__go".to_owned(),
                    arguments_json: format!("{{\"v\":{}}}", String::from_utf8_lossy(shape)),
                };
                (
                    "/chandlery.gateway.v1.ToolService/CallTool",
                    prost::Message::encode_to_vec(&request),
                )
            }
            Way::CreateEntry => ("/chandlery.registry.v1.EntryService/CreateEntry", shape.to_vec()),
            Way::Query | Way::PageToken => {
                let text = String::from_utf8_lossy(shape).into_owned();
                let request = match way {
                    Way::Query => contracts::registry::ListEntriesRequest {
                        query: text,
                        ..Default::default()
                    },
                    _ => contracts::registry::ListEntriesRequest {
                        page_token: text,
                        ..Default::default()
                    },
                };
                (
                    "/chandlery.registry.v1.EntryService/ListEntries",
                    prost::Message::encode_to_vec(&request),
                )
            }
            Way::Form => {
                headers = vec![
                    ("cookie".to_owned(), self.cookies.clone().into_bytes()),
                    ("sec-fetch-site".to_owned(), b"same-origin".to_vec()),
                    ("content-type".to_owned(), b"application/x-www-form-urlencoded".to_vec()),
                ];
                ("/install/demo", shape.to_vec())
            }
        };
        let grpc = path.starts_with("/chandlery.");
        let mut body = body;
        if grpc {
            let length = u32::try_from(body.len()).expect("it is short enough").to_be_bytes();
            body = [&[0], length.as_slice(), &body].concat();
            headers.push(("content-type".to_owned(), b"application/grpc".to_vec()));
            headers.push(("te".to_owned(), b"trailers".to_vec()));
        } else if way != Way::Form {
            headers.push(("content-type".to_owned(), b"application/json".to_vec()));
            headers.push(("mcp-session-id".to_owned(), self.session.clone().into_bytes()));
            if !headers.iter().any(|(name, _)| name == "accept") {
                headers.push(("accept".to_owned(), b"application/json, text/event-stream".to_vec()));
            }
        }
        Request {
            path: path.to_owned(),
            grpc,
            headers,
            body: body.into(),
            told,
            bytes: shape.len(),
        }
    }

    /// Nanoseconds of processor time per byte of the shape.
    pub(crate) async fn cost(&self, request: &Request) -> f64 {
        self.upstream.tell(request.told.clone());
        self.send(request).await;
        let begin = self.spent();
        let mut count = 0;
        while count < MOST && (count < 3 || self.spent() - begin < ENOUGH) {
            self.send(request).await;
            count += 1;
        }
        (self.spent() - begin).as_secs_f64() * 1e9 / f64::from(count) / request.bytes as f64
    }

    /// The latency of `/livez` while this request is sent continuously, or a small one if there is none.
    pub(crate) async fn responsiveness(self: &Arc<Self>, request: Option<Request>) -> Livez {
        let request = request.unwrap_or_else(|| self.prepare(Way::Arguments, b"0"));
        self.upstream.tell(request.told.clone());
        let over = Arc::new(AtomicBool::new(false));
        let mut senders = tokio::task::JoinSet::new();
        for _ in 0..SENDERS {
            let (this, request, over) = (Arc::clone(self), request.clone(), Arc::clone(&over));
            senders.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    this.send(&request).await;
                }
            });
        }
        let mut times = Vec::new();
        let begin = Instant::now();
        while begin.elapsed() < ASKING {
            let asked = Instant::now();
            let answer = self
                .http
                .get(self.stack.url("/livez"))
                .send()
                .await
                .expect("it is answered");
            assert!(answer.status().is_success(), "{answer:?}");
            answer.bytes().await.expect("it is whole");
            times.push(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        over.store(true, Ordering::Relaxed);
        senders.join_all().await;
        Livez::of(times)
    }

    /// Sends a request. Its response does not matter, since many shapes are rejected, unless a quota was exceeded.
    async fn send(&self, request: &Request) {
        let (client, address) = if request.grpc {
            (&self.grpc, self.stack.grpc())
        } else {
            (&self.http, self.stack.http())
        };
        let mut sent: RequestBuilder = client
            .request(Method::POST, format!("http://{address}{}", request.path))
            .body(request.body.clone());
        for (name, value) in &request.headers {
            sent = sent.header(name, value.as_slice());
        }
        // A server that has rejected a body may close the connection before all of it is sent.
        let Ok(answer) = sent.send().await else { return };
        let status = answer.headers().get("grpc-status").cloned();
        assert!(
            answer.status() != 429 && status.is_none_or(|status| status != "8"),
            "what is measured is not the refusal"
        );
        let _ = answer.bytes().await;
    }

    /// The server's processor time so far.
    fn spent(&self) -> Duration {
        self.clock.now().expect("it runs").into()
    }
}

/// The cookies of a person who has signed in to the install page.
async fn sign_in(stack: &Stack, http: &reqwest::Client) -> String {
    let code = eventually("the banner", || async {
        let lines = stack.lines().all();
        lines
            .iter()
            .find_map(|line| Some(line.split_once("with the code ")?.1.trim().to_owned()))
    })
    .await;
    let location = |answer: &reqwest::Response| answer.headers()["location"].to_str().expect("it is a URL").to_owned();
    let cookies = |answer: &reqwest::Response| -> String {
        let set = answer
            .headers()
            .get_all("set-cookie")
            .iter()
            .filter_map(|value| value.to_str().ok());
        set.filter_map(|cookie| cookie.split(';').next())
            .collect::<Vec<_>>()
            .join("; ")
    };
    let begun = http
        .get(stack.url("/signin?return=%2Finstall%2Fdemo&here=1"))
        .send()
        .await
        .expect("it is answered");
    let authorize = url::Url::parse(&location(&begun)).expect("it is a URL");
    let mut form: Vec<(String, String)> = authorize.query_pairs().into_owned().collect();
    form.extend([
        ("email".to_owned(), "alice@example.com".to_owned()),
        ("code".to_owned(), code),
    ]);
    let mut target = authorize;
    target.set_query(None);
    let granted = http.post(target).form(&form).send().await.expect("it is answered");
    let back = http
        .get(location(&granted))
        .header("cookie", cookies(&begun))
        .send()
        .await
        .expect("it is answered");
    cookies(&back)
}
