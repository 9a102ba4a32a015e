//! `chandlery token`: prints a JWT of the development issuer.

use std::{fs, io::Write as _, os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use service_kit::Clock;

use crate::dev_issuer::{self, DevIssuer};

/// The longest validity of a token, in seconds. It is limited because a single token cannot be revoked.
const MAX_TTL: u64 = 24 * 3600;

/// The token to print.
#[derive(Debug)]
pub(crate) struct Request {
    /// The data folder of the server that is to accept the token.
    pub(crate) data_dir: PathBuf,
    /// The email address, which is also the subject.
    pub(crate) user: String,
    /// The groups of the user.
    pub(crate) groups: Vec<String>,
    /// Whether the user is an admin.
    pub(crate) admin: bool,
    /// How long the token is valid.
    pub(crate) ttl: Duration,
}

/// Prints the token, and nothing else, to standard output.
pub(crate) fn print(request: &Request) -> Result<(), Box<dyn std::error::Error>> {
    let folder = &request.data_dir;
    if let Ok(found) = fs::metadata(folder)
        && found.uid() != nix::unistd::geteuid().as_raw()
    {
        return Err(format!(
            "the data folder {} belongs to another user (uid {}): run this as that user, who runs the server",
            folder.display(),
            found.uid()
        )
        .into());
    }
    let issuer = DevIssuer::existing(folder)?.ok_or_else(|| {
        format!(
            "{} is not the data folder of a server with a development issuer: start the server once first, and name the same \
             folder with --data-dir",
            folder.display()
        )
    })?;
    let token = issuer.mint(
        &dev_issuer::this_user(),
        &request.user,
        &request.groups,
        request.admin,
        request.ttl,
        Clock::System.now(),
    )?;
    writeln!(std::io::stdout(), "{token}")?;
    Ok(())
}

/// Parses a lifetime in seconds of at most a day.
pub(crate) fn ttl(text: &str) -> Result<u64, String> {
    let ttl: u64 = text.parse().map_err(|_| "must be a number of seconds".to_owned())?;
    if (1..=MAX_TTL).contains(&ttl) {
        Ok(ttl)
    } else {
        Err(format!(
            "must be 1 to {MAX_TTL} seconds, a day: a single token cannot be revoked. A client that should stay signed in for \
             longer requires a gateway token, which can be revoked"
        ))
    }
}

/// Parses an email address.
pub(crate) fn email(text: &str) -> Result<String, String> {
    let valid = text.len() <= 254
        && text
            .split_once('@')
            .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'))
        && text.chars().all(|c| !c.is_whitespace() && !c.is_control());
    if valid {
        Ok(text.to_owned())
    } else {
        Err("must be an email address, such as alice@example.com".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The error for a folder from which no token can be created.
    fn refused(folder: &Path) -> String {
        let request = Request {
            data_dir: folder.to_owned(),
            user: "alice@example.com".to_owned(),
            groups: Vec::new(),
            admin: false,
            ttl: Duration::from_secs(60),
        };
        print(&request).unwrap_err().to_string()
    }

    #[test]
    fn reports_an_empty_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert!(refused(folder.path()).contains("start the server once first"));
    }

    #[test]
    fn reports_the_folder_of_another_user() {
        if !service_kit::not_run::root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(folder.path(), Some(65_534), None).unwrap();
        let refused = refused(folder.path());
        assert!(
            refused.contains("uid 65534") && refused.contains("run this as that user"),
            "{refused}"
        );
    }
}
