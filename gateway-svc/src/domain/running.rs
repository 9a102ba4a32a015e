//! An installation and what it runs.

use std::sync::Arc;

use super::{Condition, ConditionState, Endpoint, Entry, HeaderSource, Installation, Revision};

/// An installation with all that a call to it requires, from one snapshot of the registry. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    /// The installation.
    pub(crate) installation: Arc<Installation>,
    /// Its entry.
    pub(crate) entry: Arc<Entry>,
    /// The entry revision it runs.
    pub(crate) revision: Arc<Revision>,
    /// Where its server is; `None` while nothing can be called.
    pub(crate) endpoint: Option<Endpoint>,
    /// How often its server has said that its list of tools changed, where the orchestrator runs it.
    pub(crate) tool_list_changes: i64,
    /// Set where all installations of the entry share the server.
    pub(crate) shared: Option<Shared>,
}

/// The server that all installations of an entry share, as one of them may use it.
#[derive(Clone, Debug)]
pub(crate) enum Shared {
    /// It serves the installation.
    Serves {
        /// What was reported of it; nothing so far: `None`.
        ready: Option<Arc<Condition>>,
        /// Whether it still runs an earlier entry revision than the installation, which is the same destination for secrets.
        earlier: bool,
    },
    /// It runs an entry revision that is another destination for secrets than the one the installation runs.
    RunsAnother,
}

/// What runs the server of an installation, or of an entry whose installations share it, as the orchestrator reports it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runtime {
    /// Where the server is; `None` while nothing can be called.
    pub(crate) endpoint: Option<Endpoint>,
    /// As in [`Running`].
    pub(crate) tool_list_changes: i64,
    /// The number of the entry revision, of a server that an entry's installations share.
    pub(crate) revision: i64,
    /// `RUNTIME_READY`, of such a server.
    pub(crate) ready: Option<Arc<Condition>>,
}

impl Running {
    /// `CREDENTIAL_READY` of the secrets stored on the entry, where it takes any and something was reported.
    pub(crate) fn entry_credential(&self) -> Option<&Condition> {
        self.entry.credential.as_ref().filter(|_| self.revision.stored_secrets)
    }

    /// Whether its secrets are stored, its own and those of its entry.
    pub(crate) fn has_credentials(&self) -> bool {
        self.installation.credential.status == ConditionState::True
            && self
                .entry_credential()
                .is_none_or(|credential| credential.status != ConditionState::False)
    }

    /// Whether it can be called: its secrets are stored and its server runs. Whether its tools are known does not matter:
    /// a failed discovery must not prevent calls to a server that has recovered.
    pub(crate) fn usable(&self) -> bool {
        !self.installation.deleted && self.endpoint.is_some() && self.has_credentials() && !self.stopped()
    }

    /// Whether its server, which the orchestrator runs, does not.
    pub(crate) fn stopped(&self) -> bool {
        self.revision.self_hosted && self.server() == ConditionState::False
    }

    /// Whether its server runs, where the orchestrator runs it. Unknown: it is being started.
    pub(crate) fn server(&self) -> ConditionState {
        match &self.shared {
            None => self.installation.runtime.status,
            Some(Shared::Serves { ready, .. }) => ready.as_ref().map_or(ConditionState::Unknown, |ready| ready.status),
            // It is about to be moved to what the server runs, or the server is about to run what it does.
            Some(Shared::RunsAnother) if !self.installation.held => ConditionState::Unknown,
            Some(Shared::RunsAnother) => ConditionState::False,
        }
    }

    /// Whether its server is about to be replaced by another version, which may have other tools.
    pub(crate) fn is_outdated(&self) -> bool {
        matches!(self.shared, Some(Shared::Serves { earlier: true, .. }))
    }

    /// For people: why its server does not run.
    pub(crate) fn server_message(&self) -> &str {
        match &self.shared {
            None => &self.installation.runtime.message,
            Some(Shared::Serves { ready, .. }) => ready.as_ref().map_or("", |ready| &ready.message),
            Some(Shared::RunsAnother) if self.installation.held => {
                "The server that all installations of the entry share has been updated, and this one lacks something that it now requires."
            }
            Some(Shared::RunsAnother) => "",
        }
    }

    /// Whether a call goes to the same place with the same headers as with `other`. May return `false` where it does.
    pub(crate) fn runs_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.installation, &other.installation)
            && Arc::ptr_eq(&self.revision, &other.revision)
            && self.endpoint == other.endpoint
    }

    /// Names and values of the headers that carry no secret, in the order of the entry.
    pub(crate) fn fixed_headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.revision.headers.iter().filter_map(|header| {
            let value = match &header.value {
                HeaderSource::Fixed(value) => value,
                HeaderSource::Prompted { key, default } => self.installation.value(key).unwrap_or(default),
            };
            (!value.is_empty()).then_some((&*header.name, value))
        })
    }
}
