//! The audit log of the development issuer, in the data folder: a line of JSON for each token and sign-in, which tells
//! who was signed in as whom. It never contains a token, or anything that can be exchanged for one.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use super::Person;

const FILE: &str = "dev-issuer.log";
/// The previous file. Both together have at most twice [`MAX`] bytes.
const PREVIOUS: &str = "dev-issuer.log.1";
/// The size at which the file is rotated, in bytes.
const MAX: u64 = 4 << 20;

/// The audit log.
#[derive(Clone, Debug)]
pub(super) struct Record {
    folder: PathBuf,
}

/// An action of the issuer.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    /// A token was created on the command line, or for the first start.
    TokenMade {
        /// Who created it: a user of this machine, or the server.
        by: &'a str,
        /// `jti` of the token.
        token: &'a str,
        /// `exp` of the token, in seconds since 1970.
        until: u64,
    },
    /// A person signed in on the page, with the code that the server printed.
    SignedIn,
    /// The server exchanged a code for tokens.
    TokensGranted {
        /// `jti` of the access token.
        token: &'a str,
        /// `exp` of the tokens, in seconds since 1970.
        until: u64,
    },
}

impl Event<'_> {
    /// Writes the event to the server's log, too.
    pub(super) fn log(&self, person: &Person, now: SystemTime) {
        let (email, admin, groups) = (&person.email, person.admin, &person.groups);
        let valid = |until: u64| until.saturating_sub(seconds(now));
        match *self {
            Self::TokenMade { by, token, until } => tracing::info!(
                user.email = %email, user.admin = admin, user.groups = ?groups,
                token.id = token, token.valid_seconds = valid(until), made_by = by,
                "development issuer: a token was made"
            ),
            Self::SignedIn => tracing::info!(
                user.email = %email, user.admin = admin, user.groups = ?groups,
                "development issuer: somebody signed in"
            ),
            Self::TokensGranted { token, until } => tracing::info!(
                user.email = %email, user.admin = admin, user.groups = ?groups,
                token.id = token, token.valid_seconds = valid(until),
                "development issuer: a sign-in was exchanged for tokens"
            ),
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    /// Seconds since 1970.
    time: u64,
    #[serde(flatten)]
    event: Event<'a>,
    user: &'a str,
    groups: &'a [String],
    admin: bool,
}

impl Record {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Appends an event. This must happen before the action takes effect; if it fails, the action must not be done.
    pub(super) fn write(&self, event: Event<'_>, person: &Person, now: SystemTime) -> io::Result<()> {
        let line = Line {
            time: seconds(now),
            event,
            user: &person.email,
            groups: &person.groups,
            admin: person.admin,
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        let path = self.folder.join(FILE);
        if fs::metadata(&path).is_ok_and(|found| found.len() >= MAX) {
            self.rotate(&path)?;
        }
        // A single write, so that lines of two processes do not mix.
        open(&path)?.write_all(&text)
    }

    fn rotate(&self, path: &Path) -> io::Result<()> {
        let file = open(path)?;
        // If another process rotates the file at the same time, once is enough.
        match file.try_lock() {
            Ok(()) if file.metadata()?.len() >= MAX => fs::rename(path, self.folder.join(PREVIOUS)),
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The user of this machine who runs the program.
pub(crate) fn this_user() -> String {
    let uid = nix::unistd::getuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => format!("{} (uid {uid})", user.name),
        _ => format!("uid {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn appends_a_line_for_each_event_and_stays_small() {
        let folder = tempfile::tempdir().unwrap();
        let record = Record::new(folder.path());
        let person = Person {
            email: "alice@example.com".to_owned(),
            groups: vec!["g\n".repeat(1000)],
            admin: true,
        };
        let write = || record.write(Event::SignedIn, &person, UNIX_EPOCH).unwrap();
        write();
        let path = folder.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["event"], "signed_in");
        assert_eq!(line["user"], "alice@example.com");
        for _ in 0..3000 {
            write();
        }
        let size = |name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(size(FILE) < MAX + 10_000 && size(PREVIOUS) < MAX + 10_000);
    }
}
