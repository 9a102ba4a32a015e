//! A registry, a credential-svc and an upstream that a test decides about, around the real gateway-svc.

pub(crate) mod requests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, http::StatusCode, response::IntoResponse as _};
use contracts::{
    credential::{
        ErrorReason, VendHeadersRequest, VendHeadersResponse, VendRuntimeRequest, VendRuntimeResponse, VendedHeader,
        vend_service_server::{VendService, VendServiceServer},
    },
    gateway::tool_service_client::ToolServiceClient,
    registry::{
        self as pb,
        installation::Scope,
        report_discovery_request::{Outcome, Subject},
    },
};
use registry_client::testing::{FakeRegistry, Objects};
use serde_json::{Value, json};
use service_kit::{
    Clock, Readiness, UserId, Workload,
    egress::EgressPolicy,
    pipe::pipe,
    serve::serve,
    status::{Reason, StatusBuilder},
    testing::{Served, TestIssuer},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, service::Routes, transport::Channel};

/// Vends the same secret for every installation.
struct Credentials;

#[tonic::async_trait]
impl VendService for Credentials {
    async fn vend_headers(
        &self,
        request: Request<VendHeadersRequest>,
    ) -> Result<Response<VendHeadersResponse>, Status> {
        let request = request.into_inner();
        if request.rejected_credential_generation > 0 {
            let reason = Reason::of(ErrorReason::CredentialExpired, ErrorReason::as_str_name);
            return Err(StatusBuilder::new(Code::FailedPrecondition, reason, "there is no other").build());
        }
        let value = format!("Bearer secret-of-{}", request.installation_uid);
        Ok(Response::new(VendHeadersResponse {
            headers: vec![VendedHeader {
                name: "authorization".to_owned(),
                value,
            }],
            credential_generation: 1,
            entry_credential_generation: 0,
            expire_time: Some((service_kit::Clock::System.now() + Duration::from_secs(300)).into()),
            ..VendHeadersResponse::default()
        }))
    }

    async fn vend_runtime(&self, _: Request<VendRuntimeRequest>) -> Result<Response<VendRuntimeResponse>, Status> {
        Err(Status::permission_denied("not for the gateway"))
    }
}

/// Everything around one gateway-svc: Alice has installed `mail`, Bob has not, the gateway `default` exposes its tool `send`.
pub(crate) struct World {
    pub(crate) registry: FakeRegistry,
    pub(crate) issuer: TestIssuer,
    /// What the upstream got: the message and its `Authorization`.
    pub(crate) seen: Arc<Mutex<Vec<(Value, String)>>>,
    /// Where the upstream serves MCP.
    pub(crate) url: String,
    channel: Channel,
    pub(crate) served: Served,
}

