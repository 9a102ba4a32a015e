//! Its services.

use std::pin::Pin;

use contracts::registry::{
    AcquireRuntimeLeaseRequest, AcquireRuntimeLeaseResponse, AuthorizeEntryRequest, AuthorizeEntryResponse,
    AuthorizeInstallationRequest, AuthorizeInstallationResponse, Condition, ConditionType, Installation, ObjectKind,
    Principal, ReleaseRuntimeLeaseRequest, ReleaseRuntimeLeaseResponse, ReportCleanupRequest, ReportCleanupResponse,
    ReportCredentialRequest, ReportCredentialResponse, ReportDiscoveryRequest, ReportDiscoveryResponse,
    ReportRuntimeRequest, ReportRuntimeResponse, ReportTokenUseRequest, ReportTokenUseResponse, SnapshotBegin,
    SnapshotEnd, SnapshotObjects, WatchRequest, WatchResponse, WatchedObject, access_service_server::AccessService,
    installation, report_cleanup_request::Subject, report_credential_request, report_service_server::ReportService,
    watch_response::Message, watch_service_server::WatchService, watched_object::Object,
};
use service_kit::{Workload, identity::require_workload, status::not_found};
use tonic::{Request, Response, Status, Streaming};

use super::{FakeRegistry, removal, revision_of};

/// Takes a report; `true` where it brings a new credential.
fn take(conditions: &mut Vec<Condition>, credential_generation: &mut i64, report: &ReportCredentialRequest) -> bool {
    *conditions = vec![Condition {
        r#type: ConditionType::CredentialReady.into(),
        status: report.status,
        reason: report.reason.clone(),
        message: report.message.clone(),
        observed_generation: report.observed_generation,
        transition_time: None,
    }];
    assert!(
        report.credential_generation >= *credential_generation,
        "generations only grow"
    );
    std::mem::replace(credential_generation, report.credential_generation) != report.credential_generation
}

fn only_credential<T>(request: &Request<T>) -> Result<(), Status> {
    require_workload(request, &[Workload::Credential]).map(drop)
}

#[tonic::async_trait]
impl WatchService for FakeRegistry {
    type WatchStream = Pin<Box<dyn futures::Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        only_credential(&request)?;
        let mut acks = request.into_inner();
        tokio::spawn(async move { while let Ok(Some(_)) = acks.message().await {} });
        let state = self.inner.state.lock().unwrap();
        let changes = self.inner.changes.subscribe();
        let revisions = state
            .revisions
            .iter()
            .map(|(key, revision)| (key, Object::EntryRevision(revision.clone())));
        let entries = state
            .entries
            .iter()
            .map(|(uid, entry)| (uid, Object::Entry(entry.clone())));
        let installations = state
            .installations
            .iter()
            .map(|(uid, one)| (uid, Object::Installation(one.clone())));
        let objects = revisions.chain(entries).chain(installations);
        let objects = objects.map(|(uid, object)| WatchedObject {
            key: uid.clone(),
            object: Some(object),
        });
        // As large as the registry sends them, and no larger than a client takes.
        let objects: Vec<WatchedObject> = objects.collect();
        let parts = objects
            .chunks(1000)
            .map(|part| Message::SnapshotObjects(SnapshotObjects { objects: part.to_vec() }));
        let parts: Vec<Message> = parts.collect();
        let begin = Message::SnapshotBegin(SnapshotBegin {
            database_epoch: "fake".to_owned(),
        });
        let end = Message::SnapshotEnd(SnapshotEnd {
            revision: state.revision,
        });
        let snapshot = std::iter::once(begin).chain(parts).chain([end]);
        let snapshot: Vec<_> = snapshot
            .map(|message| Ok(WatchResponse { message: Some(message) }))
            .collect();
        let live = futures::stream::unfold(changes, |mut changes| async move {
            changes.recv().await.ok().map(|change| (Ok(change), changes))
        });
        Ok(Response::new(Box::pin(futures::StreamExt::chain(
            futures::stream::iter(snapshot),
            live,
        ))))
    }
}

#[tonic::async_trait]
impl AccessService for FakeRegistry {
    async fn authorize_installation(
        &self,
        request: Request<AuthorizeInstallationRequest>,
    ) -> Result<Response<AuthorizeInstallationResponse>, Status> {
        only_credential(&request)?;
        let request = request.into_inner();
        let Principal { subject, admin, .. } = request.principal.unwrap();
        let state = self.inner.state.lock().unwrap();
        let uid = request.installation.trim_start_matches("installations/");
        let owner = |installation: &Installation| {
            installation.scope == Some(installation::Scope::User(subject.clone())) && installation.delete_time.is_none()
        };
        match state.installations.get(uid) {
            Some(installation) if owner(installation) || admin => {
                let key = format!("{}/{}", installation.entry_uid, installation.running_entry_revision);
                Ok(Response::new(AuthorizeInstallationResponse {
                    installation: Some(installation.clone()),
                    running_entry_revision: state.revisions.get(&key).cloned(),
                    runtime: None,
                }))
            }
            _ => Err(not_found(&request.installation)),
        }
    }

