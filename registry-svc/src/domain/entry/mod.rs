//! A registry entry: what an admin writes, checked as a whole.
//!
//! An entry is kept and shown as the contract's own message, in which every later capability is an additive field. What
//! turns a message into an [`EntrySpec`] is that it was checked; nothing behind the parser checks it again.

mod credential_model;
mod headers;
mod install_fields;
mod mask;
mod search;
mod server;
mod tenancy;
#[cfg(test)]
mod tests;
mod transport;

use std::collections::HashMap;

use contracts::registry as pb;
use pb::{InstallField, entry, entry_revision};
use prost::Message as _;
use registry_model::credential_models;
use service_kit::{egress::EgressPolicy, status::Violations};

use super::{
    text::{check_labels, check_line, check_link, check_text},
    visibility,
};

pub(crate) use install_fields::{MAX_FIELDS, check_value};
pub(crate) use mask::apply_mask;
pub(crate) use search::{query_words, words};

/// The most bytes of an entry, encoded: with what services report of it, it must fit into one message of the watch.
const MAX_ENTRY: usize = 1_030_000;

/// What an admin says about an entry, valid as a whole; every output only field is empty.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EntrySpec(pb::Entry);

impl EntrySpec {
    /// Checks a message; names everything that is wrong, with paths that begin with `entry`. Output only fields are ignored.
    pub(crate) fn parse(entry: pb::Entry, egress: &EgressPolicy) -> Result<Self, Violations> {
        let mut entry = without_outputs(entry);
        let mut violations = Violations::new();
        check_words(&mut violations, &entry);
        entry.visibility = Some(visibility::parse(
            &mut violations,
            "entry.visibility",
            entry.visibility.take(),
        ));
        server::check(&mut violations, &mut entry, egress);
        install_fields::check(&mut violations, &mut entry);
        credential_model::check(&mut violations, &entry, egress);
        headers::check(&mut violations, &entry);
        let size = entry.encoded_len();
        if size > MAX_ENTRY {
            violations.add(
                "entry",
                format!("must have at most {MAX_ENTRY} bytes in all; it has {size}"),
            );
        }
        make_explicit(&mut entry);
        violations.into_result(Self(entry))
    }

    /// A specification that was checked before it was saved.
    pub(crate) fn from_stored(entry: pb::Entry) -> Self {
        Self(entry)
    }

    /// The message.
    pub(crate) fn message(&self) -> &pb::Entry {
        &self.0
    }

    /// What an entry revision says; names, texts, labels and visibility, which are not in it, are empty.
    pub(crate) fn of_revision(revision: pb::EntryRevision) -> Self {
        Self(pb::Entry {
            server: revision.server.map(|server| match server {
                entry_revision::Server::Remote(remote) => entry::Server::Remote(remote),
                entry_revision::Server::SelfHosted(server) => entry::Server::SelfHosted(server),
            }),
            credential_model: revision.credential_model.map(credential_models::to_entry),
            install_fields: revision.install_fields,
            additional_headers: revision.additional_headers,
            version: revision.version,
            ..pb::Entry::default()
        })
    }

    /// What installations run, as a revision that is yet without name, number, author and time.
    pub(crate) fn revision(&self) -> pb::EntryRevision {
        let entry = self.0.clone();
        pb::EntryRevision {
            server: entry.server.map(|server| match server {
                entry::Server::Remote(remote) => entry_revision::Server::Remote(remote),
                entry::Server::SelfHosted(server) => entry_revision::Server::SelfHosted(server),
            }),
            credential_model: entry.credential_model.map(credential_models::of_entry),
            install_fields: entry.install_fields,
            additional_headers: entry.additional_headers,
            version: entry.version,
            ..pb::EntryRevision::default()
        }
    }

    /// Whether the same runs, the same is asked of who installs, and calls send the same. Else a change from one to the other makes
    /// a new entry revision, and each installation that moves to it has a new generation. Texts for people do not count.
    pub(crate) fn runs_as(&self, other: &Self) -> bool {
        // What was saved before a default existed is the same as what is saved now.
        let server = |entry: &pb::Entry| {
            let mut server = entry.server.clone();
            make_server_explicit(server.as_mut());
            server
        };
        let fields = |entry: &pb::Entry| -> Vec<InstallField> {
            let without_texts = |field: &InstallField| InstallField {
                title: String::new(),
                description: String::new(),
                ..field.clone()
            };
            entry.install_fields.iter().map(without_texts).collect()
        };
        server(&self.0) == server(&other.0)
            && self.0.credential_model == other.0.credential_model
            && fields(&self.0) == fields(&other.0)
            && self.0.additional_headers == other.0.additional_headers
    }

