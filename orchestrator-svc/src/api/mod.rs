//! RuntimeService: shows and restarts servers, for the people who may manage their installations.

mod convert;
mod status;

use std::{pin::Pin, sync::Arc};

use contracts::{
    orchestrator::{
        GetRuntimeRequest, RestartRuntimeRequest, Runtime as RuntimeMessage, StreamRuntimeLogsRequest,
        StreamRuntimeLogsResponse, runtime_service_server::RuntimeService,
    },
    registry::{self, AccessAction, installation::Scope},
};
use futures::{Stream, StreamExt as _};
use registry_client::access::Access;
use service_kit::{Clock, identity::require_user, status::Violations};
use tonic::{Code, Request, Response, Status};

use crate::{
    domain::{
        runtime::{Restart, Runtime, RuntimeError},
        status::Status as RuntimeStatus,
    },
    reconcile::self_hosted,
};

/// The service.
pub(crate) struct RuntimeApi {
    runtime: Arc<dyn Runtime>,
    access: Access,
    clock: Clock,
}

/// The installation that a request is about.
struct Subject {
    name: String,
    uid: String,
    generation: i64,
    /// The number of the entry revision that it runs.
    revision: i64,
    /// `users/{user}`, the only person who may update the package; `None` if everybody who may restart the server may.
    decides_versions: Option<String>,
    /// The status that was last reported to the registry.
    reported: Option<registry::Runtime>,
}

impl RuntimeApi {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, access: Access, clock: Clock) -> Self {
        Self { runtime, access, clock }
    }

    /// The installation, if its server is self-hosted and the caller may manage it.
    async fn subject<T>(&self, request: &Request<T>, name: &str, violations: Violations) -> Result<Subject, Status> {
        let user = require_user(request)?;
        let installation = convert::installation_name(name, violations)?;
        let answer = self
            .access
            .installation(&installation, &user, AccessAction::Manage)
            .await
            .map_err(|status| match status.code() {
                Code::InvalidArgument => convert::refused_name(),
                _ => status::from_registry(status),
            })?;
        let running = answer.running_entry_revision.unwrap_or_default();
        let (revision, server) = (
            running.number,
            self_hosted(&running).ok_or_else(status::not_self_hosted)?,
        );
        let installation = answer.installation.unwrap_or_default();
        let decides_versions = match installation.scope {
            Some(Scope::User(owner)) if server.confirm_new_versions => Some(owner),
            _ => None,
        };
        Ok(Subject {
            decides_versions,
            name: name.to_owned(),
            uid: installation.uid,
            generation: installation.generation,
            revision,
            reported: answer.runtime,
        })
    }

    fn show(&self, subject: Subject) -> RuntimeMessage {
        let status = self.runtime.status(&subject.uid);
        let status = status.or_else(|| subject.reported.map(convert::reported));
        convert::runtime(
            &subject.name,
            status.unwrap_or_else(|| RuntimeStatus::starting(subject.generation)),
            self.runtime.protections(),
        )
    }
}

#[tonic::async_trait]
impl RuntimeService for RuntimeApi {
    type StreamRuntimeLogsStream = Pin<Box<dyn Stream<Item = Result<StreamRuntimeLogsResponse, Status>> + Send>>;

    async fn get_runtime(&self, request: Request<GetRuntimeRequest>) -> Result<Response<RuntimeMessage>, Status> {
        let subject = self
            .subject(&request, &request.get_ref().name, Violations::new())
            .await?;
        Ok(Response::new(self.show(subject)))
    }

    async fn restart_runtime(
        &self,
        request: Request<RestartRuntimeRequest>,
    ) -> Result<Response<RuntimeMessage>, Status> {
        let (id, violations) = convert::restart_id(request.get_ref());
        let subject = self.subject(&request, &request.get_ref().name, violations).await?;
        let update = request.get_ref().update_package;
        if update
            && let Some(owner) = &subject.decides_versions
            && *owner != require_user(&request)?.id.resource_name()
        {
            return Err(status::not_the_owner());
        }
        let restart = Restart {
            id,
            update_package_of: update.then_some(subject.revision),
        };
        self.runtime
            .restart(&subject.uid, restart)
            .await
            .map_err(|error| match error {
                RuntimeError::Unknown => status::runtime_unknown(),
                RuntimeError::Failed(error) => status::internal(&error),
            })?;
        Ok(Response::new(self.show(subject)))
    }

    async fn stream_runtime_logs(
        &self,
        request: Request<StreamRuntimeLogsRequest>,
    ) -> Result<Response<Self::StreamRuntimeLogsStream>, Status> {
        let (query, violations) = convert::log_query(request.get_ref(), self.clock.now_micros());
        let subject = self.subject(&request, &request.get_ref().name, violations).await?;
        let lines = self.runtime.logs(&subject.uid, query);
        Ok(Response::new(Box::pin(lines.map(|line| Ok(convert::line(line))))))
    }
}
