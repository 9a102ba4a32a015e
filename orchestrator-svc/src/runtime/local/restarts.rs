//! The restarts that were requested for an owner's server.

use crate::domain::runtime::Restart;

/// A restart that has no outcome yet.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingRestart {
    pub(super) id: String,
    /// Whether it requests an update, and so has no outcome before the update has.
    pub(super) updates: bool,
}

/// The restarts that were requested.
#[derive(Clone, Debug, Default)]
pub(super) struct Restarts {
    pub(super) last: PendingRestart,
    /// Counts requests to update the package. A later restart without one does not cancel an update.
    pub(super) updates: u64,
    /// `Restart::update_package_of` of the last request to update the package.
    pub(super) update_package_of: i64,
}

impl Restarts {
    pub(super) fn add(&mut self, restart: &Restart) {
        self.last = PendingRestart {
            id: restart.id.clone(),
            updates: restart.update_package_of.is_some(),
        };
        if let Some(revision) = restart.update_package_of {
            self.updates += 1;
            self.update_package_of = revision;
        }
    }
}