    /// Whether the orchestrator runs a server for each installation.
    pub(crate) fn has_own_runtimes(&self) -> bool {
        matches!(self.0.server, Some(entry::Server::SelfHosted(_))) && !self.has_shared_runtime()
    }

    /// Whether the orchestrator runs one server for all installations.
    pub(crate) fn has_shared_runtime(&self) -> bool {
        tenancy::is_shared(&self.0)
    }

    /// The field of this key.
    pub(crate) fn field(&self, key: &str) -> Option<&InstallField> {
        self.0.install_fields.iter().find(|field| field.key == key)
    }

    /// Whether the field's value ends in a header, by its target or by an additional header.
    pub(crate) fn goes_to_header(&self, field: &InstallField) -> bool {
        headers::receives(&self.0, field)
    }
}

/// Writes defaults out, so that a reader can distinguish an unset case from one that is newer than the reader.
fn make_explicit(entry: &mut pb::Entry) {
    make_server_explicit(entry.server.as_mut());
    credential_model::make_explicit(&mut entry.credential_model);
}

fn make_server_explicit(server: Option<&mut entry::Server>) {
    let server = match server {
        Some(entry::Server::Remote(server)) => {
            make_session_model_explicit(&mut server.session_model);
            return;
        }
        Some(entry::Server::SelfHosted(server)) => server,
        None => return,
    };
    tenancy::make_explicit(server);
    match &mut server.transport {
        Some(pb::self_hosted_server::Transport::Stdio(stdio))
            if stdio.process_model == i32::from(pb::ProcessModel::Unspecified) =>
        {
            stdio.set_process_model(pb::ProcessModel::OneForAll);
        }
        Some(pb::self_hosted_server::Transport::StreamableHttp(http)) => {
            make_session_model_explicit(&mut http.session_model)
        }
        _ => {}
    }
}

fn make_session_model_explicit(model: &mut i32) {
    if *model == i32::from(pb::SessionModel::Unspecified) {
        *model = pb::SessionModel::OnePerClient.into();
    }
}

/// Whether an entry may go from one lifecycle to the other.
pub(crate) fn may_become(from: pb::EntryLifecycle, to: pb::EntryLifecycle) -> bool {
    use pb::EntryLifecycle::{Approved, Deprecated, Draft};
    matches!((from, to), (Draft | Deprecated, Approved) | (Approved, Deprecated))
}

/// Lower case, as people read it in errors.
pub(crate) fn lifecycle_word(lifecycle: pb::EntryLifecycle) -> &'static str {
    match lifecycle {
        pb::EntryLifecycle::Approved => "approved",
        pb::EntryLifecycle::Deprecated => "deprecated",
        pb::EntryLifecycle::Draft | pb::EntryLifecycle::Unspecified => "a draft",
    }
}

/// The message without what only the registry says.
pub(crate) fn without_outputs(entry: pb::Entry) -> pb::Entry {
    pb::Entry {
        name: String::new(),
        uid: String::new(),
        lifecycle: 0,
        etag: String::new(),
        entry_revision: 0,
        create_time: None,
        update_time: None,
        creator: String::new(),
        updater: String::new(),
        delete_time: None,
        registry_revision: 0,
        conditions: Vec::new(),
        credential_generation: 0,
        discovered: Vec::new(),
        rollout: None,
        label_revisions: HashMap::new(),
        ..entry
    }
}

fn check_words(violations: &mut Violations, entry: &pb::Entry) {
    check_line(violations, "entry.display_name", &entry.display_name, 120);
    check_text(violations, "entry.description", &entry.description, 4_000);
    check_text(violations, "entry.instructions", &entry.instructions, 20_000);
    check_link(violations, "entry.icon_url", &entry.icon_url, &["https"]);
    check_link(violations, "entry.docs_url", &entry.docs_url, &["http", "https"]);
    check_line(violations, "entry.version", &entry.version, 120);
    check_labels(violations, "entry.labels", &entry.labels);
}
