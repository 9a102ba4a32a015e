//! A registry, a credential-svc and an upstream that a test decides about, around the real gateway-svc.

use std::{
    collections::HashMap,
    pin::Pin,
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
        access_service_server::{AccessService, AccessServiceServer},
        report_discovery_request::{Outcome, Subject},
        report_service_server::{ReportService, ReportServiceServer},
        watch_service_server::{WatchService, WatchServiceServer},
        watched_object::Object,
    },
};
use futures::{Stream, StreamExt as _};
use serde_json::{Value, json};
use service_kit::{
    Clock, Readiness, UserId, Workload,
    egress::EgressPolicy,
    pipe::pipe,
    status::{Reason, StatusBuilder, not_found},
    testing::{Served, TestIssuer},
};
use tokio::{net::TcpListener, sync::mpsc};
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Channel, Server},
};

/// A registry whose watch says what the test says.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    objects: Arc<Mutex<Vec<pb::WatchedObject>>>,
    watchers: Arc<Mutex<Vec<mpsc::UnboundedSender<pb::WatchResponse>>>>,
    acked: Arc<Mutex<i64>>,
    reported: Arc<Mutex<Vec<String>>>,
    revision: Arc<Mutex<i64>>,
}

impl Registry {
    fn with(&self, object: pb::WatchedObject) {
        self.objects.lock().unwrap().push(object);
    }

    /// One more revision; returns once the gateway has put it in force.
    pub(crate) async fn put(&self, object: pb::WatchedObject) {
        let revision = {
            let mut revision = self.revision.lock().unwrap();
            *revision += 1;
            *revision
        };
        let change = pb::Change {
            change: Some(pb::change::Change::Put(object)),
        };
        let batch = pb::ChangeBatch {
            revision,
            changes: vec![change],
        };
        for watcher in self.watchers.lock().unwrap().iter() {
            let message = Some(pb::watch_response::Message::Changes(batch.clone()));
            let _ = watcher.send(pb::WatchResponse { message });
        }
        eventually("the change is acked", || *self.acked.lock().unwrap() >= revision).await;
    }

    /// What was reported, one line each.
    pub(crate) fn reported(&self) -> Vec<String> {
        self.reported.lock().unwrap().clone()
    }
}

type Watched = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl WatchService for Registry {
    type WatchStream = Watched;

    async fn watch(&self, request: Request<Streaming<pb::WatchRequest>>) -> Result<Response<Watched>, Status> {
        let mut requests = request.into_inner();
        let (sender, receiver) = mpsc::unbounded_channel();
        let say = |message| {
            let _ = sender.send(pb::WatchResponse { message: Some(message) });
        };
        let objects = self.objects.lock().unwrap().clone();
        let revision = *self.revision.lock().unwrap();
        say(pb::watch_response::Message::SnapshotBegin(pb::SnapshotBegin {
            database_epoch: "1".to_owned(),
        }));
        say(pb::watch_response::Message::SnapshotObjects(pb::SnapshotObjects {
            objects,
        }));
        say(pb::watch_response::Message::SnapshotEnd(pb::SnapshotEnd { revision }));
        self.watchers.lock().unwrap().push(sender);
        let acked = Arc::clone(&self.acked);
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if let Some(pb::watch_request::Message::Ack(ack)) = request.message {
                    *acked.lock().unwrap() = ack.revision;
                }
            }
        });
        Ok(Response::new(Box::pin(
            tokio_stream::wrappers::UnboundedReceiverStream::new(receiver).map(Ok),
        )))
    }
}

#[tonic::async_trait]
impl ReportService for Registry {
    async fn acquire_runtime_lease(
        &self,
        _: Request<pb::AcquireRuntimeLeaseRequest>,
    ) -> Result<Response<pb::AcquireRuntimeLeaseResponse>, Status> {
        Err(Status::permission_denied("the orchestrator's"))
    }

    async fn release_runtime_lease(
        &self,
        _: Request<pb::ReleaseRuntimeLeaseRequest>,
    ) -> Result<Response<pb::ReleaseRuntimeLeaseResponse>, Status> {
        Err(Status::permission_denied("the orchestrator's"))
    }

