//! FAKES of registry-svc and credential-svc: they speak the real services over pipes and keep everything in memory. The journeys of
//! `integration-tests` use the real ones.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{Arc, Mutex},
};

use contracts::{
    credential::{
        VendHeadersRequest, VendHeadersResponse, VendRuntimeRequest, VendRuntimeResponse, VendedField,
        vend_service_server::{VendService, VendServiceServer},
    },
    registry::{
        AuthorizeEntryRequest, AuthorizeEntryResponse, AuthorizeInstallationRequest, AuthorizeInstallationResponse,
        Change, ChangeBatch, Condition, ConditionType, ReportCleanupRequest, ReportCleanupResponse,
        ReportConditionRequest, ReportConditionResponse, ReportTokenUseRequest, ReportTokenUseResponse,
        ReportToolsRequest, ReportToolsResponse, SnapshotBegin, SnapshotEnd, SnapshotObjects, WatchRequest,
        WatchResponse, WatchedInstallation, WatchedObject,
        access_service_server::{AccessService, AccessServiceServer},
        change,
        report_cleanup_request::Subject,
        report_service_server::{ReportService, ReportServiceServer},
        watch_response::Message,
        watch_service_server::{WatchService, WatchServiceServer},
        watched_object::Object,
    },
};
use futures::StreamExt as _;
use service_kit::{
    Workload,
    identity::require_workload,
    status::{StatusBuilder, not_found},
};
use tokio::sync::broadcast;
use tonic::{Code, Request, Response, Status, Streaming, service::Routes};

#[derive(Clone)]
pub struct Fakes(Arc<Mutex<State>>, broadcast::Sender<WatchResponse>);

#[derive(Default)]
struct State {
    revision: i64,
    objects: BTreeMap<String, WatchedObject>,
    reports: Vec<ReportConditionRequest>,
    cleanups: Vec<Subject>,
    secrets: HashMap<String, Vec<(String, String)>>,
    destinations: Vec<String>,
}

impl Fakes {
    pub fn new() -> Self {
        Self(Arc::default(), broadcast::Sender::new(1024))
    }

    pub fn routes(&self) -> Routes {
        Routes::new(WatchServiceServer::new(self.clone()))
            .add_service(AccessServiceServer::new(self.clone()))
            .add_service(ReportServiceServer::new(self.clone()))
            .add_service(VendServiceServer::new(self.clone()))
    }

    pub fn put(&self, key: &str, object: Object) {
        self.change(
            |state| {
                drop(state.objects.insert(
                    key.to_owned(),
                    WatchedObject {
                        key: key.to_owned(),
                        object: Some(object),
                    },
                ))
            },
            key,
        );
    }

    pub fn edit(&self, uid: &str, edit: impl FnOnce(&mut WatchedInstallation)) {
        self.change(
            |state| {
                let Some(Object::Installation(watched)) = state.objects.get_mut(uid).and_then(|o| o.object.as_mut())
                else {
                    panic!("no installation {uid}")
                };
                edit(watched);
            },
            uid,
        );
    }

    fn change(&self, change: impl FnOnce(&mut State), key: &str) -> i64 {
        let mut state = self.0.lock().unwrap();
        change(&mut state);
        state.revision += 1;
        let revision = state.revision;
        let object = state.objects.get_mut(key).unwrap();
        if let Some(Object::Installation(WatchedInstallation {
            installation: Some(i), ..
        })) = &mut object.object
        {
            i.revision = revision;
        }
        let changes = vec![Change {
            change: Some(change::Change::Put(object.clone())),
        }];
        let _ = self.1.send(WatchResponse {
            message: Some(Message::Changes(ChangeBatch { revision, changes })),
        });
        revision
    }

    pub fn secret(&self, uid: &str, values: &[(&str, &str)]) {
        let values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.0.lock().unwrap().secrets.insert(uid.to_owned(), values);
    }

    pub fn shown(&self, uid: &str) -> Option<WatchedInstallation> {
        match self.0.lock().unwrap().objects.get(uid)?.object.clone()? {
            Object::Installation(watched) => Some(watched),
            _ => None,
        }
    }