    async fn authorize_entry(
        &self,
        request: Request<AuthorizeEntryRequest>,
    ) -> Result<Response<AuthorizeEntryResponse>, Status> {
        only_credential(&request)?;
        let request = request.into_inner();
        let state = self.inner.state.lock().unwrap();
        let Some(entry) = state.entries.values().find(|entry| entry.name == request.entry) else {
            return Err(not_found(&request.entry));
        };
        if !request.principal.unwrap().admin {
            return Err(Status::permission_denied("only admins may"));
        }
        Ok(Response::new(AuthorizeEntryResponse {
            current_entry_revision: Some(revision_of(entry)),
            entry: Some(entry.clone()),
        }))
    }
}

#[tonic::async_trait]
impl ReportService for FakeRegistry {
    async fn acquire_runtime_lease(
        &self,
        _: Request<AcquireRuntimeLeaseRequest>,
    ) -> Result<Response<AcquireRuntimeLeaseResponse>, Status> {
        Err(Status::permission_denied("the orchestrator's"))
    }

    async fn release_runtime_lease(
        &self,
        _: Request<ReleaseRuntimeLeaseRequest>,
    ) -> Result<Response<ReleaseRuntimeLeaseResponse>, Status> {
        Err(Status::permission_denied("the orchestrator's"))
    }

    async fn report_credential(
        &self,
        request: Request<ReportCredentialRequest>,
    ) -> Result<Response<ReportCredentialResponse>, Status> {
        only_credential(&request)?;
        let report = request.into_inner();
        self.pass_gate().await?;
        self.inner.state.lock().unwrap().reports.push(report.clone());
        let revision = match report.subject.as_ref().unwrap() {
            report_credential_request::Subject::InstallationUid(uid) => self.edit_installation(uid, |one| {
                if take(&mut one.conditions, &mut one.credential_generation, &report) {
                    one.generation += 1;
                }
            }),
            report_credential_request::Subject::EntryUid(uid) => self.edit_entry(uid, |one| {
                take(&mut one.conditions, &mut one.credential_generation, &report);
            }),
        };
        let registry_revision = revision.ok_or_else(|| not_found("the subject"))?;
        self.inner.reports.send_modify(|count| *count += 1);
        let mut response = Response::new(ReportCredentialResponse { registry_revision });
        let lagging = self.inner.lagging.lock().unwrap().clone();
        if !lagging.is_empty() {
            response
                .metadata_mut()
                .insert("chandlery-lagging", lagging.parse().unwrap());
        }
        Ok(response)
    }

    async fn report_runtime(
        &self,
        _: Request<ReportRuntimeRequest>,
    ) -> Result<Response<ReportRuntimeResponse>, Status> {
        Err(Status::unimplemented("not credential-svc's"))
    }

    async fn report_discovery(
        &self,
        _: Request<ReportDiscoveryRequest>,
    ) -> Result<Response<ReportDiscoveryResponse>, Status> {
        Err(Status::unimplemented("not credential-svc's"))
    }

    async fn report_cleanup(
        &self,
        request: Request<ReportCleanupRequest>,
    ) -> Result<Response<ReportCleanupResponse>, Status> {
        only_credential(&request)?;
        let subject = request.into_inner().subject.unwrap();
        self.pass_gate().await?;
        let mut state = self.inner.state.lock().unwrap();
        state.cleanups.push(subject.clone());
        state.revision += 1;
        let (kind, key) = match subject {
            Subject::InstallationUid(uid) => (ObjectKind::Installation, uid),
            Subject::EntryUid(uid) => (ObjectKind::Entry, uid),
        };
        state.installations.remove(&key);
        state.entries.remove(&key);
        self.send(state.revision, vec![removal(kind, key)]);
        drop(state);
        self.inner.reports.send_modify(|count| *count += 1);
        Ok(Response::new(ReportCleanupResponse {}))
    }

    async fn report_token_use(
        &self,
        _: Request<ReportTokenUseRequest>,
    ) -> Result<Response<ReportTokenUseResponse>, Status> {
        Err(Status::unimplemented("not credential-svc's"))
    }
}