    async fn report_discovery(
        &self,
        request: Request<pb::ReportDiscoveryRequest>,
    ) -> Result<Response<pb::ReportDiscoveryResponse>, Status> {
        let request = request.into_inner();
        let Some(Subject::InstallationUid(uid)) = request.subject else {
            return Err(Status::invalid_argument("no subject"));
        };
        let line = match request.outcome {
            Some(Outcome::Tools(found)) => {
                let tools: Vec<_> = found.tools.iter().map(|tool| tool.tool.as_str()).collect();
                format!("{uid} {}", tools.join(","))
            }
            Some(Outcome::Failure(failure)) => format!("{uid} {}", failure.reason),
            None => return Err(Status::invalid_argument("no outcome")),
        };
        self.reported.lock().unwrap().push(line);
        Ok(Response::new(pb::ReportDiscoveryResponse::default()))
    }

    async fn report_credential(
        &self,
        _: Request<pb::ReportCredentialRequest>,
    ) -> Result<Response<pb::ReportCredentialResponse>, Status> {
        Err(Status::permission_denied("not for the gateway"))
    }

    async fn report_runtime(
        &self,
        _: Request<pb::ReportRuntimeRequest>,
    ) -> Result<Response<pb::ReportRuntimeResponse>, Status> {
        Err(Status::permission_denied("not for the gateway"))
    }

    async fn report_cleanup(
        &self,
        _: Request<pb::ReportCleanupRequest>,
    ) -> Result<Response<pb::ReportCleanupResponse>, Status> {
        Err(Status::permission_denied("not for the gateway"))
    }

    async fn report_token_use(
        &self,
        _: Request<pb::ReportTokenUseRequest>,
    ) -> Result<Response<pb::ReportTokenUseResponse>, Status> {
        Ok(Response::new(pb::ReportTokenUseResponse::default()))
    }
}

#[tonic::async_trait]
impl AccessService for Registry {
    async fn authorize_installation(
        &self,
        request: Request<pb::AuthorizeInstallationRequest>,
    ) -> Result<Response<pb::AuthorizeInstallationResponse>, Status> {
        let request = request.into_inner();
        let principal = request.principal.unwrap_or_default();
        let user = UserId::of(&principal.issuer, &principal.subject).resource_name();
        let objects = self.objects.lock().unwrap();
        let found = objects.iter().find_map(|object| match &object.object {
            Some(Object::Installation(found)) if found.name == request.installation => Some(found.clone()),
            _ => None,
        });
        let installation = found.ok_or_else(|| not_found(&request.installation))?;
        if installation.scope != Some(pb::installation::Scope::User(user)) {
            let reason = Reason::of(pb::ErrorReason::PermissionDenied, pb::ErrorReason::as_str_name);
            return Err(StatusBuilder::new(Code::PermissionDenied, reason, "not yours").build());
        }
        let running_entry_revision = objects.iter().find_map(|object| match &object.object {
            Some(Object::EntryRevision(revision)) if revision.number == installation.running_entry_revision => {
                Some(revision.clone())
            }
            _ => None,
        });
        Ok(Response::new(pb::AuthorizeInstallationResponse {
            installation: Some(installation),
            running_entry_revision,
            runtime: None,
        }))
    }

    async fn authorize_entry(
        &self,
        request: Request<pb::AuthorizeEntryRequest>,
    ) -> Result<Response<pb::AuthorizeEntryResponse>, Status> {
        Err(not_found(&request.into_inner().entry))
    }
}

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
        }))
    }

    async fn vend_runtime(&self, _: Request<VendRuntimeRequest>) -> Result<Response<VendRuntimeResponse>, Status> {
        Err(Status::permission_denied("not for the gateway"))
    }
}

/// Everything around one gateway-svc: Alice has installed `mail`, Bob has not, the gateway `default` exposes its tool `send`.
pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) issuer: TestIssuer,
    /// What the upstream got: the message and its `Authorization`.
    pub(crate) seen: Arc<Mutex<Vec<(Value, String)>>>,
    url: String,
    channel: Channel,
    _served: Served,
}

