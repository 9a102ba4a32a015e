//! An entry, for whom it can be installed, and where its secrets go.

use std::collections::BTreeSet;

use contracts::{
    credential::Credential,
    registry::{Entry, EntryRevision, Installation, entry::Server, entry_revision},
};
use registry_model::destination::{self, Destination};
use serde::{Deserialize, Serialize};

/// For whom an installation can be.
#[derive(Debug)]
pub(in crate::pages) struct Scope {
    /// `me` or `teams/{team}`.
    pub(in crate::pages) value: String,
    /// For people.
    pub(in crate::pages) label: String,
    /// Whether the opener may make and change the installation.
    pub(in crate::pages) manageable: bool,
    /// The one there is.
    pub(in crate::pages) installation: Option<Installation>,
}

/// Everything the page shows.
#[derive(Debug)]
pub(in crate::pages) struct Loaded {
    pub(in crate::pages) entry: Entry,
    /// `users/{user}`: the opener.
    pub(in crate::pages) me: String,
    /// Whether the opener is an admin.
    pub(in crate::pages) admin: bool,
    pub(in crate::pages) scopes: Vec<Scope>,
    pub(in crate::pages) target: Target,
}

/// What the form is for.
#[derive(Debug)]
pub(in crate::pages) enum Target {
    /// A new installation.
    New,
    /// The installation of this scope; what is known of its secrets, where the opener may know.
    Existing {
        scope: usize,
        credential: Option<Box<Credential>>,
    },
}

impl Loaded {
    /// The installation the form is for.
    pub(in crate::pages) fn installation(&self) -> Option<&Installation> {
        match &self.target {
            Target::New => None,
            Target::Existing { scope, .. } => self.scopes[*scope].installation.as_ref(),
        }
    }

    /// What is known of its secrets.
    pub(in crate::pages) fn credential(&self) -> Option<&Credential> {
        match &self.target {
            Target::Existing { credential, .. } => credential.as_deref(),
            Target::New => None,
        }
    }

    /// The secret fields that hold a value.
    pub(in crate::pages) fn stored(&self) -> BTreeSet<String> {
        self.credential()
            .map(|credential| credential.fields.iter().map(|field| field.key.clone()).collect())
            .unwrap_or_default()
    }

    /// What is known of the secrets, if they would go now where their owner has not agreed to. Of an installation that is behind its entry
    /// this is asked once it has come up to it.
    pub(in crate::pages) fn moved(&self) -> Option<&Credential> {
        let bound = |credential: &&Credential| !credential.bound_destination.is_empty();
        self.credential()
            .filter(|_| !self.is_behind())
            .filter(bound)
            .filter(|credential| credential.bound_destination != credential.present_destination)
    }

    fn is_behind(&self) -> bool {
        let behind = |installation: &Installation| installation.reinstall_required.is_some();
        self.installation().is_some_and(behind)
    }

    /// Where secrets that are entered now go: an installation that stayed behind its entry comes up to it with the form.
    pub(in crate::pages) fn goes_to(&self) -> Option<GoesTo> {
        match self.credential() {
            Some(credential) if !self.is_behind() => Some(GoesTo::Exactly(credential.present_destination.clone())),
            _ => destination(&self.entry).map(|destination| GoesTo::Entry(destination.binding)),
        }
    }
}

/// The destination of secrets that the opener was shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::pages) enum GoesTo {
    /// To this destination, as credential-svc says it.
    Exactly(String),
    /// To what the current entry revision runs, with what is stored on the entry: there is no installation of it yet.
    Entry(String),
}

impl GoesTo {
    /// Whether that is where they go by now.
    pub(in crate::pages) fn covers(&self, present: &str) -> bool {
        match self {
            Self::Exactly(shown) => destination::covers(shown, present),
            Self::Entry(shown) => destination::covers(shown, destination::without_stored(present)),
        }
    }
}

/// Where what is entered for the current entry revision goes.
pub(in crate::pages) fn destination(entry: &Entry) -> Option<Destination> {
    let server = match entry.server.clone()? {
        Server::Remote(remote) => entry_revision::Server::Remote(remote),
        Server::SelfHosted(hosted) => entry_revision::Server::SelfHosted(hosted),
    };
    destination::describe(&EntryRevision {
        server: Some(server),
        install_fields: entry.install_fields.clone(),
        ..EntryRevision::default()
    })
}
