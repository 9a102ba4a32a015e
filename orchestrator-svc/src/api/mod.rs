//! RuntimeService: shows and restarts servers, for the people who may manage their installations, or for admins where those share one.

mod authorize;
mod convert;
mod follow;
mod status;
#[cfg(test)]
mod tests;

use std::{pin::Pin, sync::Arc, time::Duration};

use contracts::orchestrator::{
    GetRuntimeRequest, RestartRuntimeRequest, Runtime as RuntimeMessage, StreamRuntimeLogsRequest,
    StreamRuntimeLogsResponse, runtime_service_server::RuntimeService,
};
use futures::{Stream, StreamExt as _};
use registry_client::access::Access;
use service_kit::{Clock, identity::require_user, status::Violations};
use tonic::{Request, Response, Status};

use self::{
    authorize::{Authorizer, Subject, Versions},
    follow::{Reader, while_authorized},
};
use crate::domain::{
    runtime::{Restart, Runtime, RuntimeError},
    status::Status as RuntimeStatus,
};

/// How often the permission of a person who follows a log is checked again.
const CHECK: Duration = Duration::from_secs(15);

/// The service.
pub(crate) struct RuntimeApi {
    runtime: Arc<dyn Runtime>,
    authorizer: Authorizer,
    clock: Clock,
    /// [`CHECK`], or another one in tests.
    check: Duration,
}

impl RuntimeApi {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, access: Access, clock: Clock) -> Self {
        Self {
            runtime,
            authorizer: Authorizer::new(access),
            clock,
            check: CHECK,
        }
    }

    /// The server, if the caller may manage what it belongs to.
    async fn subject<T>(&self, request: &Request<T>, name: &str, violations: Violations) -> Result<Subject, Status> {
        let user = require_user(request)?;
        let parent = convert::parent(name, violations)?;
        self.authorizer.subject(&user, &parent).await
    }

    fn show(&self, subject: Subject) -> RuntimeMessage {
        let status = self.runtime.status(&subject.uid);
        let status = status.or_else(|| subject.reported.map(convert::reported));
        convert::runtime(
            subject.parent.runtime(),
            status.unwrap_or_else(|| RuntimeStatus::starting(subject.generation)),
            subject.shared_by.is_none(),
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
        let subject = self
            .subject(&request, &request.get_ref().name, violations)
            .await?
            .if_own()?;
        let update = request.get_ref().update_package;
        match &subject.versions {
            Versions::Owner(owner) if update && *owner != require_user(&request)?.id.resource_name() => {
                return Err(status::not_the_owner());
            }
            Versions::Entry if update => return Err(status::versions_of_the_entry()),
            _ => {}
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
        let subject = self
            .subject(&request, &request.get_ref().name, violations)
            .await?
            .if_own()?;
        let lines = self.runtime.logs(&subject.uid, query);
        if !query.follow {
            return Ok(Response::new(Box::pin(lines.map(|line| Ok(convert::line(line))))));
        }
        let reader = Reader {
            authorizer: self.authorizer.clone(),
            user: require_user(&request)?,
            parent: subject.parent,
            clock: self.clock.clone(),
            check: self.check,
        };
        let lines = while_authorized(reader, lines);
        Ok(Response::new(Box::pin(lines.map(|line| line.map(convert::line)))))
    }
}
