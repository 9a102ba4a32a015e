//! The endpoints as clients meet them: a registry's snapshot, a credential service and an upstream made for the test.

mod limits;

use std::{
    sync::Mutex,
    time::{Duration, SystemTime},
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use contracts::{
    credential::{
        ErrorReason, VendHeadersRequest, VendHeadersResponse, VendRuntimeRequest, VendRuntimeResponse, VendedHeader,
        vend_service_server::{VendService, VendServiceServer},
    },
    registry::{self as pb, watched_object::Object},
};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use pretty_assertions::assert_eq;
use registry_client::watch::Sink as _;
use serde_json::{Value, json};
use service_kit::{
    Workload,
    egress::EgressPolicy,
    identity::Verifier,
    pipe::pipe,
    quota::Allowance,
    status::{Reason, StatusBuilder},
};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tonic::{Code, Status, transport::Server};
use tower::ServiceExt as _;
use url::Url;

use super::*;
use crate::{
    identity::{TokenUses, metadata_routes},
    snapshot::{
        Feed,
        testing::{ISSUER, Made, Registry, fill, gateway, plain_gateway, plain_revision, put, user_id},
    },
    upstream::{Limits, Upstreams},
    vend::Vendor,
};

/// Vends `secret-{generation}`, one generation further with each refusal; `None`: there is no other.
#[derive(Clone)]
struct Credentials(Arc<Mutex<Option<i64>>>);

#[tonic::async_trait]
impl VendService for Credentials {
    async fn vend_headers(
        &self,
        request: tonic::Request<VendHeadersRequest>,
    ) -> Result<tonic::Response<VendHeadersResponse>, Status> {
        let rejected = request.into_inner().rejected_credential_generation;
        let best = *self.0.lock().unwrap();
        let refuse = |reason| {
            let reason = Reason::of(reason, ErrorReason::as_str_name);
            StatusBuilder::new(Code::FailedPrecondition, reason, "no").build()
        };
        let generation = if rejected == 0 {
            1
        } else {
            best.ok_or_else(|| refuse(ErrorReason::CredentialExpired))?
        };
        Ok(tonic::Response::new(VendHeadersResponse {
            headers: vec![VendedHeader {
                name: "authorization".to_owned(),
                value: format!("Bearer secret-{generation}"),
            }],
            credential_generation: generation,
            entry_credential_generation: 0,
            expire_time: Some((SystemTime::now() + Duration::from_secs(300)).into()),
        }))
    }

    async fn vend_runtime(
        &self,
        _: tonic::Request<VendRuntimeRequest>,
    ) -> Result<tonic::Response<VendRuntimeResponse>, Status> {
        Err(Status::permission_denied("not for the gateway"))
    }
}

struct World {
    router: Router,
    feed: Feed,
    registry: Registry,
    seen: mpsc::UnboundedReceiver<(Value, HeaderMap)>,
    credentials: Credentials,
    stop: CancellationToken,
}

fn token(name: &str, who: &str) -> pb::WatchedObject {
    let gateway_token = Some(pb::GatewayToken {
        name: format!("gatewayTokens/{name}"),
        subject: Some(pb::gateway_token::Subject::User(user_id(who).resource_name())),
        ..pb::GatewayToken::default()
    });
    let token_hash = Sha256::digest(format!("cht_{name}")).to_vec();
    let (issuer, subject) = (ISSUER.to_owned(), who.to_owned());
    put(
        name,
        Object::GatewayToken(pb::WatchedGatewayToken {
            gateway_token,
            token_hash,
            issuer,
            subject,
        }),
    )
}

/// Alice has installed `mail`, Bob has not; the gateway `default` exposes `mail`'s tool `send` and passes `x-trace` through; `ops` is a team's.
async fn world(upstream: impl Fn(Value, HeaderMap) -> Response + Send + Sync + 'static) -> World {
    world_with(Quotas::boundless(), upstream).await
}

/// One where callers may do so much.
async fn world_with(
    quotas: Arc<Quotas>,
    upstream: impl Fn(Value, HeaderMap) -> Response + Send + Sync + 'static,
) -> World {
    let upstream = Arc::new(upstream);
    let (sender, seen) = mpsc::unbounded_channel();
    let respond = move |request: Request| {
        let (upstream, sender) = (Arc::clone(&upstream), sender.clone());
        async move {
            let headers = request.headers().clone();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let message: Value = serde_json::from_slice(&body).unwrap();
            sender.send((message.clone(), headers.clone())).unwrap();
            match message["method"].as_str() {
                Some("initialize") => axum::Json(
                    json!({"jsonrpc": "2.0", "id": message["id"], "result": {"protocolVersion": "2025-11-25"}}),
                )
                .into_response(),
                Some("tools/call") => upstream(message, headers),
                _ => StatusCode::ACCEPTED.into_response(),
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(respond))).await });

    let running = pb::EntryRevision {
        server: Some(pb::entry_revision::Server::Remote(pb::RemoteServer { url })),
        credential_model: Some(pb::entry_revision::CredentialModel::StaticCredential(
            pb::StaticCredential {
                field: "key".to_owned(),
                injection: Some(crate::snapshot::testing::bearer()),
            },
        )),
        ..plain_revision("mail")
    };
    let shared = pb::Gateway {
        passthrough_headers: vec!["x-trace".to_owned()],
        ..plain_gateway("default")
    };
    let ops = pb::Gateway {
        visibility: crate::snapshot::testing::visible_to_team("ops"),
        ..plain_gateway("ops")
    };
    let registry = Registry::default()
        .entry("mail", &["send"])
        .with(gateway(shared))
        .with(gateway(ops))
        .assign("default", "mail", "send")
        .team("ops", &["carol"])
        .install(Made {
            running: Some(running),
            ..Made::new("i-alice", "mail", "alice")
        })
        .tools("i-alice", &["send"])
        .with(token("alice", "alice"))
        .with(token("bob", "bob"));

    let clock = Clock::System;
    let store = Store::new(Duration::from_secs(60), clock.clone());
    let mut feed = Feed::new(Arc::clone(&store), mpsc::unbounded_channel().0);
    fill(&mut feed, 1, registry.objects.clone()).await;
    feed.connected(true);
    let credentials = Credentials(Arc::default());
    let (channel, incoming) = pipe(Workload::Gateway);
    tokio::spawn(
        Server::builder()
            .add_service(VendServiceServer::new(credentials.clone()))
            .serve_with_incoming(incoming),
    );
    let vendor = Arc::new(Vendor::new(channel, clock.clone()));
    let upstreams = Upstreams::new(
        EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()]),
        Limits::default(),
    );
    let public_url: Url = "http://127.0.0.1:8080".parse().unwrap();
    let links = Links::new(public_url.clone());
    let calls = Calls::new(Arc::clone(&store), vendor, upstreams, links.clone(), Arc::new(|_| {}));
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let verifier = Arc::new(Verifier::new(Vec::new(), clock.clone()).unwrap());
    let identity = Identity::new(
        Arc::clone(&verifier),
        Arc::clone(&store),
        Arc::new(TokenUses::default()),
        clock.clone(),
    );
    let config = Config::new(public_url, [1; 32], [2; 32]);
    let stop = CancellationToken::new();
    let mcp = Mcp::new(
        &config,
        Arc::new(calls),
        Arc::new(identity),
        store,
        quotas,
        clock,
        stop.clone(),
    );
    let router = routes(Arc::new(mcp)).merge(metadata_routes(&verifier, &links));
    World {
        router,
        feed,
        registry,
        seen,
        credentials,
        stop,
    }
}

