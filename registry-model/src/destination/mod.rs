//! Determines the destination of an installation's secrets: the origin of a remote server, or everything that decides
//! what a self-hosted server runs. A stored secret is bound to its destination, and is vended for no other until its
//! owner confirms.
//!
//! What a self-hosted server runs is decided by its command, arguments, environment, files and transport, by the
//! targets of install fields, and by the values that the entry gives them. All of that is in the digest, whatever the
//! program is; there is no list of harmless programs. The only exception is the version of a package, if [`launch`] is
//! certain that nothing else would change.
//!
//! Values that the installing person enters are their own choice, and not in the digest. If somebody else has changed
//! them on a personal installation, [`ValuesByOthers`] adds them, and it is another destination.

mod diff;
mod digest;
mod foreign;
mod launch;
mod parts;
mod show;
#[cfg(test)]
mod tests;
mod version;

use contracts::registry::{EntryRevision, Installation, entry_revision::Server};
use url::Url;

pub use self::{
    diff::{Change, changes},
    foreign::{ValuesByOthers, values},
    show::{Part, Text, stored_secret},
};

/// The destination of an entry revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// What secrets are bound to: a remote server's origin, such as `https://mcp.example.com`, and a digest of the
    /// authorization servers that the entry names, if any; or for a self-hosted server `code:v1:` and a digest in hex.
    /// Every version of the program computes the same.
    pub binding: String,
    /// The origin or the command line, for people; bounded.
    pub description: String,
    /// The parts of the destination, to show what has changed; bounded.
    pub parts: Vec<Part>,
}

/// The binding of an entry revision. `None` if it has no server.
pub fn of(revision: &EntryRevision) -> Option<String> {
    let servers = parts::of_authorization_servers(revision);
    match revision.server.as_ref()? {
        Server::Remote(remote) => Some(with_servers(of_url(&remote.url)?, &servers)),
        Server::SelfHosted(server) => {
            let mut parts = parts::of_server(server, &revision.install_fields);
            parts.extend(servers);
            Some(digest::of_code(&parts))
        }
    }
}

/// The destination of an entry revision, with its description. `None` if it has no server.
pub fn describe(revision: &EntryRevision) -> Option<Destination> {
    let servers = parts::of_authorization_servers(revision);
    match revision.server.as_ref()? {
        Server::Remote(remote) => {
            let origin = of_url(&remote.url)?;
            let mut parts = vec![parts::origin(&origin)];
            let binding = with_servers(origin.clone(), &servers);
            parts.extend(servers);
            Some(Destination {
                description: show::bounded(&origin),
                parts: show::outline(&parts),
                binding,
            })
        }
        Server::SelfHosted(server) => {
            let mut parts = parts::of_server(server, &revision.install_fields);
            parts.extend(servers);
            Some(Destination {
                binding: digest::of_code(&parts),
                description: show::command_line(server),
                parts: show::outline(&parts),
            })
        }
    }
}

/// The binding to a remote server and to the authorization servers that the entry names.
fn with_servers(origin: String, servers: &[parts::Part<'_>]) -> String {
    if servers.is_empty() {
        return origin;
    }
    let digest = digest::of_parts("chandlery destination: authorization servers, version 1", servers);
    format!("{origin}{TOKENS}{digest}")
}

/// The destination of this installation's secrets while it runs `revision`.
pub fn of_installation(revision: &EntryRevision, installation: &Installation) -> Option<String> {
    Some(with(&of(revision)?, ValuesByOthers::of(installation).as_ref()))
}

/// The destination of an installation, derived from that of the entry revision that it runs.
pub fn with(binding: &str, foreign: Option<&ValuesByOthers>) -> String {
    match foreign {
        Some(foreign) => format!("{binding}{VALUES}{}", foreign.as_str()),
        None => binding.to_owned(),
    }
}

/// The destination of secrets that are sent to a server together with secrets stored on the entry. Those are given by
/// key, with the generation of each. An admin chooses them, and they may decide what runs like everything else an admin
/// sets.
pub fn with_stored<'a>(binding: &str, stored: impl IntoIterator<Item = (&'a str, i64)>) -> String {
    let mut stored: Vec<_> = stored.into_iter().collect();
    if stored.is_empty() {
        return binding.to_owned();
    }
    stored.sort_unstable();
    let mut digest = digest::Digest::new("chandlery destination: stored secrets, version 1");
    digest.number(stored.len() as u64);
    for (key, generation) in stored {
        digest.text(key);
        digest.number(generation.unsigned_abs());
    }
    format!("{binding}{STORED}{}", digest.hex())
}

