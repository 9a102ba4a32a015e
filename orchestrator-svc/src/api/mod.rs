//! RuntimeService: shows servers to the people who may manage them.

mod convert;
mod status;

use std::{pin::Pin, sync::Arc, time::Duration};

use contracts::{
    orchestrator::{
        GetRuntimeRequest, RestartRuntimeRequest, Runtime as RuntimeMessage, StreamRuntimeLogsRequest,
        StreamRuntimeLogsResponse, runtime_service_server::RuntimeService,
    },
    registry::{AccessAction, installation::Scope},
};
use futures::Stream;
use registry_client::access::Access;
use service_kit::{Clock, identity::require_user, status::Violations};
use tokio::sync::broadcast;
use tonic::{Code, Request, Response, Status};

use crate::{
    domain::{logs::LogLine, plan::self_hosted, status::State},
    reconcile::{Controller, Runtime},
};

/// How long RestartRuntime waits for the outcome; then it says how things stand.
const RESTART_PATIENCE: Duration = Duration::from_secs(150);

/// The service.
#[derive(Debug)]
pub(crate) struct RuntimeApi {
    controller: Arc<Controller>,
    access: Access,
    clock: Clock,
}

/// What a request is about.
struct Subject {
    name: String,
    uid: String,
    generation: i64,
    /// Number of the entry revision that it runs.
    revision: i64,
    /// Of a personal installation whose entry asks its owner about new versions: `users/{user}`.
    decides_versions: Option<String>,
}

impl RuntimeApi {
    pub(crate) fn new(controller: Arc<Controller>, access: Access, clock: Clock) -> Self {
        Self {
            controller,
            access,
            clock,
        }
    }

    /// The installation's server, if the caller may manage it.
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
        })
    }

    fn show(&self, subject: &Subject, runtime: Option<&Arc<Runtime>>) -> RuntimeMessage {
        let status = runtime.and_then(|r| r.status.borrow().clone());
        convert::runtime(
            &subject.name,
            status.unwrap_or_else(|| crate::domain::status::Status::new(subject.generation)),
            self.controller.protections(),
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
        let runtime = self.controller.runtime(&subject.uid);
        Ok(Response::new(self.show(&subject, runtime.as_ref())))
    }

    async fn restart_runtime(
        &self,
        request: Request<RestartRuntimeRequest>,
    ) -> Result<Response<RuntimeMessage>, Status> {
        let subject = self
            .subject(&request, &request.get_ref().name, Violations::new())
            .await?;
        let update = request.get_ref().update_package;
        if update
            && let Some(owner) = &subject.decides_versions
            && *owner != require_user(&request)?.id.resource_name()
        {
            return Err(status::not_the_owner());
        }
        let runtime = self.controller.runtime(&subject.uid);
        if let Some(runtime) = &runtime {
            let mut number = 0;
            runtime.restarts.send_modify(|last| {
                last.number += 1;
                if update {
                    last.updates_asked += 1;
                    last.update_for_revision = subject.revision;
                }
                number = last.number;
            });
            let mut status = runtime.status.subscribe();
            let settled = status.wait_for(|s| {
                let starting = |s: &crate::domain::status::Status| s.state == State::Pending && s.reason == "STARTING";
                s.as_ref().is_none_or(|s| s.restart >= number && !starting(s))
            });
            let _ = tokio::time::timeout(RESTART_PATIENCE, settled).await;
        }
        Ok(Response::new(self.show(&subject, runtime.as_ref())))
    }

    async fn stream_runtime_logs(
        &self,
        request: Request<StreamRuntimeLogsRequest>,
    ) -> Result<Response<Self::StreamRuntimeLogsStream>, Status> {
        let (selection, violations) = convert::selection(request.get_ref(), self.clock.now_micros());
        let subject = self.subject(&request, &request.get_ref().name, violations).await?;
        let Some(runtime) = self.controller.runtime(&subject.uid) else {
            return Ok(Response::new(Box::pin(futures::stream::empty())));
        };
        let (tail, mut live) = runtime.logs.tail(selection.tail, selection.since);
        let follow = request.get_ref().follow;
        drop(runtime);
        let stream = async_stream::stream! {
            for line in tail {
                yield Ok(convert::line(line));
            }
            if !follow {
                return;
            }
            loop {
                match live.recv().await {
                    Ok(line) => yield Ok(convert::line(line)),
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        let text = format!("[{missed} lines were written too fast to be shown]");
                        yield Ok(convert::line(LogLine { text, time: 0 }));
                    }
                    // The installation is gone.
                    Err(broadcast::error::RecvError::Closed) => break,
                }
            }
        };
        Ok(Response::new(Box::pin(stream)))
    }
}