impl World {
    /// `answer` makes the result or error of a `tools/call`.
    pub(crate) async fn new(answer: fn(&Value) -> Value) -> Self {
        let issuer = TestIssuer::start().await.unwrap();
        let seen: Arc<Mutex<Vec<(Value, String)>>> = Arc::default();
        let url = upstream(Arc::clone(&seen), answer).await;
        let registry = FakeRegistry::new();
        let to_registry = served(registry.routes());
        let to_credential = served(Routes::new(VendServiceServer::new(Credentials)));

        let mut config = gateway_svc::Config::new("http://127.0.0.1:8080".parse().unwrap(), [1; 32], [2; 32]);
        config.egress = EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()]);
        let deps = gateway_svc::Deps {
            registry: to_registry,
            credential: to_credential,
            verifier: issuer.verifier(Clock::System),
            quotas: service_kit::Quotas::unlimited(),
            clock: Clock::System,
        };
        let mut world = Self {
            registry,
            seen,
            url,
            channel: tonic::transport::Endpoint::from_static("http://unused.invalid").connect_lazy(),
            served: {
                let app = gateway_svc::build(config, deps).await.unwrap();
                let mut ready = app.ready.clone();
                let served = Served::start(app);
                // The registry is empty for a moment; what the test adds comes as changes.
                ready.wait_for(|ready| *ready == Readiness::Ready).await.unwrap();
                served
            },
            issuer,
        };
        let address = world.served.tcp().await.unwrap();
        world.channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_lazy();
        world.change(|objects| world.mail(objects)).await;
        world
    }

    /// One more revision; returns once the gateway has put it in force.
    pub(crate) async fn change(&self, change: impl FnOnce(&mut Objects)) {
        self.registry.change(change);
        self.registry.acked().await;
    }

    /// Moves Alice's installation to a revision that is self-hosted, and whose process serves MCP at `endpoint`.
    pub(crate) async fn self_host(&self, endpoint: &str) {
        let server = pb::SelfHostedServer {
            transport: Some(pb::self_hosted_server::Transport::StreamableHttp(
                pb::StreamableHttpTransport::default(),
            )),
            ..pb::SelfHostedServer::default()
        };
        let revision = pb::EntryRevision {
            number: 2,
            server: Some(pb::entry_revision::Server::SelfHosted(server)),
            ..self.revision()
        };
        let mut installation = self.installation("i-alice", "alice", true);
        installation.running_entry_revision = 2;
        installation.conditions.push(pb::Condition {
            r#type: pb::ConditionType::RuntimeReady.into(),
            status: pb::ConditionStatus::True.into(),
            observed_generation: 1,
            ..pb::Condition::default()
        });
        let runtime = pb::Runtime {
            owner_uid: "i-alice".to_owned(),
            endpoint: endpoint.to_owned(),
            ..pb::Runtime::default()
        };
        self.change(|objects| {
            objects.put(revision);
            objects.put(installation);
            objects.put(runtime);
        })
        .await;
    }

    /// The tools that were reported, one line for each report.
    pub(crate) fn reported(&self) -> Vec<String> {
        let reports = self.registry.reports().discovery.into_iter();
        reports
            .map(|report| {
                let Some(Subject::InstallationUid(uid)) = report.subject else {
                    panic!("no subject")
                };
                match report.outcome.expect("an outcome") {
                    Outcome::Tools(found) => {
                        let tools: Vec<_> = found.tools.iter().map(|tool| tool.tool.as_str()).collect();
                        format!("{uid} {}", tools.join(","))
                    }
                    Outcome::Failure(failure) => format!("{uid} {}", failure.reason),
                }
            })
            .collect()
    }

    fn mail(&self, objects: &mut Objects) {
        objects.put(pb::FeatureDefinition {
            hash: "h".to_owned(),
            definition_json: r#"{"name":"send","x":1}"#.to_owned(),
        });
        objects.put(pb::FeatureSet {
            hash: "s".to_owned(),
            kind: pb::FeatureKind::Tool.into(),
            features: vec![pb::FeatureRef {
                name: "send".to_owned(),
                definition_hash: "h".to_owned(),
            }],
        });
        objects.put(pb::Entry {
            name: "entries/mail".to_owned(),
            uid: "e".to_owned(),
            display_name: "Mail".to_owned(),
            lifecycle: pb::EntryLifecycle::Approved.into(),
            discovered: vec![pb::DiscoveredSet {
                kind: pb::FeatureKind::Tool.into(),
                set_hash: "s".to_owned(),
                ..pb::DiscoveredSet::default()
            }],
            ..pb::Entry::default()
        });
        objects.put(self.revision());
        objects.put(pb::Gateway {
            name: "gateways/default".to_owned(),
            uid: "g".to_owned(),
            ..pb::Gateway::default()
        });
        objects.put(pb::ToolAssignment {
            name: "gateways/default/toolAssignments/a".to_owned(),
            uid: "a".to_owned(),
            entry: "entries/mail".to_owned(),
            entry_uid: "e".to_owned(),
            consumer_uid: "g".to_owned(),
            kind: pb::FeatureKind::Tool.into(),
            selection: Some(pb::tool_assignment::Selection::Tool("send".to_owned())),
            ..pb::ToolAssignment::default()
        });
        objects.put(self.installation("i-alice", "alice", true));
    }

    pub(crate) fn revision(&self) -> pb::EntryRevision {
        pb::EntryRevision {
            entry_uid: "e".to_owned(),
            number: 1,
            server: Some(pb::entry_revision::Server::Remote(pb::RemoteServer {
                url: self.url.clone(),
                ..pb::RemoteServer::default()
            })),
            credential_model: Some(pb::entry_revision::CredentialModel::StaticCredential(
                pb::StaticCredential {
                    field: "key".to_owned(),
                    injection: Some(pb::Injection {
                        kind: Some(pb::injection::Kind::Bearer(pb::BearerHeader {})),
                    }),
                },
            )),
            ..pb::EntryRevision::default()
        }
    }

    /// An installation of `mail`; where it is not ready yet, its tools are still to be discovered.
    pub(crate) fn installation(&self, uid: &str, owner: &str, ready: bool) -> pb::Installation {
        let condition = |kind: pb::ConditionType, status: pb::ConditionStatus| pb::Condition {
            r#type: kind.into(),
            status: status.into(),
            observed_generation: 1,
            ..pb::Condition::default()
        };
        let tools = if ready {
            pb::ConditionStatus::True
        } else {
            pb::ConditionStatus::Unknown
        };
        pb::Installation {
            name: format!("installations/{uid}"),
            uid: uid.to_owned(),
            entry: "entries/mail".to_owned(),
            entry_uid: "e".to_owned(),
            scope: Some(Scope::User(self.user(owner))),
            running_entry_revision: 1,
            generation: 1,
            credential_generation: 1,
            conditions: vec![
                condition(pb::ConditionType::CredentialReady, pb::ConditionStatus::True),
                condition(pb::ConditionType::ToolsDiscovered, tools),
            ],
            first_ready_time: ready.then(prost_types::Timestamp::default),
            create_time: Some(prost_types::Timestamp::default()),
            ..pb::Installation::default()
        }
    }

    /// `users/{user}` of a subject.
    pub(crate) fn user(&self, subject: &str) -> String {
        UserId::of(self.issuer.issuer(), subject).resource_name()
    }

    /// The service, as anybody reaches it.
    pub(crate) fn tools(&self) -> ToolServiceClient<Channel> {
        ToolServiceClient::new(self.channel())
    }

    /// A connection to it.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A request with a token of this subject; without one where it is empty.
    pub(crate) fn by<T>(&self, subject: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if !subject.is_empty() {
            let token = self.issuer.token(subject, &[], subject == "admin");
            request
                .metadata_mut()
                .insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        request
    }
}

