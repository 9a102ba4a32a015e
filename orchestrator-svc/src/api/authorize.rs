//! Finds the installation that a request is about, and whether the caller may manage it.

use contracts::registry::{self, AccessAction, installation::Scope};
use registry_client::access::Access;
use service_kit::User;
use tonic::{Code, Status};

use super::{convert, status};
use crate::reconcile::self_hosted;

/// The installation that a request is about.
pub(super) struct Subject {
    /// `installations/{installation}`.
    pub(super) installation: String,
    pub(super) uid: String,
    pub(super) generation: i64,
    /// The number of the entry revision that it runs.
    pub(super) revision: i64,
    /// `users/{user}`, the only person who may update the package; `None` if everybody who may restart the server may.
    pub(super) decides_versions: Option<String>,
    /// The status that was last reported to the registry.
    pub(super) reported: Option<registry::Runtime>,
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

    /// The installation `installations/{installation}`, if its server is self-hosted and the user may manage it.
    pub(super) async fn subject(&self, user: &User, name: &str) -> Result<Subject, Status> {
        let answer = self
            .access
            .installation(name, user, AccessAction::Manage)
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
            installation: name.to_owned(),
            uid: installation.uid,
            generation: installation.generation,
            revision,
            reported: answer.runtime,
        })
    }
}
