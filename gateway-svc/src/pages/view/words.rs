//! Words for entries and installations, that several pages use.

use contracts::registry::{Entry, InstallationState};

/// What people read for an entry.
pub(super) fn name(entry: &Entry) -> &str {
    if entry.display_name.is_empty() {
        slug(entry)
    } else {
        &entry.display_name
    }
}

pub(super) fn slug(entry: &Entry) -> &str {
    entry.name.strip_prefix("entries/").unwrap_or(&entry.name)
}

/// What people read for the state of an installation.
pub(super) fn state_text(state: InstallationState) -> &'static str {
    match state {
        InstallationState::Ready => "It is ready.",
        InstallationState::Failed => "It is not working.",
        InstallationState::Deleting => "It is being deleted.",
        InstallationState::Pending | InstallationState::Unspecified => "It is not ready yet.",
    }
}