impl World {
    /// `answer` makes the result or error of a `tools/call`.
    pub(crate) async fn new(answer: fn(&Value) -> Value) -> Self {
        let issuer = TestIssuer::start().await.unwrap();
        let seen: Arc<Mutex<Vec<(Value, String)>>> = Arc::default();
        let url = upstream(Arc::clone(&seen), answer).await;
        let registry = Registry::default();
        *registry.revision.lock().unwrap() = 1;

        let (to_registry, registry_end) = pipe(Workload::Gateway);
        let (to_credential, credential_end) = pipe(Workload::Gateway);
        let services = Server::builder()
            .add_service(WatchServiceServer::new(registry.clone()))
            .add_service(ReportServiceServer::new(registry.clone()))
            .add_service(AccessServiceServer::new(registry.clone()));
        tokio::spawn(services.serve_with_incoming(registry_end));
        tokio::spawn(
            Server::builder()
                .add_service(VendServiceServer::new(Credentials))
                .serve_with_incoming(credential_end),
        );

        let mut config = gateway_svc::Config::new("http://127.0.0.1:8080".parse().unwrap(), [1; 32], [2; 32]);
        config.egress = EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()]);
        let deps = gateway_svc::Deps {
            registry: to_registry,
            credential: to_credential,
            verifier: issuer.verifier(Clock::System),
            quotas: service_kit::Quotas::boundless(),
            clock: Clock::System,
        };
        let mut world = Self {
            registry,
            seen,
            url,
            channel: tonic::transport::Endpoint::from_static("http://unused.invalid").connect_lazy(),
            _served: {
                let app = gateway_svc::build(config, deps).await.unwrap();
                let mut ready = app.ready.clone();
                let served = Served::start(app);
                // The registry is empty for a moment; what the test adds comes as changes.
                ready.wait_for(|ready| *ready == Readiness::Ready).await.unwrap();
                served
            },
            issuer,
        };
        let address = world._served.tcp().await.unwrap();
        world.channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_lazy();
        for object in world.beginning() {
            world.registry.with(object.clone());
            world.registry.put(object).await;
        }
        world
    }

    fn beginning(&self) -> Vec<pb::WatchedObject> {
        let gateway = pb::Gateway {
            name: "gateways/default".to_owned(),
            uid: "g".to_owned(),
            ..pb::Gateway::default()
        };
        let assignment = pb::ToolAssignment {
            name: "gateways/default/toolAssignments/a".to_owned(),
            uid: "a".to_owned(),
            entry: "entries/mail".to_owned(),
            entry_uid: "e".to_owned(),
            consumer_uid: "g".to_owned(),
            kind: pb::FeatureKind::Tool.into(),
            selection: Some(pb::tool_assignment::Selection::Tool("send".to_owned())),
            ..pb::ToolAssignment::default()
        };
        let definition = pb::FeatureDefinition {
            hash: "h".to_owned(),
            definition_json: r#"{"name":"send","x":1}"#.to_owned(),
        };
        let set = pb::FeatureSet {
            hash: "s".to_owned(),
            kind: pb::FeatureKind::Tool.into(),
            features: vec![pb::FeatureRef {
                name: "send".to_owned(),
                definition_hash: "h".to_owned(),
            }],
        };
        let entry = pb::Entry {
            name: "entries/mail".to_owned(),
            uid: "e".to_owned(),
            display_name: "Mail".to_owned(),
            lifecycle: pb::EntryLifecycle::Approved.into(),
            discovered: vec![pb::DiscoveredSet {
                kind: pb::FeatureKind::Tool.into(),
                set_hash: "s".to_owned(),
            }],
            ..pb::Entry::default()
        };
        vec![
            put("h", Object::FeatureDefinition(definition)),
            put("s", Object::FeatureSet(set)),
            put("e", Object::Entry(entry)),
            put("e/1", Object::EntryRevision(self.revision())),
            put("g", Object::Gateway(gateway)),
            put("a", Object::ToolAssignment(assignment)),
            self.installation("i-alice", "alice", true),
        ]
    }

    fn revision(&self) -> pb::EntryRevision {
        pb::EntryRevision {
            entry_uid: "e".to_owned(),
            number: 1,
            server: Some(pb::entry_revision::Server::Remote(pb::RemoteServer {
                url: self.url.clone(),
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
    pub(crate) fn installation(&self, uid: &str, owner: &str, ready: bool) -> pb::WatchedObject {
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
        let installation = pb::Installation {
            name: format!("installations/{uid}"),
            uid: uid.to_owned(),
            entry: "entries/mail".to_owned(),
            entry_uid: "e".to_owned(),
            scope: Some(pb::installation::Scope::User(self.user(owner))),
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
        };
        put(uid, Object::Installation(installation))
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

pub(crate) fn put(key: &str, object: Object) -> pb::WatchedObject {
    pb::WatchedObject {
        key: key.to_owned(),
        object: Some(object),
    }
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

/// Waits for a condition.
pub(crate) async fn eventually(what: &str, mut met: impl FnMut() -> bool) {
    let waiting = async {
        while !met() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap_or_else(|_| panic!("in time: {what}"));
}