fn answers(result: &'static str) -> impl Fn(Value, HeaderMap) -> Response + Send + Sync {
    move |message, _| {
        raw(format!(
            r#"{{"result":{result},"jsonrpc":"2.0","id":{}}}"#,
            message["id"]
        ))
    }
}

fn raw(text: String) -> Response {
    ([("content-type", "application/json")], text).into_response()
}

/// A request as `who`, with these further headers.
fn request(method: &str, path: &str, who: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request {
    let mut request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1:8080");
    if !who.is_empty() {
        request = request.header("authorization", format!("Bearer cht_{who}"));
    }
    if method == "POST" {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

async fn text(response: Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

impl World {
    async fn send(&self, request: Request) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn open(&self, who: &str, revision: &str, capabilities: Value) -> String {
        let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": revision, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}}});
        let response = self
            .send(request("POST", "/mcp/default", who, &[], body.to_string()))
            .await;
        assert_eq!(response.status(), 200);
        let session = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        let message: Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(message["result"]["protocolVersion"], revision);
        assert_eq!(
            message["result"]["capabilities"],
            json!({"tools": {"listChanged": true}})
        );
        session
    }

    async fn post(&self, who: &str, session: &str, body: impl Into<Body>) -> Response {
        self.send(request(
            "POST",
            "/mcp/default",
            who,
            &[("mcp-session-id", session)],
            body,
        ))
        .await
    }

    async fn ask(&self, who: &str, session: &str, body: &str) -> Value {
        serde_json::from_str(&text(self.post(who, session, body.to_owned()).await).await).unwrap()
    }

    /// What the upstream got as its last `tools/call`.
    fn last_call(&mut self) -> (Value, HeaderMap) {
        let mut last = None;
        while let Ok((message, headers)) = self.seen.try_recv() {
            if message["method"] == "tools/call" {
                last = Some((message, headers));
            }
        }
        last.expect("a call came")
    }
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":"c1","method":"tools/call","params":{"name":"mail__send","arguments":{"n":12345678901234567890}}}"#;

#[tokio::test]
async fn lists_and_calls_with_everything_as_it_came() {
    let result = r#"{"content":[{"type":"text","text":"ok","x":{"y":1.0}}],"_meta":{"big":98765432109876543210}}"#;
    let mut world = world(answers(result)).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let listed = world
        .ask("alice", &session, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await;
    assert_eq!(listed["result"]["tools"][0]["name"], "mail__send");
    let call = r#"{"jsonrpc":"2.0","id":"c1","method":"tools/call","params":{"name":"mail__send","arguments":{"n":12345678901234567890},"later":1.0,"_meta":{"k":[1]}}}"#;
    let sent = request(
        "POST",
        "/mcp/default",
        "alice",
        &[
            ("mcp-session-id", &session),
            ("x-trace", "t1"),
            ("x-other", "no"),
            ("cookie", "no"),
        ],
        call,
    );
    let response = world.send(sent).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(
        text(response).await,
        format!(r#"{{"result":{result},"jsonrpc":"2.0","id":"c1"}}"#)
    );
    let (message, headers) = world.last_call();
    assert_eq!(
        message["params"].to_string().len(),
        r#"{"name":"send","arguments":{"n":12345678901234567890},"later":1.0,"_meta":{"k":[1]}}"#.len()
    );
    assert_eq!(message["params"]["name"], "send");
    assert_ne!(message["id"], "c1", "upstreams see ids of ours");
    assert_eq!(headers["authorization"], "Bearer secret-1");
    assert_eq!(headers["x-trace"], "t1");
    assert!(!headers.contains_key("x-other") && !headers.contains_key("cookie"));
}

/// Lesson 35, and what architecture.md says of it.
#[tokio::test]
async fn who_has_no_credential_gets_the_install_link() {
    let mut world = world(answers("{}")).await;
    let session = world.open("bob", "2025-06-18", json!({})).await;
    let listed = world
        .ask("bob", &session, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await;
    assert_eq!(
        listed["result"]["tools"][0]["name"], "mail__send",
        "also what is not connected is listed"
    );
    let link = "http://127.0.0.1:8080/install/mail?gateway=default";
    let result = &world.ask("bob", &session, CALL).await["result"];
    assert_eq!(
        result["structuredContent"],
        json!({"error": "credential_required", "entry": "mail", "install_url": link})
    );
    assert!(result["content"][0]["text"].as_str().unwrap().contains(link));
    let session = world
        .open("bob", "2025-11-25", json!({"elicitation": {"url": {}}}))
        .await;
    let error = &world.ask("bob", &session, CALL).await["error"];
    assert_eq!(
        (&error["code"], &error["data"]["elicitations"][0]["url"]),
        (&json!(-32042), &json!(link))
    );
    assert!(world.seen.try_recv().is_err(), "nothing was sent");
}

#[tokio::test]
async fn nobody_else_uses_a_session() {
    let world = world(answers("{}")).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(world.post("alice", &session, ping).await.status(), 200);
    assert_eq!(world.post("bob", &session, ping).await.status(), 404);
    assert_eq!(world.post("alice", "forged", ping).await.status(), 404);
    let without = world.send(request("POST", "/mcp/default", "alice", &[], ping)).await;
    assert_eq!(without.status(), 400);
    let delete = request("DELETE", "/mcp/default", "bob", &[("mcp-session-id", &session)], "");
    assert_eq!(world.send(delete).await.status(), 404);
    assert_eq!(world.post("alice", &session, ping).await.status(), 200);
    let delete = request("DELETE", "/mcp/default", "alice", &[("mcp-session-id", &session)], "");
    assert_eq!(world.send(delete).await.status(), 204);
    assert_eq!(world.post("alice", &session, ping).await.status(), 404);
}

#[tokio::test]
async fn the_door_is_for_known_callers_and_hosts() {
    let world = world(answers("{}")).await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for path in ["/mcp/default", "/mcp/nothing-here"] {
        let anonymous = world.send(request("POST", path, "", &[], ping)).await;
        assert_eq!(anonymous.status(), 401);
        let challenge = anonymous.headers()["www-authenticate"].to_str().unwrap();
        assert_eq!(
            challenge,
            format!("Bearer resource_metadata=\"http://127.0.0.1:8080/.well-known/oauth-protected-resource{path}\"")
        );
    }
    for (bad, why) in [
        ("Bearer cht_unknown", "it is not a gateway token, or it was revoked"),
        ("Bearer a.b.c", "it is neither a gateway token"),
        ("Bearer eyJhbGciOiJub25lIn0.e30.", "it is neither a gateway token"),
    ] {
        let headers = [("authorization", bad)];
        let refused = world.send(request("POST", "/mcp/default", "", &headers, ping)).await;
        assert_eq!(refused.status(), 401);
        let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
        assert!(
            challenge.contains("invalid_token") && challenge.contains(why),
            "{challenge}"
        );
    }
    for path in ["/mcp/nothing-here", "/mcp/ops", "/agents/default/mcp", "/mcp/%C3%BC"] {
        let gone = world.send(request("POST", path, "alice", &[], ping)).await;
        assert_eq!(gone.status(), 404, "{path}");
    }
    let rebound = http::Request::builder()
        .method("POST")
        .uri("/mcp/default")
        .header("host", "evil.example")
        .body(Body::empty())
        .unwrap();
    assert_eq!(world.send(rebound).await.status(), 403);
    assert_eq!(
        world
            .send(request(
                "POST",
                "/mcp/default",
                "alice",
                &[("origin", "http://evil.example")],
                ping
            ))
            .await
            .status(),
        403
    );
    let metadata = world
        .send(request(
            "GET",
            "/.well-known/oauth-protected-resource/mcp/default",
            "",
            &[],
            "",
        ))
        .await;
    let metadata: Value = serde_json::from_str(&text(metadata).await).unwrap();
    assert_eq!(metadata["resource"], "http://127.0.0.1:8080/mcp/default");
}

#[tokio::test]
async fn a_deactivated_user_and_a_revoked_token_are_out_at_once() {
    let mut world = world(answers("{}")).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let gone = put(
        "d",
        Object::DeactivatedUser(pb::DeactivatedUser {
            user: user_id("alice").resource_name(),
        }),
    );
    fill(&mut world.feed, 2, world.registry.clone().with(gone).objects).await;
    assert_eq!(world.post("alice", &session, CALL).await.status(), 401);
    fill(&mut world.feed, 3, world.registry.clone().objects).await;
    assert_eq!(world.post("alice", &session, CALL).await.status(), 200);
    let without: Vec<_> = world
        .registry
        .objects
        .iter()
        .filter(|object| object.key != "alice")
        .cloned()
        .collect();
    fill(&mut world.feed, 4, without).await;
    assert_eq!(world.post("alice", &session, CALL).await.status(), 401);
}

#[tokio::test]
async fn messages_that_cannot_be_taken_are_refused_by_name() {
    let world = world(answers("{}")).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    for (body, status, code) in [
        ("{", 400, -32700),
        ("[]", 400, -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, 400, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"nothing"}"#, 200, -32601),
        (r#"{"jsonrpc":"2.0","id":1,"method":"resources/list"}"#, 200, -32601),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#,
            200,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"no"}}"#,
            200,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"x"}}"#,
            200,
            -32602,
        ),
    ] {
        let response = world.post("alice", &session, body).await;
        assert_eq!(response.status(), status, "{body}");
        let message: Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(message["error"]["code"], code, "{body}");
    }
    let large = world.post("alice", &session, vec![b' '; (4 << 20) + 1]).await;
    assert_eq!(large.status(), 413);
    let kind = [("mcp-session-id", session.as_str()), ("accept", "text/html")];
    assert_eq!(
        world
            .send(request("POST", "/mcp/default", "alice", &kind, CALL))
            .await
            .status(),
        406
    );
    assert_eq!(
        world
            .send(request("PUT", "/mcp/default", "alice", &[], ""))
            .await
            .status(),
        405
    );
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert_eq!(world.post("alice", &session, notification).await.status(), 202);
}

/// A client that tries 2026-07-28 goes on with `initialize`: the answer is an error, and none of that revision's own.
#[tokio::test]
async fn a_modern_request_is_answered_as_by_an_older_server() {
    let world = world(answers("{}")).await;
    let discover = r#"{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let modern = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "server/discover"),
    ];
    let response = world
        .send(request("POST", "/mcp/default", "alice", &modern, discover))
        .await;
    assert_eq!(response.status(), 400);
    let message: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!((&message["id"], &message["error"]["code"]), (&json!(1), &json!(-32000)));
}

#[tokio::test]
async fn only_the_oldest_revision_has_batches() {
    let world = world(answers(r#"{"content":[]}"#)).await;
    let batch = format!(
        r#"[{{"jsonrpc":"2.0","id":1,"method":"ping"}},{{"jsonrpc":"2.0","method":"notifications/x"}},{CALL},5]"#
    );
    let session = world.open("alice", "2025-03-26", json!({})).await;
    let answer = world.ask("alice", &session, &batch).await;
    assert_eq!(answer[0], json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    assert_eq!(answer[1]["id"], "c1");
    assert_eq!(answer[2]["error"]["code"], -32600);
    let session = world.open("alice", "2025-11-25", json!({})).await;
    assert_eq!(world.post("alice", &session, batch).await.status(), 400);
}

#[tokio::test]
async fn a_refused_credential_is_replaced_or_becomes_a_link() {
    let respond = |message: Value, headers: HeaderMap| {
        if headers["authorization"] == "Bearer secret-2" {
            return answers(r#"{"content":[]}"#)(message, headers);
        }
        StatusCode::UNAUTHORIZED.into_response()
    };
    let replaced = world(respond).await;
    *replaced.credentials.0.lock().unwrap() = Some(2);
    let session = replaced.open("alice", "2025-11-25", json!({})).await;
    assert_eq!(
        replaced.ask("alice", &session, CALL).await["result"],
        json!({"content": []})
    );

    let world = world(respond).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let structured = &world.ask("alice", &session, CALL).await["result"]["structuredContent"];
    assert_eq!(structured["error"], "credential_expired");
    *world.credentials.0.lock().unwrap() = Some(3);
    let structured = &world.ask("alice", &session, CALL).await["result"]["structuredContent"];
    assert_eq!(
        structured["error"], "credential_expired",
        "the other one is refused too"
    );
}

#[tokio::test]
async fn streams_are_relayed_and_faults_in_them_are_told() {
    let event = |value: Value| format!("event: message\ndata: {value}\n\n");
    let respond = move |message: Value, _| {
        let token = &message["params"]["_meta"]["progressToken"];
        let mut events = event(
            json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}}),
        );
        if message["params"]["arguments"]["whole"] == true {
            events += &event(json!({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}}));
        }
        ([("content-type", "text/event-stream")], events).into_response()
    };
    let world = world(respond).await;
    let session = world.open("alice", "2025-06-18", json!({})).await;
    for (whole, last) in [(true, json!({"content": []})), (false, Value::Null)] {
        let call = json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "mail__send", "arguments": {"whole": whole}, "_meta": {"progressToken": "p9"}}});
        let response = world.post("alice", &session, call.to_string()).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let events = text(response).await;
        let events: Vec<Value> = events
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap())
            .collect();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0]["params"], json!({"progressToken": "p9", "progress": 1}));
        assert_eq!(events[1]["id"], 9);
        if last.is_null() {
            assert_eq!(
                events[1]["result"]["structuredContent"],
                json!({"error": "upstream_invalid", "entry": "mail"})
            );
        } else {
            assert_eq!(events[1]["result"], last);
        }
    }
    let json_only = [("mcp-session-id", session.as_str()), ("accept", "application/json")];
    let call = CALL.replace(r#"{"n":12345678901234567890}"#, r#"{"whole":true}"#);
    let response = world
        .send(request("POST", "/mcp/default", "alice", &json_only, call))
        .await;
    assert_eq!(
        text(response).await,
        r#"{"id":"c1","jsonrpc":"2.0","result":{"content":[]}}"#
    );
}