    pub fn condition(&self, uid: &str) -> Option<Condition> {
        let conditions = self.shown(uid)?.installation?.conditions;
        conditions
            .into_iter()
            .find(|c| c.r#type() == ConditionType::RuntimeReady)
    }

    pub fn reports(&self) -> Vec<ReportConditionRequest> {
        self.0.lock().unwrap().reports.clone()
    }

    pub fn cleanups(&self) -> Vec<Subject> {
        self.0.lock().unwrap().cleanups.clone()
    }

    pub fn destinations(&self) -> Vec<String> {
        self.0.lock().unwrap().destinations.clone()
    }
}

#[tonic::async_trait]
impl WatchService for Fakes {
    type WatchStream = Pin<Box<dyn futures::Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        require_workload(&request, &[Workload::Orchestrator])?;
        let (objects, revision, live) = {
            let state = self.0.lock().unwrap();
            (
                state.objects.values().cloned().collect(),
                state.revision,
                self.1.subscribe(),
            )
        };
        let start = [
            Message::SnapshotBegin(SnapshotBegin {
                database_epoch: "e".to_owned(),
            }),
            Message::SnapshotObjects(SnapshotObjects { objects }),
            Message::SnapshotEnd(SnapshotEnd { revision }),
        ];
        let start = futures::stream::iter(start).map(|m| Ok(WatchResponse { message: Some(m) }));
        let live = futures::stream::unfold(
            live,
            |mut live| async move { live.recv().await.ok().map(|m| (Ok(m), live)) },
        );
        Ok(Response::new(Box::pin(start.chain(live))))
    }
}

#[tonic::async_trait]
impl ReportService for Fakes {
    async fn report_condition(
        &self,
        request: Request<ReportConditionRequest>,
    ) -> Result<Response<ReportConditionResponse>, Status> {
        require_workload(&request, &[Workload::Orchestrator])?;
        let report = request.into_inner();
        let uid = report.installation_uid.clone();
        if self.shown(&uid).is_none() {
            return Err(not_found(&uid));
        }
        self.0.lock().unwrap().reports.push(report.clone());
        let revision = self.change(
            |state| {
                let Some(Object::Installation(watched)) = state.objects.get_mut(&uid).and_then(|o| o.object.as_mut())
                else {
                    return;
                };
                watched.runtime_endpoint.clone_from(&report.runtime_endpoint);
                let installation = watched.installation.as_mut().unwrap();
                installation
                    .conditions
                    .retain(|c| c.r#type() != ConditionType::RuntimeReady);
                installation.conditions.push(Condition {
                    r#type: ConditionType::RuntimeReady.into(),
                    status: report.status,
                    reason: report.reason,
                    message: report.message,
                    observed_generation: report.observed_generation,
                    transition_time: None,
                });
            },
            &uid,
        );
        Ok(Response::new(ReportConditionResponse { revision }))
    }

    async fn report_tools(&self, _: Request<ReportToolsRequest>) -> Result<Response<ReportToolsResponse>, Status> {
        Err(Status::permission_denied("not the orchestrator's"))
    }

    async fn report_cleanup(
        &self,
        request: Request<ReportCleanupRequest>,
    ) -> Result<Response<ReportCleanupResponse>, Status> {
        self.0
            .lock()
            .unwrap()
            .cleanups
            .push(request.into_inner().subject.unwrap());
        Ok(Response::new(ReportCleanupResponse {}))
    }

    async fn report_token_use(
        &self,
        _: Request<ReportTokenUseRequest>,
    ) -> Result<Response<ReportTokenUseResponse>, Status> {
        Err(Status::permission_denied("not the orchestrator's"))
    }
}

#[tonic::async_trait]
impl AccessService for Fakes {
    async fn authorize_installation(
        &self,
        request: Request<AuthorizeInstallationRequest>,
    ) -> Result<Response<AuthorizeInstallationResponse>, Status> {
        let request = request.into_inner();
        let name = &request.installation;
        let found = name.strip_prefix("installations/").and_then(|uid| self.shown(uid));
        match found.filter(|_| request.principal.is_some_and(|p| p.subject == "alice")) {
            Some(installation) => Ok(Response::new(AuthorizeInstallationResponse {
                installation: Some(installation),
            })),
            None => Err(not_found(name)),
        }
    }

    async fn authorize_entry(
        &self,
        _: Request<AuthorizeEntryRequest>,
    ) -> Result<Response<AuthorizeEntryResponse>, Status> {
        Err(not_found("entries/any"))
    }
}

#[tonic::async_trait]
impl VendService for Fakes {
    async fn vend_headers(&self, _: Request<VendHeadersRequest>) -> Result<Response<VendHeadersResponse>, Status> {
        Err(Status::permission_denied("the gateway's"))
    }

    async fn vend_runtime(
        &self,
        request: Request<VendRuntimeRequest>,
    ) -> Result<Response<VendRuntimeResponse>, Status> {
        require_workload(&request, &[Workload::Orchestrator])?;
        let request = request.into_inner();
        let mut state = self.0.lock().unwrap();
        state.destinations.push(request.destination);
        let Some(secrets) = state.secrets.get(&request.installation_uid) else {
            let status = StatusBuilder::new(Code::FailedPrecondition, "CREDENTIAL_REQUIRED", "enter the token first");
            return Err(status.build());
        };
        let fields = secrets
            .iter()
            .map(|(key, value)| VendedField {
                key: key.clone(),
                value: value.clone(),
            })
            .collect();
        Ok(Response::new(VendRuntimeResponse {
            fields,
            generation: 1,
            expire_time: None,
        }))
    }
}
