//! Where the secrets of an installation go: of a remote server to its origin, of a self-hosted one to whatever runs. A stored secret is
//! bound to this, and is not vended for anything else until its owner agrees.
//!
//! What runs is decided by the command, its arguments, environment, files and transport, by where install fields go, and by the
//! values that the entry gives them; all of that is in the digest, whatever the program is. There is no list of programs that
//! are harmless. The one thing left out is the version of a package, where [`launch`] can tell for sure that nothing else would change.
//!
//! What the person who installs enters is their own choice, and not in the digest. Where somebody else has changed it on a
//! personal installation, [`Foreign`] adds it: then it is another destination.

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
    foreign::{Foreign, values},
    show::{Part, Text, stored_secret},
};

/// The destination of an entry revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// What secrets are bound to: a remote server's origin, such as `https://mcp.example.com`; for a self-hosted server `code:v1:`
    /// and a digest in hex. The same in every version of the program.
    pub binding: String,
    /// For people: the origin, or the command line; bounded.
    pub description: String,
    /// What it consists of, to show what has changed; bounded.
    pub parts: Vec<Part>,
}

/// The destination of an entry revision, without what is only for people. `None` for one without server.
pub fn of(revision: &EntryRevision) -> Option<String> {
    match revision.server.as_ref()? {
        Server::Remote(remote) => of_url(&remote.url),
        Server::SelfHosted(server) => Some(digest::of_code(&parts::of_server(server, &revision.install_fields))),
    }
}

/// The destination of an entry revision, for people as well. `None` for one without server.
pub fn describe(revision: &EntryRevision) -> Option<Destination> {
    match revision.server.as_ref()? {
        Server::Remote(remote) => {
            let origin = of_url(&remote.url)?;
            Some(Destination {
                description: show::bounded(&origin),
                parts: show::outline(&[parts::origin(&origin)]),
                binding: origin,
            })
        }
        Server::SelfHosted(server) => {
            let parts = parts::of_server(server, &revision.install_fields);
            Some(Destination {
                binding: digest::of_code(&parts),
                description: show::command_line(server),
                parts: show::outline(&parts),
            })
        }
    }
}

/// Where the secrets of this installation go while it runs `revision`.
pub fn of_installation(revision: &EntryRevision, installation: &Installation) -> Option<String> {
    Some(with(&of(revision)?, Foreign::of(installation).as_ref()))
}

/// The destination of an installation, from that of the entry revision which it runs.
pub fn with(binding: &str, foreign: Option<&Foreign>) -> String {
    match foreign {
        Some(foreign) => format!("{binding}{VALUES}{}", foreign.as_str()),
        None => binding.to_owned(),
    }
}

/// The destination of secrets that go to a server together with secrets that are stored on the entry: by key, and the generation that each
/// came with. These are what an admin puts there, and may decide what runs as all else does.
pub fn beside<'a>(binding: &str, stored: impl IntoIterator<Item = (&'a str, i64)>) -> String {
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

/// Whether what is bound to `bound` may go to `present`. Values that somebody else has set are agreed to one by one; an owner who has set
/// their own since needs no word from themself.
pub fn covers(bound: &str, present: &str) -> bool {
    if bound.is_empty() || bound == present {
        return !bound.is_empty();
    }
    let ((bound, bound_stored), (present, stored)) = (split(bound, STORED), split(present, STORED));
    let ((code, _), (present_code, foreign)) = (split(bound, VALUES), split(present, VALUES));
    bound_stored == stored && foreign.is_none() && code == present_code
}

/// The binding as workloads name it, which know nothing of secrets that are stored on an entry.
pub fn without_stored(binding: &str) -> &str {
    split(binding, STORED).0
}

fn split<'a>(binding: &'a str, mark: &str) -> (&'a str, Option<&'a str>) {
    match binding.split_once(mark) {
        Some((before, behind)) => (before, Some(behind)),
        None => (binding, None),
    }
}

/// In which of its parts a destination is another one than what was agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The origin, or what the entry runs.
    pub server: bool,
    /// Values of the installation, which somebody else than its owner has set since.
    pub values: bool,
    /// Secrets that are stored on the entry.
    pub stored: bool,
}

/// Compares what is bound with the present destination, part by part. Where `present` has no values of somebody else, those that `bound`
/// has make no difference: see [`covers`].
pub fn difference(bound: &str, present: &str) -> Difference {
    // A former binding may hold any text, and has no parts.
    if is_former(bound) {
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

/// What a binding says to people by itself: an origin, or the program of a former one; nothing of a digest.
pub fn readable(binding: &str) -> String {
    let shown = match binding.split('#').next() {
        _ if is_former(binding) => binding.trim_start_matches(FORMER),
        Some(origin) if !is_code(binding) => origin,
        _ => "",
    };
    show::bounded(shown)
}

/// Whether it is of a self-hosted server.
pub fn is_code(binding: &str) -> bool {
    binding.starts_with(digest::CODE)
}

/// Whether an earlier program has made this binding, which knew of a self-hosted server's program alone.
pub fn is_former(binding: &str) -> bool {
    binding.starts_with(FORMER)
}

const FORMER: &str = "command:";

/// Begin the parts of a binding that are of an installation, and of its entry's secrets, in this order. An origin cannot hold `#`, nor
/// can a digest.
const VALUES: &str = "#values=";
const STORED: &str = "#stored=";

fn of_url(url: &str) -> Option<String> {
    let origin = Url::parse(url).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}
