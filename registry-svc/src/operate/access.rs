//! Whether a person may do something, for the workloads that ask.

use contracts::registry::{
    AccessAction, AuthorizeEntryRequest, AuthorizeEntryResponse, AuthorizeInstallationRequest,
    AuthorizeInstallationResponse, Principal,
};
use registry_model::tenancy;
use service_kit::{User, UserId};

use super::{Registry, entries, uid_in};
use crate::{
    domain::{
        Caller, Error,
        installation::{require_entruster, require_manager, sees},
    },
    store::{installations, revisions, runtimes},
};

/// The installation with what it runs, if they may do this to it.
pub(crate) async fn installation(
    registry: &Registry,
    request: AuthorizeInstallationRequest,
) -> Result<AuthorizeInstallationResponse, Error> {
    let caller = principal(registry, request.principal.clone()).await?;
    let action = known(request.action())?;
    let uid = uid_in("installations", "installation", &request.installation)?;
    let mut tx = registry.db.read().await?;
    let found = installations::by_uid(&mut tx, uid).await?;
    let installation = found
        .filter(|installation| installation.delete_time.is_none() && sees(&caller, installation))
        .ok_or_else(|| Error::NotFound(request.installation.clone()))?;
    match action {
        Action::Read => {}
        Action::Manage => require_manager(&caller, &installation)?,
        Action::Entrust => require_entruster(&caller, &installation)?,
    }
    let running_entry_revision = installations::running(&mut tx, &installation).await?;
    let owner = match &running_entry_revision {
        Some(revision) if tenancy::is_shared(revision) => &installation.entry_uid,
        _ => &installation.uid,
    };
    let runtime = runtimes::of(&mut tx, owner).await?;
    Ok(AuthorizeInstallationResponse {
        installation: Some(installation),
        running_entry_revision,
        runtime,
    })
}

/// The entry with its current revision, if they may do this to it.
pub(crate) async fn entry(
    registry: &Registry,
    request: AuthorizeEntryRequest,
) -> Result<AuthorizeEntryResponse, Error> {
    let caller = principal(registry, request.principal.clone()).await?;
    let action = known(request.action())?;
    let mut tx = registry.db.read().await?;
    let entry = entries::visible(&mut tx, &caller, "entry", &request.entry).await?;
    if action != Action::Read {
        caller.require_admin()?;
    }
    let current_entry_revision = revisions::get(&mut tx, &entry.uid, entry.entry_revision).await?;
    let runtime = runtimes::of(&mut tx, &entry.uid).await?;
    Ok(AuthorizeEntryResponse {
        entry: Some(entry),
        current_entry_revision,
        runtime,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Read,
    Manage,
    Entrust,
}

fn known(action: AccessAction) -> Result<Action, Error> {
    match action {
        AccessAction::Read => Ok(Action::Read),
        AccessAction::Manage => Ok(Action::Manage),
        AccessAction::Entrust => Ok(Action::Entrust),
        AccessAction::Unspecified => Err(Error::invalid("action", "must be READ, MANAGE or ENTRUST")),
    }
}

async fn principal(registry: &Registry, principal: Option<Principal>) -> Result<Caller, Error> {
    let Some(principal) = principal.filter(|principal| !principal.issuer.is_empty() && !principal.subject.is_empty())
    else {
        return Err(Error::invalid("principal", "must have an issuer and a subject"));
    };
    let some = |text: String| (!text.is_empty()).then_some(text);
    let user = User {
        id: UserId::of(&principal.issuer, &principal.subject),
        machine: principal.machine,
        issuer: principal.issuer,
        subject: principal.subject,
        audiences: Vec::new(),
        email: some(principal.email),
        display_name: some(principal.display_name),
        groups: principal.groups,
        admin: principal.admin,
        // The workload has just verified the token; its audience and expiry are not checked again here.
        expires_at: registry.clock.now(),
    };
    registry.known(&user).await
}
