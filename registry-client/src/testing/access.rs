//! The fake AccessService. People may do everything with their own installations, and admins with all. Everybody sees
//! the installations of teams, but only admins may manage them.

use contracts::registry::{
    AuthorizeEntryRequest, AuthorizeEntryResponse, AuthorizeInstallationRequest, AuthorizeInstallationResponse, Entry,
    ErrorReason, Installation, Principal, access_service_server::AccessService, installation::Scope,
};
use service_kit::{
    UserId,
    status::{Reason, StatusBuilder, not_found},
};
use tonic::{Code, Request, Response, Status};

use super::FakeRegistry;

#[tonic::async_trait]
impl AccessService for FakeRegistry {
    async fn authorize_installation(
        &self,
        request: Request<AuthorizeInstallationRequest>,
    ) -> Result<Response<AuthorizeInstallationResponse>, Status> {
        let request = request.into_inner();
        let principal = request.principal.unwrap_or_default();
        let state = self.lock();
        let installation = request
            .installation
            .strip_prefix("installations/")
            .and_then(|uid| state.objects.get::<Installation>(uid))
            .filter(|installation| principal.admin || sees(&principal, installation))
            .ok_or_else(|| not_found(&request.installation))?;
        if !principal.admin && matches!(installation.scope, Some(Scope::Team(_))) {
            return Err(forbidden());
        }
        Ok(Response::new(AuthorizeInstallationResponse {
            running_entry_revision: state.objects.running(installation).cloned(),
            runtime: state.objects.runtime_of(installation).cloned(),
            installation: Some(installation.clone()),
        }))
    }

    async fn authorize_entry(
        &self,
        request: Request<AuthorizeEntryRequest>,
    ) -> Result<Response<AuthorizeEntryResponse>, Status> {
        let request = request.into_inner();
        let state = self.lock();
        let entry = state
            .objects
            .all::<Entry>()
            .find(|entry| entry.name == request.entry)
            .ok_or_else(|| not_found(&request.entry))?;
        if !request.principal.unwrap_or_default().admin {
            return Err(forbidden());
        }
        let revision = format!("{}/{}", entry.uid, entry.entry_revision);
        Ok(Response::new(AuthorizeEntryResponse {
            current_entry_revision: state.objects.get(&revision).cloned(),
            runtime: state.objects.get(&entry.uid).cloned(),
            entry: Some(entry.clone()),
        }))
    }
}

/// A test names a user by resource name, as registry-svc does, or by the bare subject if it has no issuer yet.
fn sees(principal: &Principal, installation: &Installation) -> bool {
    let is_theirs = match &installation.scope {
        Some(Scope::User(user)) => {
            *user == principal.subject || *user == UserId::of(&principal.issuer, &principal.subject).resource_name()
        }
        Some(Scope::Team(_)) => true,
        None => false,
    };
    is_theirs && installation.delete_time.is_none()
}

fn forbidden() -> Status {
    let reason = Reason::of(ErrorReason::PermissionDenied, ErrorReason::as_str_name);
    StatusBuilder::new(Code::PermissionDenied, reason, "only an admin may do that").build()
}
