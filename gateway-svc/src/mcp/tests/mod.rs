//! The endpoints as clients meet them: a registry's snapshot, a credential service and an upstream made for the test.

mod admission;
mod alike;
mod allocations;
mod beside;
mod calls;
mod events;
mod known;
mod limits;
mod listening;
mod messages;
mod modern;
mod modern_server;
mod own_tools;
mod parked;
mod relay;
mod requests;
mod resumes;
mod searched;
mod shared;
mod shared_sessions;
mod streams;
mod tasks;
mod two_servers;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
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
use http::{HeaderMap, StatusCode, request::Parts};
use http_body_util::BodyExt as _;
use pretty_assertions::assert_eq;
use registry_client::watch::Sink as _;
use serde_json::{Value, json};
use service_kit::{
    Workload, app,
    egress::EgressPolicy,
    http1::HttpPath,
    identity::{IssuerConfig, Verifier},
    pipe::pipe,
    quota::Allowance,
    status::{Reason, StatusBuilder},
    testing::TestIssuer,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tonic::{Code, Status, transport::Server};
use tower::ServiceExt as _;
use url::Url;

use super::*;
use crate::{
    calls::Late,
    domain::Links,
    facade::AccessTokens,
    identity::TokenUses,
    snapshot::{
        Feed,
        testing::{
            ISSUER, Made, Registry, fill, gateway, plain_gateway, plain_revision, put, put_change, removal, user_id,
        },
    },
    upstream::{Limits, Upstreams},
    vend::Vendor,
};
use requests::{CALL, LIST, PING, call_with, cancel, initialize, method, post};

/// Vends `secret-{generation}`, of this generation after a refusal; `None`: there is no other.
#[derive(Clone)]
struct Credentials(Arc<Mutex<Option<i64>>>);

#[tonic::async_trait]
impl VendService for Credentials {
    async fn vend_headers(
        &self,
        request: tonic::Request<VendHeadersRequest>,
    ) -> Result<tonic::Response<VendHeadersResponse>, Status> {
        let request = request.into_inner();
        let best = *self.0.lock().unwrap();
        let refuse = |reason| {
            let reason = Reason::of(reason, ErrorReason::as_str_name);
            StatusBuilder::new(Code::FailedPrecondition, reason, "no").with("scopes", &request.demanded_scopes)
        };
        let generation = if !request.demanded_scopes.is_empty() {
            best.ok_or_else(|| refuse(ErrorReason::ScopeRequired).build())?
        } else if request.rejected_credential_generation == 0 {
            1
        } else {
            best.ok_or_else(|| refuse(ErrorReason::CredentialExpired).build())?
        };
        Ok(tonic::Response::new(VendHeadersResponse {
            headers: vec![VendedHeader {
                name: "authorization".to_owned(),
                value: format!("Bearer secret-{generation}"),
            }],
            credential_generation: generation,
            entry_credential_generation: 0,
            expire_time: Some((service_kit::Clock::System.now() + Duration::from_secs(300)).into()),
            ..VendHeadersResponse::default()
        }))
    }

    async fn vend_runtime(
        &self,
        _: tonic::Request<VendRuntimeRequest>,
    ) -> Result<tonic::Response<VendRuntimeResponse>, Status> {
        Err(Status::permission_denied("not for the gateway"))
    }
}

/// What answers requests, by their heads.
type Endpoints = Vec<(Arc<Parts>, Arc<dyn app::Endpoint>)>;

struct World {
    router: Router,
    direct: Direct,
    endpoints: Mutex<Endpoints>,
    feed: Feed,
    registry: Registry,
    /// Its tokens must have the scope `tools`.
    issuer: TestIssuer,
    seen: mpsc::UnboundedReceiver<(Value, HeaderMap)>,
    /// Whether the upstream speaks 2026-07-28, and no older revision.
    modern: Arc<AtomicBool>,
    /// Whether the upstream answers a GET, which it gets as the method of a message.
    streams: Arc<AtomicBool>,
    /// The number of the upstream's session, which knows no other; 0: it has none.
    session: Arc<AtomicUsize>,
    credentials: Credentials,
    stop: CancellationToken,
    /// Comes a while after `stop`.
    late: Late,
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
    world_with(Quotas::unlimited(), upstream).await
}

/// One where callers may do so much.
async fn world_with(
    quotas: Arc<Quotas>,
    upstream: impl Fn(Value, HeaderMap) -> Response + Send + Sync + 'static,
) -> World {
    let upstream = Arc::new(upstream);
    let (sender, seen) = mpsc::unbounded_channel();
    let modern = Arc::new(AtomicBool::new(false));
    let speaks_modern = Arc::clone(&modern);
    let streams = Arc::new(AtomicBool::new(false));
    let has_streams = Arc::clone(&streams);
    let session = Arc::new(AtomicUsize::new(0));
    let has_session = Arc::clone(&session);
    let respond = move |request: Request| {
        let (upstream, sender, modern) = (Arc::clone(&upstream), sender.clone(), Arc::clone(&speaks_modern));
        let has_streams = has_streams.load(Ordering::SeqCst);
        let session = match has_session.load(Ordering::SeqCst) {
            0 => None,
            number => Some(format!("s{number}")),
        };
        async move {
            let mut headers = request.headers().clone();
            headers.insert("x-path", request.uri().path().parse().unwrap());
            let asked = headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
            if asked.is_some() && asked != session {
                return StatusCode::NOT_FOUND.into_response();
            }
            if request.method() == http::Method::GET {
                return if has_streams {
                    upstream(json!({"method": "GET"}), headers)
                } else {
                    StatusCode::METHOD_NOT_ALLOWED.into_response()
                };
            }
            if request.method() == http::Method::DELETE {
                sender.send((json!({"method": "DELETE"}), headers)).unwrap();
                return StatusCode::NO_CONTENT.into_response();
            }
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let message: Value = serde_json::from_slice(&body).unwrap();
            if message["method"] == "server/discover" {
                if !modern.load(Ordering::SeqCst) {
                    return StatusCode::NOT_FOUND.into_response();
                }
                let result = json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"prompts": {}, "resources": {"subscribe": true}, "extensions": {"io.modelcontextprotocol/tasks": {}}}, "ttlMs": 0, "cacheScope": "private"});
                return raw(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string());
            }
            sender.send((message.clone(), headers.clone())).unwrap();
            match message["method"].as_str() {
                Some("initialize") => {
                    let answer = axum::Json(
                        json!({"jsonrpc": "2.0", "id": message["id"], "result": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {"listChanged": true}, "prompts": {}, "resources": {}, "logging": {}, "tasks": {"list": {}}}}}),
                    );
                    let id = session.map(|id| [("mcp-session-id", id)]);
                    id.map_or_else(
                        || answer.clone().into_response(),
                        |id| (id, answer.clone()).into_response(),
                    )
                }
                Some(method) if !method.starts_with("notifications/") => upstream(message, headers),
                _ => StatusCode::ACCEPTED.into_response(),
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(respond))).await });

    let running = pb::EntryRevision {
        server: Some(pb::entry_revision::Server::Remote(pb::RemoteServer {
            url,
            ..pb::RemoteServer::default()
        })),
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
        HttpPath::default(),
        clock.clone(),
    );
    let public_url: Url = "http://127.0.0.1:8080".parse().unwrap();
    let links = Links::new(public_url.clone());
    let (stop, late) = (CancellationToken::new(), Late::default());
    let calls = Calls::new(
        Arc::clone(&store),
        vendor,
        upstreams,
        links.clone(),
        Arc::new(|_| {}),
        stop.clone(),
        late.clone(),
    );
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let issuer = TestIssuer::start().await.unwrap();
    let issuers = vec![IssuerConfig {
        required_scopes: vec!["tools".to_owned()],
        client_id: Some("pages".to_owned()),
        ..issuer.config()
    }];
    let verifier = Arc::new(Verifier::new(issuers, clock.clone()).unwrap());
    let identity = Identity::new(
        Arc::clone(&verifier),
        Arc::clone(&store),
        Arc::new(TokenUses::default()),
        AccessTokens::new([1; 32].into()),
        clock.clone(),
    );
    let metadata = Arc::new(Metadata::new(&verifier, links, Arc::clone(&store)));
    let config = Config::new(public_url, [1; 32], [2; 32]);
    let mcp = Mcp::new(
        &config,
        Arc::new(calls),
        Arc::new(identity),
        Arc::clone(&metadata),
        store,
        Arc::default(),
        quotas,
        clock,
        stop.clone(),
    );
    let mcp = Arc::new(mcp);
    let direct = direct(Arc::clone(&mcp));
    let router = routes(mcp).merge(metadata.routes());
    World {
        router,
        direct,
        endpoints: Mutex::default(),
        feed,
        registry,
        issuer,
        seen,
        modern,
        streams,
        session,
        credentials,
        stop,
        late,
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

async fn text(response: Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

impl World {
    async fn send(&self, request: impl Into<Request>) -> Response {
        let (head, body) = request.into().into_parts();
        let head = Arc::new(head);
        match self.endpoint(&head) {
            Some(endpoint) => endpoint.answer(app::RequestBody::Coming(body)).await.into(),
            None => {
                let request = Request::from_parts(Arc::unwrap_or_clone(head), body);
                self.router.clone().oneshot(request).await.unwrap()
            }
        }
    }

    /// What answers requests with this head: as on a connection, what has answered one before.
    fn endpoint(&self, head: &Arc<Parts>) -> Option<Arc<dyn app::Endpoint>> {
        let mut endpoints = self.endpoints.lock().unwrap();
        let is_same =
            |known: &Parts| known.method == head.method && known.uri == head.uri && known.headers == head.headers;
        if let Some((_, endpoint)) = endpoints.iter().find(|(known, _)| is_same(known)) {
            return Some(Arc::clone(endpoint));
        }
        let endpoint = (self.direct.find)(head)?;
        endpoints.push((Arc::clone(head), Arc::clone(&endpoint)));
        Some(endpoint)
    }

    async fn open(&self, who: &str, revision: &str, capabilities: Value) -> String {
        let body = initialize(0, revision, &capabilities);
        let response = self.send(post(body).by(who)).await;
        assert_eq!(response.status(), 200);
        let session = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        let message: Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(message["result"]["protocolVersion"], revision);
        let offered = message["result"]["capabilities"].as_object().unwrap();
        let offered: Vec<&str> = offered.keys().map(String::as_str).collect();
        let tasks = (revision == "2025-11-25").then_some("tasks");
        let expected = ["completions", "logging", "prompts", "resources"]
            .into_iter()
            .chain(tasks);
        assert_eq!(offered, expected.chain(["tools"]).collect::<Vec<_>>());
        session
    }

    async fn post(&self, who: &str, session: &str, body: impl Into<Body>) -> Response {
        self.send(post(body).by(who).session(session)).await
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