/// Whether a secret that is bound to `bound` may be vended for `present`. Each change of values by somebody else must
/// be confirmed. Values that the owner has set since then require no confirmation.
pub fn covers(bound: &str, present: &str) -> bool {
    if bound.is_empty() || bound == present {
        return !bound.is_empty();
    }
    let ((bound, bound_stored), (present, stored)) = (split(bound, STORED), split(present, STORED));
    let ((code, _), (present_code, foreign)) = (split(bound, VALUES), split(present, VALUES));
    bound_stored == stored && foreign.is_none() && code == present_code
}

/// The binding without the secrets stored on the entry, which is the form that workloads know.
pub fn without_stored(binding: &str) -> &str {
    split(binding, STORED).0
}

fn split<'a>(binding: &'a str, mark: &str) -> (&'a str, Option<&'a str>) {
    match binding.split_once(mark) {
        Some((before, behind)) => (before, Some(behind)),
        None => (binding, None),
    }
}

/// Which parts of a destination differ from what the owner confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The origin, or what the entry runs.
    pub server: bool,
    /// Values of the installation that somebody other than its owner has set since.
    pub values: bool,
    /// Secrets stored on the entry.
    pub stored: bool,
}

/// Compares a confirmed destination with the present one, part by part. Foreign values in `bound` make no difference if
/// `present` has none; see [`covers`].
pub fn difference(bound: &str, present: &str) -> Difference {
    // A legacy binding may contain any text and has no parts.
    if is_legacy(bound) {
        return Difference {
            server: true,
            values: split(present, VALUES).1.is_some(),
            stored: false,
        };
    }
    let ((bound, bound_stored), (present, stored)) = (split(bound, STORED), split(present, STORED));
    let ((server, agreed), (present_server, foreign)) = (split(bound, VALUES), split(present, VALUES));
    Difference {
        server: server != present_server,
        values: foreign.is_some() && foreign != agreed,
        stored: stored != bound_stored,
    }
}

/// The part of a binding that people can read: an origin, or the program of a legacy binding. A digest has none.
pub fn readable(binding: &str) -> String {
    let binding = binding.strip_prefix(INCOMPLETE).unwrap_or(binding);
    let shown = match binding.split('#').next() {
        _ if is_legacy(binding) => binding.trim_start_matches(LEGACY),
        Some(origin) if !is_code(binding) => origin,
        _ => "",
    };
    show::bounded(shown)
}

/// Whether this is the binding of a self-hosted server.
pub fn is_code(binding: &str) -> bool {
    binding.starts_with(digest::CODE)
}

/// Whether this is a legacy binding: earlier versions bound secrets of a self-hosted server only to its program.
pub fn is_legacy(binding: &str) -> bool {
    binding.starts_with(LEGACY)
}

const LEGACY: &str = "command:";

/// A binding that covers no destination, for secrets of which a part was lost: their owner must confirm where the rest may go.
pub fn incomplete(binding: &str) -> String {
    format!("{INCOMPLETE}{binding}")
}

/// Whether a part of the secrets with this binding was lost.
pub fn is_incomplete(binding: &str) -> bool {
    binding.starts_with(INCOMPLETE)
}

const INCOMPLETE: &str = "incomplete:";

/// Prefixes of the parts of a binding that describe the authorization servers, the installation's values and the entry's
/// secrets, in this order. Neither an origin nor a digest can contain `#`.
const TOKENS: &str = "#tokens=";
const VALUES: &str = "#values=";
const STORED: &str = "#stored=";

fn of_url(url: &str) -> Option<String> {
    let origin = Url::parse(url).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}
