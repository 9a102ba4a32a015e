//! Finds the server that a request is about, and whether the caller may manage it.

use contracts::registry::{self, AccessAction, installation::Scope};
use registry_client::access::Access;
use registry_model::tenancy;
use service_kit::User;
use tonic::{Code, Status};

use super::{
    convert::{self, Parent},
    status,
};
use crate::reconcile::self_hosted;

/// The server that a request is about.
pub(super) struct Subject {
    pub(super) parent: Parent,
    /// The uid by which the runtime knows it.
    pub(super) uid: String,
    pub(super) generation: i64,
    /// The number of the entry revision that it runs.
    pub(super) revision: i64,
    pub(super) versions: Versions,
    /// The status that was last reported to the registry.
    pub(super) reported: Option<registry::Runtime>,
    /// Of an installation whose server others share: `entries/{entry}`.
    pub(super) shared_by: Option<String>,
}

/// Who may update the package.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Versions {
    /// Everybody who may restart the server.
    Managers,
    /// `users/{user}` alone.
    Owner(String),
    /// Nobody: there are many who must agree, each for themselves.
    Entry,
}

impl Subject {
    /// The same, if the caller may do more than see its state: those who share a server with others neither restart it nor read its log.
    pub(super) fn if_own(self) -> Result<Self, Status> {
        match &self.shared_by {
            Some(entry) => Err(status::shared(entry)),
            None => Ok(self),
        }
    }
}

/// Asks the registry.
#[derive(Clone)]
pub(super) struct Authorizer {
    access: Access,
}

impl Authorizer {
    pub(super) fn new(access: Access) -> Self {
        Self { access }
    }

    /// The server of an installation or an entry, if the user may manage that.
    pub(super) async fn subject(&self, user: &User, parent: &Parent) -> Result<Subject, Status> {
        match parent {
            Parent::Installation(name) => self.of_installation(user, name).await,
            Parent::Entry(name) => self.of_entry(user, name).await,
        }
    }

    async fn of_installation(&self, user: &User, name: &str) -> Result<Subject, Status> {
        let answer = self.access.installation(name, user, AccessAction::Manage).await;
        let answer = answer.map_err(from_registry)?;
        let running = answer.running_entry_revision.unwrap_or_default();
        let server = self_hosted(&running).ok_or_else(status::not_self_hosted)?;
        let installation = answer.installation.unwrap_or_default();
        let shared = tenancy::shares(server);
        let versions = match installation.scope {
            _ if shared => Versions::Entry,
            Some(Scope::User(owner)) if server.confirm_new_versions => Versions::Owner(owner),
            _ => Versions::Managers,
        };
        Ok(Subject {
            parent: Parent::Installation(name.to_owned()),
            uid: if shared {
                installation.entry_uid
            } else {
                installation.uid
            },
            generation: installation.generation,
            revision: running.number,
            versions,
            reported: answer.runtime,
            shared_by: shared.then_some(installation.entry),
        })
    }

    async fn of_entry(&self, user: &User, name: &str) -> Result<Subject, Status> {
        let answer = self.access.entry(name, user, AccessAction::Manage).await;
        let answer = answer.map_err(from_registry)?;
        let revision = answer.current_entry_revision.unwrap_or_default();
        let server = self_hosted(&revision).filter(|server| tenancy::shares(server));
        let versions = match server.ok_or_else(status::not_shared)?.confirm_new_versions {
            true => Versions::Entry,
            false => Versions::Managers,
        };
        Ok(Subject {
            parent: Parent::Entry(name.to_owned()),
            uid: answer.entry.unwrap_or_default().uid,
            generation: revision.number,
            revision: revision.number,
            versions,
            reported: answer.runtime,
            shared_by: None,
        })
    }
}

fn from_registry(status: Status) -> Status {
    match status.code() {
        // It names a field of another request.
        Code::InvalidArgument => convert::refused_name(),
        _ => status::from_registry(status),
    }
}