/// Lesson 14: cancellation is routed.
#[tokio::test]
async fn a_cancelled_call_is_cancelled_at_the_upstream() {
    let mut world = world(|_, _| {
        let never = futures::stream::pending::<Result<Bytes, std::convert::Infallible>>();
        ([("content-type", "text/event-stream")], Body::from_stream(never)).into_response()
    })
    .await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let response = world.post("alice", &session, CALL).await;
    assert_eq!(response.status(), 200);
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"c1"}}"#;
    assert_eq!(world.post("alice", &session, cancel).await.status(), 202);
    assert_eq!(text(response).await, "", "a cancelled call has no answer");
    let mut called = None;
    loop {
        let (message, _) = world.seen.recv().await.unwrap();
        match message["method"].as_str() {
            Some("tools/call") => called = Some(message["id"].clone()),
            Some("notifications/cancelled") => {
                assert_eq!(Some(&message["params"]["requestId"]), called.as_ref());
                break;
            }
            _ => {}
        }
    }
}

/// Lesson 15: `list_changed` reaches whoever holds a stream open, and whoever comes back.
#[tokio::test]
async fn a_changed_list_is_told() {
    let mut world = world(answers("{}")).await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let accept = [("mcp-session-id", session.as_str()), ("accept", "text/event-stream")];
    let stream = world.send(request("GET", "/mcp/default", "alice", &accept, "")).await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut stream = stream.into_body();
    let mut next = async || {
        let frame = tokio::time::timeout(Duration::from_secs(10), stream.frame())
            .await
            .expect("an event comes");
        frame.map(|frame| String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
    };
    let first = next().await.unwrap();
    let told = first.lines().next().unwrap().strip_prefix("id: ").unwrap().to_owned();
    // Another revision, with the same list; then one with another.
    fill(&mut world.feed, 2, world.registry.objects.clone()).await;
    let more = world
        .registry
        .clone()
        .tools("e-mail", &["read", "send"])
        .tools("i-alice", &["read", "send"])
        .assign("default", "mail", "read");
    fill(&mut world.feed, 3, more.objects.clone()).await;
    assert!(next().await.unwrap().contains("notifications/tools/list_changed"));
    let back = [accept[0], accept[1], ("last-event-id", told.as_str())];
    let mut missed = world
        .send(request("GET", "/mcp/default", "alice", &back, ""))
        .await
        .into_body();
    let event = missed.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(
        event.windows(12).any(|part| part == b"list_changed"),
        "what was missed is told"
    );
    let without: Vec<_> = more
        .objects
        .iter()
        .filter(|object| object.key != "alice")
        .cloned()
        .collect();
    fill(&mut world.feed, 4, without).await;
    assert_eq!(next().await, None, "the token was revoked");
    world.stop.cancel();
}

#[tokio::test]
async fn a_large_result_is_passed_on_whole() {
    let world = world(|message, _| {
        raw(format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[{{"type":"text","text":"{}"}}]}}}}"#,
            message["id"],
            "x".repeat(3_000_000)
        ))
    })
    .await;
    let session = world.open("alice", "2025-11-25", json!({})).await;
    let response = world.post("alice", &session, CALL).await;
    let message: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(message["id"], "c1");
    assert_eq!(
        message["result"]["content"][0]["text"].as_str().unwrap().len(),
        3_000_000
    );
}