/// Routes that the gateway calls.
fn served(routes: Routes) -> Channel {
    let (channel, listener) = pipe(Workload::Gateway);
    tokio::spawn(serve(routes.prepare(), listener, CancellationToken::new()));
    channel
}

/// An MCP server with the tools `send` and `read`, on two pages.
async fn upstream(seen: Arc<Mutex<Vec<(Value, String)>>>, answer: fn(&Value) -> Value) -> String {
    let respond = move |headers: axum::http::HeaderMap, Json(message): Json<Value>| {
        let authorization = headers
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        seen.lock()
            .unwrap()
            .push((message.clone(), authorization.unwrap_or_default()));
        async move {
            let result = match message["method"].as_str() {
                Some("initialize") => {
                    json!({"result": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "m", "version": "1"}}})
                }
                Some("tools/list") if message["params"]["cursor"] == "2" => {
                    json!({"result": {"tools": [{"name": "read", "inputSchema": {"type": "object"}}]}})
                }
                Some("tools/list") => {
                    json!({"result": {"tools": [{"name": "send", "inputSchema": {"type": "object"}}], "nextCursor": "2"}})
                }
                Some("tools/call") => answer(&message),
                _ => return StatusCode::ACCEPTED.into_response(),
            };
            let mut reply: HashMap<String, Value> = serde_json::from_value(result).unwrap();
            reply.insert("jsonrpc".to_owned(), "2.0".into());
            reply.insert("id".to_owned(), message["id"].clone());
            Json(reply).into_response()
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/mcp", axum::routing::post(respond))).await });
    url
}
